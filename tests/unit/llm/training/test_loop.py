"""loop.py: the sizes of a run's passes and the learning rate of each update."""

import pytest
import torch

from llm.config.sections import OptimizerConfig
from llm.sequences import Sequences
from llm.training.loop import learning_rate, tokens_and_rows


@pytest.mark.parametrize(
    ("warmup", "expected"), [(0, [8.0, 8.0, 8.0]), (1, [8.0, 8.0, 8.0]), (4, [2.0, 4.0, 6.0])]
)
def test_the_learning_rate_by_hand(warmup, expected):
    config = OptimizerConfig(lr=8.0, warmup_steps=warmup)
    assert [learning_rate(config, n) for n in range(3)] == expected


def test_micro_batches_respect_both_limits():
    rows = [[1] * n for n in (3, 9, 4, 8, 2, 7, 3)]
    sequences = Sequences.of_lists(rows, [[1]] * 7, pad=0)
    parts = tokens_and_rows(tokens=20, rows=2)(sequences)
    assert sorted(torch.cat(parts).tolist()) == list(range(7))
    for part in parts:
        longest = int(sequences.total_lengths[part].max())
        assert len(part) <= 2 and len(part) * longest <= 20
