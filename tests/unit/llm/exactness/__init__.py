"""Tests of llm/exactness/."""
