"""The study: which models score, which arms train on what, and what their difference says."""
