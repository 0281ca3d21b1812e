"""Tests of ticgrpo_theory/plots/."""
