"""Tests of llm/training/."""
