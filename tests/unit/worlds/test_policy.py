"""policy.py: logits are read in double precision, checked, and differentiated as softmax policies are."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.definitions import log_policy
from tests.properties.strategies import tables
from tests.properties.tolerances import EXACT, SAME_BITS
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import check_support, log_probabilities, logits, pull_back

INF = math.inf
TREE = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 1.0, 0.0])  # 3 rows
GOOD = [[0.1, 0.7], [-0.3, 0.0], [0.0, 0.2]]


def double(numbers: list) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def check_precision() -> None:
    """0.1 as a Python float, in a list or an array, is the double 0.1 and not the float32 nearest to it."""
    for given_as in (GOOD, np.array(GOOD), double(GOOD), double(GOOD).requires_grad_()):
        table = logits(TREE, given_as)
        assert table.dtype == torch.float64 and not table.requires_grad
        assert table.tolist() == GOOD


def test_logits_keep_double_precision_however_they_are_given():
    check_precision()


def test_integers_and_float32_are_read_as_they_are():
    assert logits(TREE, [[1, 0], [0, 2], [0, 0]]).tolist() == [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
    single = double(GOOD).float()
    torch.testing.assert_close(logits(TREE, single), single.double(), **SAME_BITS)


@given(tables(2, 3))
def test_log_probabilities_are_logits_minus_their_logsumexp(table):
    torch.testing.assert_close(log_probabilities(double(table)), double(log_policy(table)), **EXACT)


def check_pull_back() -> None:
    """pi = (1/4, 3/4): M = (1, 2) pulls back to (1 - 3/4, 2 - 9/4)."""
    theta = double([[0.0, math.log(3.0)]])
    found = pull_back(double([[1.0, 2.0]]), theta)
    torch.testing.assert_close(found, double([[0.25, -0.25]]), **EXACT)


def test_a_pull_back_by_hand():
    check_pull_back()


@given(tables(2, 3), tables(2, 3))
def test_pull_back_is_the_gradient_of_the_weighted_log_probabilities(weights, table):
    theta = double(table).requires_grad_()
    (double(weights) * torch.log_softmax(theta, dim=-1)).sum().backward()
    torch.testing.assert_close(pull_back(double(weights), theta.detach()), theta.grad, **EXACT)


@given(st.sampled_from([(0, 0), (1, 1), (2, 0)]))
def test_a_masked_token_is_accepted_and_has_no_gradient_of_its_own(place):
    table = double(GOOD)
    table[place] = -INF
    assert logits(TREE, table)[place] == -INF
    assert float(torch.softmax(logits(TREE, table), dim=-1)[place]) == 0


BAD = [
    ([[0.0, 0.0]], r"theta has shape \(1, 2\); this world needs \(S, V\) = \(3, 2\), one row .* its 3 rows"),
    ([[0.0, math.nan], [0.0, 0.0], [0.0, 0.0]], r"theta\[0, 1\] = nan: logits must be finite, or -inf"),
    ([[0.0, 0.0], [INF, 0.0], [0.0, 0.0]], r"theta\[1, 0\] = inf: logits must be finite"),
    ([[0.0, 0.0], [0.0, 0.0], [-INF, -INF]], r"theta\[2\] is -inf for every token: leave at least one"),
]


@pytest.mark.parametrize("table, message", BAD)
def test_bad_logits_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        logits(TREE, table)
    with pytest.raises(ValueError, match=message.replace("theta", "theta_old")):
        logits(TREE, table, "theta_old")


def check_never_drawn() -> None:
    theta, theta_old = double(GOOD), double(GOOD)
    # Never drawn, and said so where it matters.
    theta_old[1, 0] = -INF
    check_support(theta, theta_old)
    # exp(-746) is 0 in float64: the logit is finite, the probability is not there.
    with pytest.raises(
        ValueError, match=r"row 1, token 0 has the logit -746 .* and -0\.3 under theta: .* -inf"
    ):
        check_support(theta, double([[0.1, 0.7], [-746.0, 0.0], [0.0, 0.2]]))
    check_support(theta, double([[0.1, 0.7], [-740.0, 0.0], [0.0, 0.2]]))
    check_support(
        double([[0.1, 0.7], [-800.0, 0.0], [0.0, 0.2]]), double([[0.1, 0.7], [-746.0, 0.0], [0.0, 0.2]])
    )
    theta[1, 0] = -INF
    check_support(theta, double(GOOD))


def test_a_token_that_theta_allows_and_theta_old_never_draws_is_refused():
    check_never_drawn()


def test_finite_logits_whose_sum_overflows_are_still_logits():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 1.0])
    assert logits(mdp, [[1e308, 1e308]]).tolist() == [[1e308, 1e308]]
