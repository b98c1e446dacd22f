"""What a study will do and take, and a configuration to start from."""
