"""Tests of llm/."""
