"""Tests of ticgrpo_theory/training_logs/."""
