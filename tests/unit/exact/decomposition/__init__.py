"""Tests of ticgrpo_theory/exact/decomposition/."""
