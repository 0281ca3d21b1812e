"""inner_step.py: g_hat from token weights, and the steps along it, worked by hand."""

import math

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import Adam, simulate
from ticgrpo_theory.simulate.passes.inner_step import LARGEST, ascend, ascend_adam, scatter


def test_the_gradient_is_what_was_drawn_minus_the_policy_times_the_whole_weight():
    # Two responses of two tokens; the second ends after one. Rows: slot 0 first, then slot 1.
    slot, token = np.array([[[0, 0], [1, -1]]]), np.array([[[0, 1], [1, 0]]])
    weights = np.array([[[0.5, -0.25], [2.0, 100.0]]])
    score = np.array([[0.25, 0.5], [0.75, 0.5]])
    gradient = np.full((2, 2), 7.0)
    scatter(weights, slot, token, score, gradient, np.zeros(2), 2)
    # Row 0: drawn (0.5, -0.25), whole weight 0.25. Row 1: drawn (0, 2), whole weight 2.
    expected = [[0.5 - 0.25 * 0.25, -0.5 * 2], [-0.25 - 0.75 * 0.25, 2 - 0.5 * 2]]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-16)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-16)


def test_a_step_counts_logits_that_became_non_finite_and_leaves_masked_ones():
    theta = np.array([[0.0, -np.inf], [1.0, 0.0]])
    gradient = np.array([[2.0, 0.0], [-4.0, 1.0]])
    assert ascend(theta, gradient, 0.5, 2) == 0
    assert theta.tolist() == [[1.0, -math.inf], [-1.0, 0.5]]
    gradient[1, 0], gradient[0, 0] = math.nan, 4 * LARGEST
    assert ascend(theta, gradient, 0.5, 2) == 2
    # Only the columns that are in use move.
    theta = np.zeros((1, 2))
    ascend(theta, np.ones((1, 2)), 1.0, 1)
    assert theta.tolist() == [[1.0, 0.0]]


def test_the_first_two_steps_of_adam():
    theta, row = np.zeros((1, 1)), np.array([0])
    first, second = np.zeros((1, 1)), np.zeros((1, 1))
    adam = (0.5, 0.75, 0.0)
    assert ascend_adam(theta, np.array([[3.0]]), row, 0.1, adam, first, second, 1) == 0
    # m_hat = 3, v_hat = 9: a first step has length eta whatever the gradient.
    assert theta[0, 0] == pytest.approx(0.1, rel=1e-15)
    ascend_adam(theta, np.array([[-1.0]]), row, 0.1, adam, first, second, 2)
    m, v = (0.5 * 1.5 - 0.5) / (1 - 0.25), (0.75 * 2.25 + 0.25) / (1 - 0.75**2)
    assert theta[0, 0] == pytest.approx(0.1 + 0.1 * m / math.sqrt(v), rel=1e-14)
    assert theta[0, 0] != pytest.approx(0.1 + 0.1 * (0.5 * 1.5 - 0.5) / math.sqrt(v), rel=1e-3)


@pytest.mark.parametrize("engine", ["compiled", "hybrid"])
def test_rows_that_no_response_reads_leave_the_averages_of_adam_alone(engine):
    """A table with a row for each time and state, of which one state is ever visited."""
    mdp = TokenMDP.automaton(
        [[0, 0]] * 3, 2, 3, lambda state, length: 0.125 * length, rows="time_state", eos=0
    )
    start = torch.zeros(mdp.num_rows, 2, dtype=torch.float64)
    run = dict(group_size=3, learning_rate=0.25, inner_steps=2, outer_steps=3, replicates=3)
    found, expected = (
        simulate(mdp, start, "cispo", engine=kind, optimizer=Adam(0.5, 0.75, 1e-3), **run).theta
        for kind in (engine, "tensors")
    )
    torch.testing.assert_close(found, expected, **EXACT)
    assert (found[:, 0] != 0).all() and (found[:, 1] == 0).all()
