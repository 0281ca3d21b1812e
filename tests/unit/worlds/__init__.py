"""Tests of ticgrpo_theory/worlds/."""
