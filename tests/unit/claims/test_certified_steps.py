"""Balls beyond one expectation: the terms of Eq. 7 and 11, inner steps, KL, gates that a ball leaves open."""

import dataclasses
import math

import pytest
import torch
from flint import arb, fmpq

from tests.properties.tolerances import EXACT, MOVES, VISIBLE
from ticgrpo_theory.claims.certified import divergence, enclosures, inner_steps, terms
from ticgrpo_theory.claims.certified.definitions import at_most, ratio_bounds
from ticgrpo_theory.claims.certified.enclosures import difference, precision, squared_norm
from ticgrpo_theory.claims.certified.rational import BallPolicy, IntegerPolicy, responses
from ticgrpo_theory.claims.witnesses import infinite
from ticgrpo_theory.estimators.advantages import population, raw
from ticgrpo_theory.estimators.catalogue import grpo, reinforce, stale, tic_grpo_eq11, tic_grpo_released
from ticgrpo_theory.estimators.clipping import by_sign_and_length, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.exact import decompose, expected_gradient, expected_return, reuse_bias
from ticgrpo_theory.exact.penalties.divergence import expected_divergence
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient
from ticgrpo_theory.mdp import TokenMDP

OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))
NOW = IntegerPolicy(((5, 2), (3, 5), (4, 2)))
REFERENCE = IntegerPolicy(((1, 1), (2, 1), (1, 3)))
MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[1, 0.3, 0, 1])
EQ7, EQ11 = grpo(0.2, 0.28, delta=0.0), tic_grpo_eq11(0.28, delta=0.0)
BOTH = pytest.mark.parametrize("estimator", [EQ7, EQ11], ids=["eq7", "eq11"])
FREE = dataclasses.replace(EQ11, clip=unclipped())


def floats(matrix) -> torch.Tensor:
    return torch.tensor([[float(x) for x in row] for row in matrix], dtype=torch.float64)


@BOTH
def test_every_expected_term_is_that_of_the_float64_engine(estimator):
    found = decompose(MDP, NOW.logits(), OLD.logits(), estimator, 3)
    with precision():
        setting = terms.Setting.of(MDP, NOW, OLD, estimator, 3)
        for done, kept in enumerate((found.printed_terms, found.terms)):
            for name in kept:
                if name == "gradient_error" and estimator is EQ11:
                    continue  # Eq. 11 has none
                ball = floats(terms.expected_term(setting, 3, name, bool(done)))
                torch.testing.assert_close(ball, kept[name], **EXACT)


@BOTH
def test_corrected_terms_close_on_every_group_and_printed_ones_on_none_with_clipped_tokens(estimator):
    with precision():
        setting = terms.Setting.of(MDP, NOW, OLD, estimator, 2)
        printed = []
        for group in enclosures.drawn_groups(MDP, OLD, 2):
            as_printed, corrected = terms.residuals(setting, group)
            assert squared_norm(corrected).contains(0)
            printed.append(bool(squared_norm(as_printed) > 0))
    assert sum(printed) >= 6


@pytest.mark.parametrize("estimator", [EQ7, EQ11, stale(delta=0.0)], ids=["grpo", "tic", "stale"])
def test_returns_after_inner_steps_lie_in_the_ball(estimator):
    found = reuse_bias(MDP, OLD.logits(), estimator, 2, 3, 0.25).expected_return
    with precision():
        for k in (0, 1, 3):
            ball = inner_steps.expected_return_after(MDP, OLD, estimator, 2, k, 0.25)
            assert abs(float(ball) - float(found[k])) < EXACT["atol"]
            assert bool(ball.rad() < 1e-40)
        other = inner_steps.expected_return_after(MDP, OLD, estimator, 2, 3, 0.3)
    assert abs(float(other) - float(found[3])) > MOVES


def test_an_infinite_group_follows_its_mean():
    theta = OLD.logits()
    for _ in range(2):
        theta = theta + 0.5 * expected_gradient(MDP, theta, OLD.logits(), EQ7, math.inf)
    with precision():
        ball = inner_steps.expected_return_after(MDP, OLD, EQ7, math.inf, 2, 0.5)
    assert abs(float(ball) - expected_return(MDP, theta)) < EXACT["atol"]
    with precision(), pytest.raises(ValueError, match="no infinite group is stated for the advantage raw"):
        inner_steps.infinite_path(MDP, OLD, reinforce(), 1, 0.5)


