"""Tests of ticgrpo_theory/inputs/."""
