"""Worlds, groups and policies that are worked by hand or printed."""
