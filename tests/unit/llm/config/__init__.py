"""Tests of llm/config/."""
