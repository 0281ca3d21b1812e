"""Figures: style.py, and one file for each theme. They draw rows of a result and claim nothing."""
