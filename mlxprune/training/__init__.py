"""One loop for the reference and for every final model."""
