"""Tests of ticgrpo_theory/exact/responses/."""
