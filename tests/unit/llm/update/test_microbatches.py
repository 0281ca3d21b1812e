"""microbatches.py: rows are cut for memory, each once, and no piece is too large."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.update.microbatches import consecutive_rows, padded_tokens
from tests.unit.llm.llm_cases import sequences

partitions = st.one_of(st.integers(1, 20).map(consecutive_rows), st.integers(11, 60).map(padded_tokens))


@given(partitions)
def test_every_row_is_in_one_micro_batch_and_none_is_too_large(partition):
    given = sequences()
    parts = partition(given)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(given)))
    for rows in parts:
        if isinstance(partition, padded_tokens):
            assert len(rows) * given.total_lengths[rows].max() <= partition.limit
        else:
            assert len(rows) <= partition.rows


def test_micro_batches_by_length_start_with_the_longest_and_are_filled():
    parts = padded_tokens(22)(sequences())
    assert [sequences().total_lengths[rows].tolist() for rows in parts[:3]] == [[11, 9], [8, 7], [7, 7, 6]]


def test_a_row_longer_than_a_micro_batch_is_refused():
    with pytest.raises(ValueError, match=r"a row has 11 tokens, more than limit = 10 .*raise the limit"):
        padded_tokens(10)(sequences())
    with pytest.raises(ValueError, match=r"rows = 0: a micro-batch has at least 1 row"):
        consecutive_rows(0)
