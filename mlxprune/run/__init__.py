"""The run folder: what is finished, who works on it, its events, and what follows from them."""
