"""avg@k and pass@k with intervals; python -m llm.evaluate."""
