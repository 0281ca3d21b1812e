"""Mean and second moment of the first step at many policies at once: by hand and against exact moments."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import mdps_with_two_policies
from tests.properties.tolerances import EXACT
from tests.unit.bounds.test_certificates import FAR, XOR
from ticgrpo_theory.bounds import (
    first_step,
)
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, grpo, tic_grpo
from ticgrpo_theory.exact import expected_return, gradient_moments, policy_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS


def check_coin() -> None:
    """T = 1, p = 1/2, G = 2: with probability 1/2 the rewards differ, A = +-1, g_hat = (1, -1) / 2."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    found = first_step(mdp, torch.zeros(1, 1, 2, dtype=torch.float64), grpo(delta=0.0), 2)
    torch.testing.assert_close(found.mean, torch.tensor([[[0.25, -0.25]]], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found.second_moment, torch.tensor([0.25], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found.gradient, torch.tensor([[[0.25, -0.25]]], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found.expected_return, torch.tensor([0.5], dtype=torch.float64), **EXACT)


def test_the_first_step_of_a_coin_by_hand():
    check_coin()


def check_first_step(mdp, theta, estimator, G: int) -> None:
    """m and q at every policy of a list are those of gradient_moments at theta = theta_old."""
    found = first_step(mdp, torch.stack(theta), estimator, G)
    for i, table in enumerate(theta):
        exact = gradient_moments(mdp, table, table, estimator, G)
        torch.testing.assert_close(found.mean[i], exact.mean, **EXACT)
        assert found.second_moment[i].item() == pytest.approx(exact.second_moment, abs=1e-12, rel=1e-12)
        torch.testing.assert_close(found.gradient[i], policy_gradient(mdp, table), **EXACT)
        assert found.expected_return[i].item() == pytest.approx(expected_return(mdp, table), abs=1e-12)


@given(
    mdps_with_two_policies(largest=9),
    st.sampled_from(["grpo", "tic_grpo", "rloo"]),
    st.integers(2, 3),
)
def test_the_first_step_is_that_of_the_exact_moments(case, estimator, G):
    theta = [torch.tensor(x, dtype=torch.float64) for x in (case.theta, case.theta_old)]
    check_first_step(case.mdp, theta, ESTIMATORS[estimator], G)


def check_large_groups() -> None:
    mdp = WORLDS["few-values"].build()
    theta = WORLDS["few-values"].theta_old(mdp)
    check_first_step(mdp, [theta, 3 * theta, -20 * theta], grpo(delta=0.0), 24)
    check_first_step(XOR, [torch.tensor(FAR, dtype=torch.float64)], tic_grpo(delta=0.0), 300)


def test_the_first_step_of_large_groups_and_several_rewards():
    check_large_groups()


@pytest.mark.parametrize(
    ("world", "estimator", "text"),
    [
        ("long-answers", "dapo", "the scale reads the lengths of the whole group"),
        (
            "xor",
            dataclasses.replace(grpo(), advantage=population()),
            "changes with the moments of the reward",
        ),
        ("xor", lambda batch: batch.logp.sum(), "a callable has no declared scale"),
    ],
)
def test_first_steps_that_counts_of_rewards_do_not_give_are_refused(world, estimator, text):
    mdp = WORLDS[world].build()
    with pytest.raises(ValueError, match=text):
        first_step(mdp, torch.zeros(1, mdp.num_rows, mdp.vocab_size, dtype=torch.float64), estimator, 4)


def test_masked_tokens_on_a_path_are_refused():
    with pytest.raises(ValueError, match="a policy on the path is not finite"):
        first_step(XOR, torch.tensor([[[0.0, -torch.inf]]], dtype=torch.float64), "grpo", 4)
