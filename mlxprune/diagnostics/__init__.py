"""What this machine and installation are, can do, and whether their numbers are right."""
