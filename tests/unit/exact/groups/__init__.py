"""Tests of ticgrpo_theory/exact/groups/."""
