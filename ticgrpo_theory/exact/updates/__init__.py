"""Whole updates: P groups of G responses whose normalisers, statistics and filters reach across groups."""
