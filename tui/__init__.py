"""The terminal app: see a run, steer it, understand it. It reads files and imports no MLX."""
