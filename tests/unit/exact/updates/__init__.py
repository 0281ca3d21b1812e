"""Tests of ticgrpo_theory/exact/updates/."""
