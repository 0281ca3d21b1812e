"""Tests of ticgrpo_theory/simulate/."""
