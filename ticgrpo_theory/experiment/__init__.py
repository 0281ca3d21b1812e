"""An experiment over a grid of configurations: run.py; every other file serves it."""
