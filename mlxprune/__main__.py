"""``python -m mlxprune``."""

from mlxprune.cli import main

if __name__ == "__main__":
    main()
