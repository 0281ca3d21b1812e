"""Training: python -m llm.train; see llm/training/train.py."""

from llm.training.train import main

if __name__ == "__main__":
    main()
