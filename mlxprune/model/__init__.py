"""Presets, sizes and weights of models in the layout of Hugging Face."""
