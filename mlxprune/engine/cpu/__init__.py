"""A Llama in NumPy, for Linux CPUs."""
