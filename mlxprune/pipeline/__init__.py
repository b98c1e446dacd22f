"""The method, stage by stage. ``runner`` is the file to read first."""
