"""The simulator samples what the exact engine sums: means over replicates are exact expectations."""

import dataclasses
import itertools

import pytest
import torch

from tests.properties.montecarlo import assert_mean_is
from tests.thinned import one_in
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS

ONE_STEP = {"learning_rate": 1.0, "inner_steps": 1, "outer_steps": 1}


def first_gradients(world: str, estimator, group_size: int, replicates: int, **run) -> torch.Tensor:
    """g_hat of the first inner step of every replicate, flat."""
    mdp = WORLDS[world].build()
    theta = WORLDS[world].theta_old(mdp)
    trace = simulate(mdp, theta, estimator, group_size=group_size, replicates=replicates, **ONE_STEP, **run)
    return (trace.theta - theta).flatten(1)


PLACES = ["distinct-values", "long-answers", "two-prompts", "count-mod-3"]


# Every fifth of twelve is each estimator once, on worlds of their own.
@pytest.mark.parametrize(
    ("world", "name"), one_in(5, itertools.product(PLACES, ["grpo", "dapo", "tic_grpo"]))
)
def test_the_first_gradient_has_the_exact_expectation(world, name):
    mdp = WORLDS[world].build()
    theta = WORLDS[world].theta_old(mdp)
    exact = expected_gradient(mdp, theta, theta, name, group_size=4).flatten()
    samples = first_gradients(world, name, 4, replicates=30000)
    # Precise enough to tell group statistics with 1/G from those with 1/(G - 1), 13 % at G = 4.
    assert_mean_is(samples, exact, visible=0.13 * exact.abs().max().item())


def test_the_same_check_sees_another_standard_deviation():
    """The partner that must fail: 1/(G - 1) instead of 1/G."""
    mdp = WORLDS["distinct-values"].build()
    theta = WORLDS["distinct-values"].theta_old(mdp)
    other = dataclasses.replace(ESTIMATORS["grpo"], advantage=standardised(1e-6, ddof=1))
    exact = expected_gradient(mdp, theta, theta, "grpo", group_size=4).flatten()
    with pytest.raises(AssertionError, match="standard errors from"):
        samples = first_gradients("distinct-values", other, 4, replicates=30000)
        assert_mean_is(samples, exact, visible=0.13 * exact.abs().max().item())


def test_the_first_gradient_has_the_exact_second_moment():
    """Mean of ||g_hat_0||^2, and what averaging over prompts per step leaves of the variance."""
    world = WORLDS["distinct-values"]
    mdp, theta = world.build(), world.theta_old(world.build())
    moments = gradient_moments(mdp, theta, theta, "grpo", group_size=4)
    square = moments.mean.square().sum().item()
    run = {"group_size": 4, "replicates": 30000, **ONE_STEP}
    for prompts in (1, 4):
        trace = simulate(mdp, theta, "grpo", prompts_per_step=prompts, **run)
        expected = square + moments.variance / prompts
        assert_mean_is(trace.sum_first_norm_sq, expected, visible=0.05 * expected)
    gradient = policy_gradient(mdp, theta)
    dot = (gradient * moments.mean).sum().item()
    assert_mean_is(trace.sum_gradient_dot_first, dot, visible=0.1 * dot)


@pytest.mark.slow
def test_noise_floors_at_an_interior_optimum():
    """Tail mean of ||grad J||^2 on J = 2 p (1 - p), no clip, delta = 0, eta K = 0.1.

    To first order it is eta K / G times lambda tr(G Cov g_hat_0) / (2 c_G / T) with lambda = 1/2, T = 2,
    computed here from exact moments; the next order in eta K is 3 %, so the floors of longer runs (3 million
    steps, 1 %) are given besides.
    """
    world = WORLDS["xor"]
    mdp, theta = world.build(), torch.zeros(1, 2, dtype=torch.float64)
    floors = {
        ("stale", 1, 4): 1.6863e-3,
        ("stale", 1, 16): 4.119e-4,
        ("stale", 1, 64): 1.0094e-4,
        ("grpo", 4, 64): 1.0089e-4,
        ("tic_grpo_eq11", 4, 64): 9.896e-5,
    }
    for (name, K, G), floor in floors.items():
        estimator = dataclasses.replace(ESTIMATORS[name], advantage=standardised(0.0), clip=unclipped())
        trace = simulate(
            mdp,
            theta,
            estimator,
            group_size=G,
            learning_rate=0.1 / K,
            inner_steps=K,
            outer_steps=2500,
            replicates=2000,
            record_every=10,
        )
        tail = trace.gradient_norm_sq[:, trace.steps >= 500].mean(dim=1)
        assert_mean_is(tail / floor, 1.0, visible=0.04)
        moments = gradient_moments(mdp, theta, theta, estimator, group_size=G)
        probability = torch.tensor([1e-5, -1e-5], dtype=torch.float64)[None] / 2
        near = theta + probability
        c = (
            expected_gradient(mdp, near, near, estimator, group_size=G).norm()
            / policy_gradient(mdp, near).norm()
        ).item()
        first_order = 0.1 * 0.5 * moments.variance / (2 * c)
        assert first_order == pytest.approx(floor, rel=0.03), (name, K, G)
