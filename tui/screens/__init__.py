"""The screens, one a file: from a run and a size to lines of text."""
