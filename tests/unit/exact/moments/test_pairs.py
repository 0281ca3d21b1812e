"""Two responses of one group: what their rewards have to do with each other."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.instances.worlds_by_hand import FEWER, OLD, THETA, case_moments, coin, eos_tree, odds
from tests.properties.strategies import mdps_with_two_policies
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import (
    Advantage,
    centred,
    known_moments,
    leave_one_out,
    population,
    raw,
    standardised,
)
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum
from ticgrpo_theory.exact import gradient_moments
from ticgrpo_theory.mdp import TokenMDP

INDEPENDENT = (raw(), population(0.1), known_moments(0.2, 0.5))


def scaled_variance(advantage, G: int) -> float:
    """G times the variance on a tree with three reward values, token ratio with clip."""
    estimator = Estimator(ratios.token, advantage, two_sided(0.2, 0.2), sequence_mean)
    return G * gradient_moments(eos_tree((1.0, 0.3, 0.0, 1.0)), THETA, OLD, estimator, group_size=G).variance


@pytest.mark.parametrize("advantage", INDEPENDENT)
def test_responses_that_share_nothing_average_like_independent_draws(advantage):
    assert scaled_variance(advantage, 1000) == pytest.approx(scaled_variance(advantage, 1), rel=1e-9)


@pytest.mark.parametrize("advantage", [standardised(0.0), leave_one_out()])
def test_the_same_check_rejects_responses_that_share_a_baseline(advantage):
    assert abs(scaled_variance(advantage, 1000) - scaled_variance(advantage, 2)) > VISIBLE


@dataclasses.dataclass(frozen=True)
class undeclared(Advantage):
    """The formula of another advantage, without the word that it is linear or reads no other response."""

    inner: Advantage

    @property
    def min_group(self) -> int:  # type: ignore[override]
        return self.inner.min_group

    def of_moments(self, reward, mean, variance, group_size):
        return self.inner.of_moments(reward, mean, variance, group_size)


@dataclasses.dataclass(frozen=True)
class lifted(Advantage):
    """A[i] = r[i] - mean_G + 1/4: linear, and not 0 at the mean."""

    linear: ClassVar[bool] = True

    def of_moments(self, reward, mean, variance, group_size):
        return reward - mean + 0.25


def check_lifted() -> None:
    estimators = [
        Estimator(ratios.token, A, unclipped(), sequence_mean) for A in (lifted(), undeclared(lifted()))
    ]
    by = [gradient_moments(eos_tree((1.0, 0.3, 0.0, 1.0)), THETA, OLD, e, group_size=3) for e in estimators]
    assert by[0].second_moment == pytest.approx(by[1].second_moment, rel=1e-12)
    torch.testing.assert_close(by[0].mean, by[1].mean, **EXACT)


def test_a_linear_advantage_keeps_its_constant():
    check_lifted()


@FEWER
@given(
    mdps_with_two_policies(6),
    st.sampled_from([centred(), leave_one_out()]),
    st.sampled_from([sequence_sum, sequence_mean, constant]),
    st.integers(2, 6),
)
def test_linear_advantages_agree_by_polynomial_and_by_table(case, advantage, scale, G):
    by = [Estimator(ratios.token, A, unclipped(), scale) for A in (advantage, undeclared(advantage))]
    polynomial, table = (case_moments(case, estimator, G).second_moment for estimator in by)
    assert polynomial == pytest.approx(table, abs=1e-12, rel=1e-12)


def check_many_reward_values() -> None:
    # Eight distinct rewards: 16 channels, more than are kept one by one.
    reward = [0.0, 0.1, 0.25, 0.3, 0.55, 0.6, 0.9, 1.0]
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=reward)
    theta, theta_old = (torch.sin(torch.arange(14.0).double() * k).reshape(7, 2) for k in (1, 2))
    for name in ("grpo", "tic_grpo", "dapo", "gmpo"):
        found, listed = (
            gradient_moments(mdp, theta, theta_old, name, group_size=4, method=method)
            for method in ("auto", "groups")
        )
        assert found.second_moment == pytest.approx(listed.second_moment, rel=1e-12)
        torch.testing.assert_close(found.mean, listed.mean, **EXACT)


def test_many_reward_values_agree_by_eigenvectors_and_by_groups():
    check_many_reward_values()


def test_thousands_of_responses_in_a_group():
    # Two responses, so that G + 1 multisets are all there are.
    mdp, G = coin(), 600
    by_outcomes, by_groups = (
        gradient_moments(mdp, odds(0.45), odds(0.4), "grpo", group_size=G, method=method)
        for method in ("auto", "groups")
    )
    assert by_outcomes.variance * G > VISIBLE
    assert by_outcomes.variance == pytest.approx(by_groups.variance, rel=1e-8)
    million = gradient_moments(mdp, odds(0.45), odds(0.4), "grpo", group_size=10**6)
    assert million.variance * 10**6 == pytest.approx(by_outcomes.variance * G, rel=0.05)
