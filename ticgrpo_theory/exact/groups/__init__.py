"""Expectations over the other members of a group, and lists of all groups."""
