"""Ball arithmetic against the float64 engine, against fractions worked by hand, and against a false claim."""

import dataclasses
import math

import pytest
import torch
from flint import arb, fmpq

from tests.properties.tolerances import EXACT
from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.enclosures import certify, difference, precision, squared_norm
from ticgrpo_theory.claims.certified.rational import IntegerPolicy, fraction, responses
from ticgrpo_theory.claims.witnesses import infinite
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import dapo, grpo, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.estimators.ratios import geometric_mean
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.mdp import TokenMDP

BEHAVIOUR = IntegerPolicy(((3, 2), (5, 4), (2, 3)))
CURRENT = IntegerPolicy(((5, 2), (3, 5), (4, 2)))
STATED = (
    "grpo dapo dr_grpo no_is stale tic_grpo tic_grpo_eq11 gspo rloo reinforce trajectory_is prefix_is".split()
)


def four_answers() -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[1, 0.3, 0, 1])


def test_a_hand_worked_gradient_is_a_fraction():
    # One token, pi = (3/5, 2/5), r = (1, 0): dJ/dtheta_0 = pi_0 (1 - pi_0) = 6/25.
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    with precision():
        gradient = enclosures.policy_gradient(mdp, IntegerPolicy(((3, 2),)))
        assert (gradient[0][0] - arb(fmpq(6, 25))).contains(0)
        assert not (gradient[0][0] - arb(fmpq(7, 25))).contains(0)


@pytest.mark.parametrize("name", STATED)
def test_the_float64_expectation_lies_in_the_ball_to_14_digits(name):
    mdp, estimator = four_answers(), ESTIMATORS[name]
    found = expected_gradient(mdp, CURRENT.logits(), BEHAVIOUR.logits(), estimator, group_size=3)
    with precision():
        balls = enclosures.expected_gradient(mdp, CURRENT, BEHAVIOUR, estimator, 3)
        for row, values in zip(balls, found.tolist(), strict=True):
            for ball, value in zip(row, values, strict=True):
                assert abs(float(ball) - value) < EXACT["atol"]
                assert certify(ball, value).agreeing_digits >= 14
    wrong = dataclasses.replace(estimator, advantage=dataclasses.replace(grpo(delta=0.5).advantage))
    other = expected_gradient(mdp, CURRENT.logits(), BEHAVIOUR.logits(), wrong, group_size=3)
    assert abs(float(balls[0][0]) - float(other[0, 0])) > 1e-3


def test_zero_is_inside_the_ball_for_an_unbiased_estimator_and_outside_for_a_biased_one():
    mdp = four_answers()
    with precision():
        target = enclosures.policy_gradient(mdp, CURRENT)
        gaps = {
            name: squared_norm(
                difference(enclosures.expected_gradient(mdp, CURRENT, BEHAVIOUR, ESTIMATORS[name], 3), target)
            )
            for name in ("trajectory_is", "prefix_is")
        }
        assert not certify(gaps["trajectory_is"], 0.0).excludes_zero
        assert certify(gaps["prefix_is"], 0.0).excludes_zero


def test_prompts_are_weighted_and_never_mixed():
    mdp = TokenMDP.mixture(
        [four_answers(), TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[0, 0, 1, 0])],
        [0.25, 0.75],
        share_rows=True,
    )
    with precision():
        value = enclosures.expected_return(mdp, CURRENT)
        assert certify(value, expected_return(mdp, CURRENT.logits())).agreeing_digits >= 14
        gradient = enclosures.policy_gradient(mdp, CURRENT)
        assert (
            certify(gradient[0][0], float(policy_gradient(mdp, CURRENT.logits())[0, 0])).agreeing_digits >= 14
        )
        balls = enclosures.expected_gradient(mdp, CURRENT, BEHAVIOUR, dapo(), 2)
    found = expected_gradient(mdp, CURRENT.logits(), BEHAVIOUR.logits(), dapo(), group_size=2)
    assert abs(float(balls[0][0]) - float(found[0, 0])) < EXACT["atol"]


