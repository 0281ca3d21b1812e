"""Tests of llm/exact_model/."""
