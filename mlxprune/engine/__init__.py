"""Arrays only: losses, gradients and updates on a CPU or a GPU, chosen in ``backend``."""
