"""Held-out accuracy: python -m llm.evaluate; see llm/evaluation/evaluate.py."""

from llm.evaluation.evaluate import main

if __name__ == "__main__":
    main()
