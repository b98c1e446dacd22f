"""The widgets that Textual does not have, and its own as the screens need them."""
