"""Bounds on rounding: above every error that is there, and not far above."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT
from tests.thinned import only
from ticgrpo_theory import worlds
from ticgrpo_theory.cli.answers.directions import cosine
from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.answers import Problem
from ticgrpo_theory.exact.mean.rounding import gradient_rounding, operations, pulled_back
from ticgrpo_theory.mdp import TokenMDP

METHODS = ("dynamic_programming", "enumeration", "groups")


def bandit(reward: list[float]) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=reward)


def test_the_operations_of_one_token_are_counted_by_hand():
    """T (V + 8) + 32 and one node of the only row."""
    graph, far = bandit([0.0, 1.0, 2.0]).graph, torch.tensor([[200.0, -math.inf, -50.0]], dtype=torch.float64)
    assert operations(graph) == 1 * (3 + 8) + 32 + 1
    assert operations(graph, far, far / 2) == 1 * (3 + 8 + 250 + 125) + 32 + 1


def test_the_absolute_values_of_a_pull_back_are_those_by_hand():
    """M + pi sum M = (2, 1, 0) + 3 (1/2, 1/4, 1/4) off the top, which gets what the others add up to."""
    logits = torch.tensor([[math.log(2), 0.0, 0.0]], dtype=torch.float64)
    found = pulled_back(torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), logits)
    torch.testing.assert_close(found, torch.tensor([[2.5, 1.75, 0.75]], dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("size", [1.0, 17.0, 190.7, 283.3])
def test_the_gradient_of_the_return_errs_by_less(size):
    reward, theta = [0.1, 0.7, 1.3], [size, -size, 0.3]
    with localcontext(prec=700):
        exponentials = [Decimal(x).exp() for x in theta]
        pi = [x / sum(exponentials) for x in exponentials]
        mean = sum(p * Decimal(r) for p, r in zip(pi, reward, strict=True))
        exact = [p * (Decimal(r) - mean) for p, r in zip(pi, reward, strict=True)]
        found = policy_gradient(bandit(reward), [theta])[0].tolist()
        error = float(sum((Decimal(x) - y) ** 2 for x, y in zip(found, exact, strict=True)).sqrt())
        norm = float(sum(y**2 for y in exact).sqrt())
    bound = gradient_rounding(bandit(reward), torch.tensor([theta], dtype=torch.float64))
    assert error <= bound <= 3e-13 * norm


@pytest.mark.parametrize("method", only([m for m in METHODS if m != "groups"], METHODS))
def test_a_mean_that_is_zero_is_below_its_rounding_and_others_are_not(method):
    """E[g_hat] = grad J for trajectory_is: float64 leaves of the difference what the bounds say."""
    mdp = worlds.bigram()
    theta = np.linspace(-1, 1, mdp.num_rows * mdp.vocab_size).reshape(mdp.num_rows, mdp.vocab_size)
    at = Problem(mdp, theta, theta, ESTIMATORS["trajectory_is"], 3, method)
    bias = float((at.mean - at.gradient).norm())
    assert bias <= at.expectation.rounding + at.gradient_rounding
    assert at.expectation.rounding <= 1e-11 * float(at.mean.norm())
    grpo = Problem(mdp, theta, theta, ESTIMATORS["grpo"], 3, method)
    assert float((grpo.mean - grpo.gradient).norm()) > 1e3 * grpo.expectation.rounding


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_a_bound_has_the_unit_of_what_it_bounds(unit):
    theta = torch.tensor([[0.5, 0.0, -0.5]], dtype=torch.float64)
    plain, scaled = (gradient_rounding(bandit([0.0, a, 3 * a]), theta) for a in (1.0, unit))
    assert scaled == pytest.approx(unit * plain)


def test_small_rewards_have_a_direction():
    """A fixed threshold of 1e-12 would call this gradient zero, and its multiple unknown."""
    theta = [[0.5, 0.0, -0.5]]
    of = {
        a: Problem(bandit([0.0, a, 3 * a]), theta, theta, ESTIMATORS["gspo"], 3).scale for a in (1.0, 1e-20)
    }
    assert of[1e-20][1] == of[1.0][1] != "none"


@pytest.mark.parametrize("unit", [2.0**-600, 2.0**600])
def test_a_multiple_of_the_gradient_has_no_unit(unit):
    """Squares of a gradient of 1e-180 are 0 in float64, those of 1e180 inf; the multiple is the same."""
    theta, old = [[0.5, 0.0, -0.5]] * 4, [[0.1, 0.2, 0.3]] * 4

    def of(a: float) -> Problem:
        reward = [0.0, a, 3 * a, a, 2 * a, 0.0, a]
        mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=2, eos=0, reward=reward[:7])
        return Problem(mdp, theta[: mdp.num_rows], old[: mdp.num_rows], ESTIMATORS["dr_grpo"], 3)

    plain, scaled = of(1.0), of(unit)
    assert plain.scale[1] == scaled.scale[1] == "least_squares"
    assert scaled.scale[0] == pytest.approx(plain.scale[0], rel=1e-12)
    assert cosine(scaled, scaled) == pytest.approx(cosine(plain, plain), rel=1e-12)
    with pytest.raises(
        ValueError, match=r"multiply the rewards by a constant|divide the rewards by a constant"
    ):
        _ = scaled.moments


def test_digits_below_the_range_of_float64_are_refused():
    with pytest.raises(ValueError, match=r"comes out as .*e-3\d\d.*multiply the rewards by a constant"):
        expected_gradient(bandit([0.0, 1e-305, 2e-305]), [[0.0] * 3], [[0.0] * 3], ESTIMATORS["rloo"], 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["grpo", "trajectory_is", "gspo", "reinforce"])
def test_no_bound_is_zero_and_none_is_below_what_float64_leaves_of_the_sum(name, method):
    """The weights of either sign add up in a bound: where they took each other away it would be 0."""
    theta = [[0.3, -0.2, 0.1]]
    try:
        at = Problem(
            bandit([0.1, 0.7, 1.3]), theta, [[0.0, 0.1, 0.2]], ESTIMATORS[name], 3, method
        ).expectation
    except ValueError as refused:
        assert "not exact" in str(refused)
        return
    assert at.rounding >= 2.0**-53 * float(at.value.norm())
    assert at.rounding <= 1e-12 * float(at.value.norm())


def test_a_reward_that_cannot_occur_moves_no_bound():
    theta = torch.tensor([[0.5, 0.0, -math.inf]], dtype=torch.float64)
    plain, far = (gradient_rounding(bandit([0.0, 1.0, x]), theta) for x in (0.5, -1e200))
    assert plain == far
