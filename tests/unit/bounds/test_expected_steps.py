"""expected_steps.py: second moments of averaged first steps, and the drift within K steps, by hand."""

import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.bounds import instance_constants
from ticgrpo_theory.bounds.expected_steps import (
    DRIFT,
    Sampled,
    averaged,
    drift_of_any_groups,
    drift_of_one_group,
)
from ticgrpo_theory.bounds.first_steps import FirstStep
from ticgrpo_theory.bounds.hypotheses import Hypothesis
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.catalogue import no_is, stale
from ticgrpo_theory.worlds import WORLDS

XOR = WORLDS["xor"].build()


def tensor(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_averaging_independent_groups_divides_the_variance_and_not_the_mean():
    # ||m||^2 = 3^2 + 4^2 = 25 and q = 31: variance 6.
    mean = tensor([[3.0, 4.0]])
    step = FirstStep(tensor(0.5), torch.zeros_like(mean), mean, tensor(31.0))
    assert [float(averaged(step, n)) for n in (1, 2, 3)] == [31.0, 28.0, 27.0]


def test_the_drift_is_the_smaller_of_its_two_bounds():
    c = instance_constants(XOR, no_is(0.0), 4, 0.1, 3)
    q = tensor([0.0, 1e-6], [1e-4, 1e6])
    always = c.Lambda * 0.1 * 2 * c.D / 2
    torch.testing.assert_close(drift_of_any_groups(c, q), torch.full_like(q, always), **EXACT)
    expected = (c.tau * q.sqrt()).clamp(max=always)
    torch.testing.assert_close(drift_of_one_group(c, q), expected, **EXACT)
    assert expected[1, 0] < always == expected[1, 1]
    # Each inner step on a group of its own: nothing scales with the first step of one group.
    assert (DRIFT[Batches.DISJOINT], DRIFT[Batches.REUSED]) == (drift_of_any_groups, drift_of_one_group)


def test_a_held_field_and_a_single_step_drift_by_nothing():
    q = tensor([1.0])
    for estimator, K in ((stale(0.0), 4), (no_is(0.0), 1)):
        c = instance_constants(XOR, estimator, 4, 0.1, K)
        assert float(drift_of_any_groups(c, q)) == float(drift_of_one_group(c, q)) == 0.0


def sampled(*margins: float, holds: bool = True) -> Sampled:
    lhs = torch.zeros(len(margins), dtype=torch.float64)
    rhs = tensor(*margins)
    return Sampled(lhs, rhs, rhs, lhs[:, None], (Hypothesis("plain ascent", holds, "optimizer = Adam"),))


def test_a_mean_margin_more_than_three_standard_errors_below_zero_fails():
    # Mean -2, standard deviation 1 of three: standard error 1 / sqrt 3, -3.46 of them.
    low = sampled(-1.0, -2.0, -3.0)
    assert low.standard_errors == pytest.approx(-2 * math.sqrt(3)) and not low.holds
    assert sampled(0.0, -1.0, -2.0).holds  # -1.73 of them
    assert sampled(1.0, 1.0).standard_errors == math.inf
    failed = sampled(1.0, 1.0, holds=False)
    assert not failed.applies and failed.failed == "plain ascent: optimizer = Adam"