def test_a_second_moment_is_at_least_the_square_of_the_mean():
    mdp = four_answers()
    with precision():
        square = enclosures.second_moment(mdp, CURRENT, BEHAVIOUR, tic_grpo(), 2)
        mean = enclosures.expected_gradient(mdp, CURRENT, BEHAVIOUR, tic_grpo(), 2)
        assert bool(square - squared_norm(mean) > 0)


def test_grading_counts_digits():
    with precision():
        third = arb(fmpq(1, 3))
        assert certify(third, 1 / 3).agreeing_digits >= 16
        assert certify(third, 1 / 3 + 1e-7).agreeing_digits == 6
        assert certify(third, 1 / 3).midpoint == "0." + "3" * 30


def test_a_float_is_read_as_the_decimal_it_is_written_as():
    assert fraction(0.3) == fmpq(3, 10)
    assert fraction(1e-6) == fmpq(1, 1_000_000)


def test_what_has_no_definition_here_is_refused_by_name():
    with precision(), pytest.raises(ValueError, match="no certificate for the clip before_pooling"):
        enclosures.expected_gradient(four_answers(), CURRENT, BEHAVIOUR, ESTIMATORS["gmpo"], 2)
    with pytest.raises(ValueError, match="positive integers"):
        IntegerPolicy(((1, 0),))
    with precision(), pytest.raises(ValueError, match="more than MAX_GROUPS"):
        enclosures.expected_gradient(four_answers(), CURRENT, BEHAVIOUR, grpo(), 200)


def test_one_response_with_the_moments_of_the_population_is_an_infinite_group():
    mdp = four_answers()
    for estimator in (grpo(0.2, 0.28, delta=0.0), tic_grpo_eq11(0.28, delta=0.0)):
        with precision():
            balls = enclosures.expected_gradient(mdp, CURRENT, BEHAVIOUR, infinite(estimator), 1)
            ball = torch.tensor([[float(x) for x in row] for row in balls], dtype=torch.float64)
        found = expected_gradient(mdp, CURRENT.logits(), BEHAVIOUR.logits(), estimator, math.inf)
        torch.testing.assert_close(ball, found, **EXACT)


def test_moments_of_the_reward_are_those_of_the_prompt():
    every = responses(four_answers())
    with precision():
        mean, sigma = enclosures.reward_moments(every, BEHAVIOUR)
        first = sum((y.prob(BEHAVIOUR) * y.reward for y in every), fmpq(0))
        second = sum((y.prob(BEHAVIOUR) * y.reward**2 for y in every), fmpq(0))
        assert (mean - arb(first)).contains(0)
        assert (sigma**2 - arb(second - first**2)).contains(0)


def test_a_geometric_mean_of_two_tokens_meets_the_square_of_its_bound():
    """Token ratios 23/20: their product 529/400 lies between 1 + eps = 6/5 and its square 36/25."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.25, 0.0])
    before, now = IntegerPolicy(((1, 1),) * 3), IntegerPolicy(((23, 17),) * 3)
    estimator = dataclasses.replace(dapo(0.2, 0.2), ratio=geometric_mean)
    found = expected_gradient(mdp, now.logits(), before.logits(), estimator, group_size=2)
    with precision():
        balls = enclosures.expected_gradient(mdp, now, before, estimator, 2)
    for row, values in zip(balls, found.tolist(), strict=True):
        assert [float(ball) for ball in row] == pytest.approx(values, abs=EXACT["atol"])
    # Partner: a clip that acts is another number.
    clipped = dataclasses.replace(dapo(0.1, 0.1), ratio=geometric_mean)
    other = expected_gradient(mdp, now.logits(), before.logits(), clipped, group_size=2)
    assert abs(float(balls[0][0]) - float(other[0, 0])) > 1e-3
