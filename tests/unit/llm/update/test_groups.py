"""groups.py: which rows belong to which prompt, and which groups to which update."""

from dataclasses import replace

import pytest
import torch

from llm.update.groups import minibatches, rows_of
from tests.unit.llm.llm_cases import groups


def test_rows_of_groups_by_hand():
    assert rows_of(torch.tensor([2, 0]), 3).tolist() == [6, 7, 8, 0, 1, 2]


def test_tokens_and_batch_of_three_groups_by_hand():
    """Lengths of responses: 2 6 1 3, 3 2 4 6, 2 1 6 3."""
    given = groups()
    assert given.shape == (3, 4, 6) and given.tokens.tolist() == [12, 15, 12]
    batch = given.batch(given.logp_old)
    assert batch.mask.sum(dim=-1).tolist() == [[2, 6, 1, 3], [3, 2, 4, 6], [2, 1, 6, 3]]
    assert not batch.log_ratio[batch.mask].any() and batch.horizon == 6


def test_groups_are_chosen_with_their_tables_and_cut_to_their_longest():
    given = replace(groups(), weight=torch.tensor([0.5, 0.125, 0.375], dtype=torch.float64))
    short = replace(given, sequences=given.sequences, logp_sampler=given.logp_old + 1)
    found = short.select(torch.tensor([2, 0]))
    assert found.shape == (2, 4, 6) and found.weight.tolist() == [0.375, 0.5]
    assert found.reward.tolist() == given.reward[[2, 0]].tolist()
    assert found.sequences.prompt_lengths.tolist() == [5] * 4 + [1] * 4
    torch.testing.assert_close(found.logp_sampler, found.logp_old + 1, equal_nan=True)
    torch.testing.assert_close(found.logp_ref, given.logp_ref[[2, 0]], equal_nan=True)


@pytest.mark.parametrize(
    ("batches", "expected"), [("disjoint", [[0, 1], [2, 3], [4, 5]]), ("reused", [[0, 1, 2, 3, 4, 5]] * 3)]
)
def test_mini_batches_by_hand(batches, expected):
    assert [part.tolist() for part in minibatches(6, 3, batches)] == expected


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((8, 0, "reused"), r"updates = 0"),
        ((8, 3, "disjoint"), r"8 groups do not divide into 3 disjoint .* multiple of 3 prompts"),
        ((8, 2, "reuse"), r"batches = 'reuse': choose 'reused' .* or 'disjoint'"),
    ],
)
def test_mini_batches_that_do_not_exist_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        minibatches(*arguments)


def test_groups_whose_tables_disagree_are_refused(unchecked_signatures):
    given = groups()
    with pytest.raises(ValueError, match=r"12 rows where reward of shape \(3, 3\) .* requires 9"):
        replace(given, reward=given.reward[:, :3])
    with pytest.raises(ValueError, match=r"logp_old has shape \(3, 4, 5\); .* = \(3, 4, 6\)"):
        replace(given, logp_old=given.logp_old[..., :5])
    with pytest.raises(ValueError, match=r"weight has shape \(4,\), one number for each of 3"):
        replace(given, weight=torch.ones(4))
