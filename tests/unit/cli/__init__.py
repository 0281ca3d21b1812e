"""Tests of ticgrpo_theory/cli/ without its command line."""
