"""Tests of ticgrpo_theory/exact/group_sums/."""
