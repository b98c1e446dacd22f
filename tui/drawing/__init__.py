"""Numbers into cells of a terminal: nothing here knows an app or a run."""
