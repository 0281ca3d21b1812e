"""Tests of llm/evaluation/."""
