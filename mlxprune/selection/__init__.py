"""Which documents a slice keeps, from scores alone, exactly."""
