"""Tests of ticgrpo_theory/estimators/."""
