"""Deliberate mistakes, each caught by the check that it names."""
