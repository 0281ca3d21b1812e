"""Tests of ticgrpo_theory/experiment/."""
