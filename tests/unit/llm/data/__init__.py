"""Tests of llm/data/."""
