"""What a user may write: every key, its default, its meaning, and how it is read."""
