"""One process at work on a run: what it may be asked, what it reports, how a stage is built."""
