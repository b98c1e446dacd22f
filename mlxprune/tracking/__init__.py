"""Tracking: the log of a run in TensorBoard, Weights & Biases or Trackio."""
