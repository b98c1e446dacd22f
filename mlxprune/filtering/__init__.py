"""Filtering: the scores and cuts of a study applied to text that it never saw."""
