"""Clipped ratios of whole responses at any horizon: exact counts, exact lattices and enclosures."""
