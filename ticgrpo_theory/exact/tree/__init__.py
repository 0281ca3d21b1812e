"""Sums over a prefix tree, for weights that read a whole response or a whole prefix."""
