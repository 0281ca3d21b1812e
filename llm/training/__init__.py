"""The loop, its checkpoints, its files; python -m llm.train, python -m llm.pretrain."""
