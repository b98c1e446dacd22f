"""What is around the screens: keys, bars, dialogs, palette, settings."""
