"""Tests of ticgrpo_theory/exact/mean/."""
