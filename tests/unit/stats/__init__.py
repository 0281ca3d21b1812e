"""Tests of ticgrpo_theory/stats/."""
