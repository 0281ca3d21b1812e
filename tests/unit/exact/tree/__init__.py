"""Tests of ticgrpo_theory/exact/tree/."""
