"""Tests of llm/sampling/."""
