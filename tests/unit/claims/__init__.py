"""Tests of ticgrpo_theory/claims/."""
