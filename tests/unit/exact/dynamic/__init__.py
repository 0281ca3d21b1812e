"""Tests of ticgrpo_theory/exact/dynamic/."""
