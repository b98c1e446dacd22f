"""MLX's lazy graph, for Metal and CUDA, and for models that the CPU engine does not know."""
