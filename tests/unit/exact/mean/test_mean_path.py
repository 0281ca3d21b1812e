"""exact/mean/mean_path.py: steps along the mean, by hand and against the loop, and the distances there."""

import math
from itertools import islice

import pytest
import torch

from tests.instances.reference_instance import BINARY, OLD, THETA
from tests.instances.worlds_by_hand import coin
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import trajectory
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import Problem, expected_gradient, policy_gradient
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.mean.mean_path import MAX_STEPS, after_steps, distances, mean_path

UNBIASED = Estimator(trajectory, raw(), unclipped(), sequence_sum)


def test_two_steps_on_a_coin_by_hand():
    # J = p, grad J = p (1 - p) (1, -1): from p = 1/2 a step of 4 leads to (1, -1), where p = s(2).
    start = Problem(coin(), [[0.0, 0.0]], [[0.0, 0.0]], UNBIASED, 2)
    p = 1 / (1 + math.exp(-2))
    slope = p * (1 - p)
    thetas = [point.theta for point in islice(mean_path(start, 4.0), 3)]
    expected = [[[0.0, 0.0]], [[1.0, -1.0]], [[1 + 4 * slope, -1 - 4 * slope]]]
    torch.testing.assert_close(torch.stack(thetas), torch.tensor(expected, dtype=torch.float64), **EXACT)
    found = distances(after_steps(start, 4.0, 1))
    assert found["bias_current"] == pytest.approx(0.0, abs=EXACT["atol"])
    assert found["bias_old"] == pytest.approx(math.sqrt(2) * (0.25 - slope), abs=EXACT["atol"])


def test_the_path_is_the_loop_over_expected_gradients():
    theta, estimator, c = (
        torch.tensor(OLD, dtype=torch.float64),
        "grpo",
        known_scale(BINARY, OLD, "grpo", 3)[0],
    )
    start = Problem(BINARY, OLD, OLD, estimator, 3)
    for point in islice(mean_path(start, 0.7), 4):
        torch.testing.assert_close(point.theta, theta, **SAME_BITS)
        mean = expected_gradient(BINARY, theta, OLD, estimator, 3)
        now, old = policy_gradient(BINARY, theta), policy_gradient(BINARY, OLD)
        assert distances(point) == {
            "bias_current": float((mean - now).norm()),
            "bias_old": float((mean - old).norm()),
            "bias_current_scaled": float((mean - c * now).norm()),
            "bias_old_scaled": float((mean - c * old).norm()),
        }
        theta = theta + 0.7 * mean
    assert start.drift == 0 and point.drift > VISIBLE


def test_after_steps_is_where_the_path_is_and_no_step_leads_nowhere():
    start = Problem(BINARY, THETA, OLD, "tic_grpo", 3)
    *_, third = islice(mean_path(start, 0.5), 4)
    torch.testing.assert_close(after_steps(start, 0.5, 3).theta, third.theta, **SAME_BITS)
    assert after_steps(start, 0.5, 0) is start
    assert float((third.theta - start.theta).norm()) > VISIBLE


def test_the_groups_of_a_path_stay_those_of_theta_old():
    start = Problem(BINARY, OLD, OLD, "grpo", 3)
    second = after_steps(start, 2.0, 2)
    torch.testing.assert_close(second.theta_old, start.theta_old, **SAME_BITS)
    refreshed = expected_gradient(BINARY, second.theta, second.theta, "grpo", 3)
    assert float((second.mean - refreshed).norm()) > VISIBLE


def test_a_path_of_too_many_steps_is_refused_before_the_first():
    start = Problem(coin(), [[0.0, 0.0]], [[0.0, 0.0]], UNBIASED, 2)
    with pytest.raises(
        ValueError, match=rf"inner_steps = 16,385: .* more than MAX_STEPS = {MAX_STEPS:,} of them"
    ):
        after_steps(start, 0.1, MAX_STEPS + 1)
