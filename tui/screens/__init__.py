"""The screens: each answers one question about a run."""
