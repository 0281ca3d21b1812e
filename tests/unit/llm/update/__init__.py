"""Tests of llm/update/."""
