"""Tests of ticgrpo_theory/exact/reuse/."""
