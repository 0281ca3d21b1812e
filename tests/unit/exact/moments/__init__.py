"""Tests of ticgrpo_theory/exact/moments/."""
