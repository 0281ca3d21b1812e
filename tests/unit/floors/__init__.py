"""Tests of ticgrpo_theory/floors/."""
