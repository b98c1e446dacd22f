"""Exporting: the documents of a run, or of any slice, as files that other tools read."""
