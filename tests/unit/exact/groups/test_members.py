"""groups/members.py: groups of types by hand, and an order that is checked where nobody vouches for it."""

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.exact.groups.every_group import OrderMatters
from ticgrpo_theory.exact.groups.members import CheckedMembers, Members

REWARD, LENGTH = np.array([0.0, 1.0]), np.array([1.0, 3.0])
PROB = np.array([[0.25, 0.75], [0.5, 0.5]])


def gap(reward: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """r - mean of the group."""
    return reward - reward.mean(dim=-1, keepdim=True)


def first(reward: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """The reward of the first response for all."""
    return reward[:, :1].expand(reward.shape)


def test_pairs_by_hand():
    # r - mean is 0 in equal pairs and -1/2, 1/2 in others: times the probability of the other type.
    found = Members(gap, REWARD, LENGTH, 2)
    expected = [[[0.0, 1 / 8], [-3 / 8, 0.0]], [[0.0, 1 / 4], [-1 / 4, 0.0]]]
    np.testing.assert_allclose(found.given_one(PROB), expected, **EXACT)
    square, cross = found.given_two(PROB[:1])
    np.testing.assert_allclose(square[0], [[0.0, 1 / 16], [3 / 16, 0.0]], **EXACT)
    # The only pair with both signs: A_1 A_2 = -1/4 where the types differ.
    assert cross[0, 0, 1].tolist() == [[0.0, 0.0], [-1 / 4, 0.0]] and not cross[0, 0, 0].any()


def test_an_order_that_does_not_matter_passes_the_check():
    plain, checked = Members(gap, REWARD, LENGTH, 3), CheckedMembers(gap, REWARD, LENGTH, 3)
    assert checked.given_one(PROB).tolist() == plain.given_one(PROB).tolist()
    assert type(checked.known) is Members and plain.known is plain


def test_an_order_that_matters_is_found():
    with pytest.raises(OrderMatters):
        CheckedMembers(first, REWARD, LENGTH, 2).given_one(PROB)
    assert Members(first, REWARD, LENGTH, 2).given_one(PROB).any()
