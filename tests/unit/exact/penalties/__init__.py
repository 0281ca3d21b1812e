"""Tests of ticgrpo_theory/exact/penalties/."""
