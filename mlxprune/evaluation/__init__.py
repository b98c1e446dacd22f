"""What a trained model is worth: bits per byte of text, and tasks of question and answer."""
