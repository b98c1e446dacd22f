# Check and test: what a change needs before it is offered.
default: check test

# Build a corpus out of this Python and run the whole loop on it, in minutes.
demo:
    mlxprune demo

# Format, lint, types, and which package may import which.
check:
    ruff format --check .
    ruff check .
    mypy
    lint-imports
    pytest tests/test_walls.py

# The quick tests; `just test -m slow` runs the others.
test *args:
    pytest {{args}}

# Programs that run us and an alternative in turns and print ratios.
bench:
    mlxprune bench
    python bench/startup.py
    python bench/tokenizing.py
    python bench/exporting.py
    python bench/filtering.py
    python bench/growth.py
    python bench/watching.py
    python bench/fair_sample.py
    python bench/selection.py --millions 1 10
    python bench/scoring.py --shape 1M --documents 500    # these two need torch
    python bench/training.py --shape 1M

# Kill a run again and again; what it leaves must be the same bytes.
torture *args:
    python bench/torture.py {{args}}

# Throw random bytes at the readers.
fuzz *args:
    python bench/fuzz.py {{args}}

# Draw the pictures of the README, from the run of the demo.
pictures:
    mlxprune demo
    python docs/pictures.py mlxprune-demo/run

# Write docs/config.md, events.md and keys.md anew from the code.
docs:
    python docs/generate.py

# Take every check out of a copy: its tests must fail.
mutants *args:
    python bench/mutants.py {{args}}

# Licences of what is installed, and vulnerabilities that are known.
audit *args:
    python bench/audit.py {{args}}
