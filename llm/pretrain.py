"""A small start: python -m llm.pretrain; see llm/training/pretrain.py."""

from llm.training.pretrain import main

if __name__ == "__main__":
    main()
