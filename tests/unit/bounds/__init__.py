"""Tests of ticgrpo_theory/bounds/."""
