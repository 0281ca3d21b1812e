"""The code of training against a world that is listed whole; python -m llm.exactness."""
