"""For tests, ours and yours: a tiny corpus and run, and a Llama in float64."""