def test_the_bias_of_a_reused_group_lies_in_the_ball():
    estimator = dataclasses.replace(FREE, advantage=population())
    found = reuse_bias(MDP, OLD.logits(), estimator, 2, 2, 0.25, scale=0.75).bias
    with precision():
        for k in (0, 2):
            ball = floats(inner_steps.reuse_bias(MDP, OLD, estimator, 2, k, 0.25, arb(fmpq(3, 4))))
            torch.testing.assert_close(ball, found[k], **EXACT)


def test_a_policy_of_balls_at_the_start_is_the_integer_policy():
    with precision():
        ball = BallPolicy.at(OLD)
        for s in range(3):
            for a in range(2):
                assert (ball.prob(s, a) - arb(OLD.prob(s, a))).contains(0)


def test_the_released_clip_has_the_bounds_of_the_float64_engine():
    clip, length = by_sign_and_length(0.01, 3.0, 20.0), torch.tensor([1, 3, 400])
    for positive in (True, False):
        lo, hi = clip.bounds(torch.full((3,), positive), length)
        for n, low, high in zip(length.tolist(), lo.tolist(), hi.tolist(), strict=True):
            with precision():
                bounds = ratio_bounds(clip, positive, n)
            assert math.log(float(bounds[0])) == pytest.approx(low)
            assert math.log(float(bounds[1])) == pytest.approx(high)
    estimator = tic_grpo_released(delta=0.0)
    with precision():
        ball = floats(enclosures.expected_gradient(MDP, NOW, OLD, estimator, 2))
    torch.testing.assert_close(
        ball, expected_gradient(MDP, NOW.logits(), OLD.logits(), estimator, 2), **EXACT
    )


def test_infinite_ends_of_a_clip_are_none():
    assert ratio_bounds(two_sided(0.2, math.inf), True, 1) == (None, None)
    assert ratio_bounds(two_sided(0.2, math.inf), False, 1) == (fmpq(4, 5), None)
    assert ratio_bounds(upper_only(math.inf), False, 1) == (None, None)


def test_a_gate_is_decided_exactly_or_refused():
    assert at_most(fmpq(1, 3), fmpq(1, 3)) and not at_most(fmpq(1, 2), fmpq(1, 3))
    assert at_most(arb(1), arb(2)) and not at_most(arb(2), arb(1))
    with pytest.raises(ValueError, match="open at this precision"):
        at_most(arb(1, 0.1), arb(1, 0.1))


def test_kl_and_its_sampled_gradient_lie_in_the_ball():
    theta, reference = NOW.logits(), REFERENCE.logits()
    exact = expected_divergence(MDP, theta, reference).gradient
    sampled = -penalty_gradient(MDP, theta, OLD.logits(), reference, kl_loss(k3, 1.0))
    with precision():
        torch.testing.assert_close(floats(divergence.kl_gradient(MDP, NOW, REFERENCE)), exact, **EXACT)
        ball = divergence.k3_gradient(MDP, NOW, OLD, REFERENCE, lambda y: arb(1))
        torch.testing.assert_close(floats(ball), sampled, **EXACT)
        gap = squared_norm(difference(ball, divergence.kl_gradient(MDP, NOW, REFERENCE)))
        assert bool(gap > VISIBLE**2)


def test_one_response_with_the_moments_of_the_population_is_an_infinite_group():
    for estimator in (EQ7, EQ11):
        with precision():
            ball = floats(enclosures.expected_gradient(MDP, NOW, OLD, infinite(estimator), 1))
        found = expected_gradient(MDP, NOW.logits(), OLD.logits(), estimator, math.inf)
        torch.testing.assert_close(ball, found, **EXACT)


def test_moments_of_the_reward_are_those_of_the_prompt():
    every = responses(MDP)
    with precision():
        mean, sigma = enclosures.reward_moments(every, OLD)
        first = sum((y.prob(OLD) * y.reward for y in every), fmpq(0))
        second = sum((y.prob(OLD) * y.reward**2 for y in every), fmpq(0))
        assert (mean - arb(first)).contains(0)
        assert (sigma**2 - arb(second - first**2)).contains(0)
    assert raw() != population()
