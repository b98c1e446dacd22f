"""What the screens show, as numbers: no Textual, no drawing."""
