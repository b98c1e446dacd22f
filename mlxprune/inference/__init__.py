"""Inference: what the difference of two arms is worth, given the noise of seeds and documents."""
