"""exact/expectation.py: every estimator by every method against sums over groups, and what they estimate."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.instances.reference_instance import BINARY, OLD, TERNARY, THETA
from tests.oracles import definitions
from tests.properties.strategies import Case, eighths, mdps_with_masked_tokens, mdps_with_two_policies, tables
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import (
    centred,
    known_moments,
    leave_one_out,
    population,
    standardised,
)
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.clipping import unclipped, upper_only
from ticgrpo_theory.estimators.penalties import k1, k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.expectation import choose_method
from ticgrpo_theory.mdp import TokenMDP

NAMES = sorted(FIRST)
PROGRAMME = {
    "grpo",
    "dapo",
    "dr_grpo",
    "no_is",
    "stale",
    "cispo",
    "rloo",
    "reinforce",
    "trajectory_is",
    "prefix_is",
}
LEAVE_ONE_OUT = {"rloo", "trajectory_is", "prefix_is"}
METHODS = ("dynamic_programming", "enumeration", "groups")
HALF, FIFTH = (settings(max_examples=settings().max_examples // part) for part in (2, 5))


def double(numbers: list) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def methods_of(name: str) -> tuple[str, ...]:
    """The methods that are exact for a catalogue entry on any world."""
    return METHODS if name in PROGRAMME else METHODS[1:]


def by_oracle(case: Case, name: str, G: int, expectation=definitions.expected_gradient) -> torch.Tensor:
    """sum_q weight_q E_q[g_hat], each a sum over the groups of that prompt."""
    params = {"eps_low": 3e-4, "eps_high": 4e-4} if name == "gspo_narrow" else {}
    known = "gspo" if name == "gspo_narrow" else name
    tables = [
        weight * double(expectation(world, case.theta, case.theta_old, known, G, **params))
        for weight, world in case.prompts
    ]
    return torch.stack(tables).sum(dim=0)


def check_against_all_groups(case: Case, name: str, G: int) -> None:
    expected = by_oracle(case, name, G)
    for method in methods_of(name):
        found = expected_gradient(case.mdp, case.theta, case.theta_old, ESTIMATORS[name], G, method)
        torch.testing.assert_close(found, expected, **EXACT)


@FIFTH
@given(mdps_with_two_policies(largest=9), st.integers(2, 4))
def test_every_estimator_by_every_method_is_the_sum_over_all_groups(case, G):
    for name in NAMES:
        check_against_all_groups(case, name, G)


@given(mdps_with_masked_tokens(largest=9), st.integers(2, 3), st.sampled_from(NAMES))
def test_the_same_where_tokens_are_masked(case, G, name):
    check_against_all_groups(case, name, G)


@given(mdps_with_two_policies(largest=9), st.sampled_from(sorted(set(NAMES) - LEAVE_ONE_OUT)))
def test_the_same_for_a_group_of_one(case, name):
    check_against_all_groups(case, name, 1)


@HALF
@given(mdps_with_two_policies(largest=256), st.sampled_from(NAMES), st.integers(2, 4))
def test_larger_worlds_are_the_sum_over_one_response_and_the_kinds_of_the_others(case, name, G):
    expected = by_oracle(case, name, G, definitions.expected_gradient_by_type)
    for method in methods_of(name)[:-1]:
        found = expected_gradient(case.mdp, case.theta, case.theta_old, ESTIMATORS[name], G, method)
        torch.testing.assert_close(found, expected, **EXACT)


STD = standardised(delta=0.0)


def check_unbiased(case: Case, estimator: Estimator, G: int) -> None:
    gradient = policy_gradient(case.mdp, case.theta)
    for method in methods_of("trajectory_is"):
        found = expected_gradient(case.mdp, case.theta, case.theta_old, estimator, G, method)
        torch.testing.assert_close(found, gradient, **EXACT)


@given(mdps_with_two_policies(largest=9), st.integers(2, 4))
def test_the_trajectory_ratio_is_unbiased_for_the_current_policy(case, G):
    check_unbiased(case, ESTIMATORS["trajectory_is"], G)


@given(mdps_with_masked_tokens(largest=9), st.integers(2, 3))
def test_it_is_unbiased_where_theta_masks_tokens_too(case, G):
    check_unbiased(case, ESTIMATORS["trajectory_is"], G)


@pytest.mark.parametrize("ratio", [token, prefix, none, geometric_mean])
def test_the_same_check_rejects_every_other_ratio_on_one_fixed_world(ratio):
    estimator = Estimator(ratio, leave_one_out(), unclipped(), sequence_sum)
    for mdp in (BINARY, TERNARY):
        gap = expected_gradient(mdp, THETA, OLD, estimator, 3) - policy_gradient(mdp, THETA)
        assert float(gap.abs().max()) > VISIBLE


def test_the_same_check_rejects_clip_and_group_normalisation():
    for estimator in (
        dataclasses.replace(ESTIMATORS["trajectory_is"], clip=upper_only(0.28)),
        dataclasses.replace(ESTIMATORS["trajectory_is"], advantage=STD),
        dataclasses.replace(ESTIMATORS["trajectory_is"], advantage=centred()),
        dataclasses.replace(ESTIMATORS["trajectory_is"], scale=token_mean),
    ):
        gap = expected_gradient(TERNARY, THETA, OLD, estimator, 3) - policy_gradient(TERNARY, THETA)
        assert float(gap.abs().max()) > VISIBLE


@given(mdps_with_two_policies(largest=9), st.integers(2, 4))
def test_the_centred_baseline_loses_one_part_in_g(case, G):
    """Its own reward is in the mean: E[g_hat] = (1 - 1/G) grad J(theta)."""
    estimator = dataclasses.replace(ESTIMATORS["trajectory_is"], advantage=centred())
    found = expected_gradient(case.mdp, case.theta, case.theta_old, estimator, G)
    gradient = policy_gradient(case.mdp, case.theta)
    torch.testing.assert_close(found, (1 - 1 / G) * gradient, **EXACT)


@given(
    mdps_with_two_policies(largest=4, longest=1), st.integers(2, 4), st.sampled_from([STD, leave_one_out()])
)
def test_at_one_token_all_unclipped_ratios_coincide(case, G, advantage):
    found = [
        expected_gradient(
            case.mdp, case.theta, case.theta_old, Estimator(ratio, advantage, unclipped(), sequence_mean), G
        )
        for ratio in (token, prefix, trajectory, geometric_mean)
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], **EXACT)


@given(st.sampled_from(sorted(set(NAMES) - {"reinforce"})), eighths(-1, 1), tables(3, 2), tables(3, 2))
def test_a_world_of_equal_rewards_gives_zero(name, reward, theta, theta_old):
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[reward + 0.1] * 4)
    for method in methods_of(name):
        found = expected_gradient(mdp, theta, theta_old, ESTIMATORS[name], 3, method)
        torch.testing.assert_close(found, torch.zeros_like(found), **EXACT)


@given(
    mdps_with_two_policies(largest=9),
    st.sampled_from(["grpo", "dapo", "tic_grpo", "gspo", "dr_grpo", "rloo"]),
)
def test_an_infinite_group_has_the_moments_of_theta_old(case, name):
    """Prompt by prompt: A = (r - mu)/(sigma + delta), or r - mu, with the moments of that prompt."""
    estimator, found = ESTIMATORS[name], torch.zeros(case.definition.num_rows, case.mdp.vocab_size).double()
    for (weight, prompt), (_, world) in zip(case.mdp.prompts, case.prompts, strict=True):
        P, r = definitions.probabilities(world, case.theta_old), [reward for _, _, reward in world.responses]
        mu = math.fsum(p * x for p, x in zip(P, r, strict=True))
        sigma = math.sqrt(math.fsum(p * (x - mu) ** 2 for p, x in zip(P, r, strict=True)))
        if not isinstance(estimator.advantage, standardised):
            known = dataclasses.replace(estimator, advantage=known_moments(mu, 1.0))
        else:
            known = dataclasses.replace(
                estimator, advantage=population(1e-6).at(mu, sigma * (max(r) > min(r)))
            )
        if name == "dapo":
            # In an infinite group 1/sum_j |s_j| is 1/(G E|s|).
            mean_length = math.fsum(p * len(y) for p, (y, _, _) in zip(P, world.responses, strict=True))
            known = dataclasses.replace(known, scale=sequence_sum)
            weight /= mean_length
        found += weight * expected_gradient(prompt, case.theta, case.theta_old, known, 1)
    expected = expected_gradient(case.mdp, case.theta, case.theta_old, estimator, math.inf)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("name", ["grpo", "dapo", "tic_grpo", "gspo"])
def test_finite_groups_tend_to_the_infinite_one_like_one_over_g(name):
    limit = expected_gradient(TERNARY, THETA, OLD, name, math.inf)
    gaps = [float((expected_gradient(TERNARY, THETA, OLD, name, G) - limit).norm()) for G in (32, 64, 128)]
    assert gaps[0] > 1e-5
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1) and gaps[1] / gaps[2] == pytest.approx(2, rel=0.05)


@given(mdps_with_two_policies(largest=9), st.integers(1, 3))
def test_population_moments_are_refreshed_at_theta_old(case, G):
    found, expected = (
        expected_gradient(
            case.mdp,
            case.theta,
            case.theta_old,
            dataclasses.replace(ESTIMATORS["grpo"], advantage=advantage),
            size,
        )
        for advantage, size in ((population(1e-6), G), (standardised(1e-6), math.inf))
    )
    torch.testing.assert_close(found, expected, **EXACT)


def test_a_name_an_estimator_and_other_containers_of_logits_give_the_same():
    expected = expected_gradient(BINARY, THETA, OLD, ESTIMATORS["grpo"], 4)
    theta = double(THETA).requires_grad_()
    found = expected_gradient(BINARY, theta, double(OLD).numpy(), "grpo", 4)
    torch.testing.assert_close(found, expected, atol=0.0, rtol=0.0)
    assert found.dtype == torch.float64 and not found.requires_grad


def test_auto_takes_the_cheapest_exact_method_of_each_prompt():
    def method(estimator, G: float = 4, **keywords) -> str:
        return choose_method(BINARY, THETA, OLD, estimator, G, **keywords)

    for name in NAMES:
        assert method(name) == methods_of(name)[0]
    unclipped_tic = dataclasses.replace(ESTIMATORS["tic_grpo"], clip=unclipped())
    assert method(unclipped_tic) == "dynamic_programming"
    assert method(lambda batch: batch.logp.where(batch.mask, 0.0).sum()) == "groups"
    penalised = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.1))
    assert method(penalised, theta_ref=OLD) == "enumeration"
    shaped = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_reward(k1, 0.1))
    assert method(shaped, theta_ref=OLD) == "groups"


@HALF
@given(mdps_with_two_policies(largest=9), st.integers(2, 3), st.sampled_from(["grpo", "dapo", "tic_grpo"]))
def test_a_penalty_in_the_loss_is_the_same_by_one_response_and_by_groups(case, G, name):
    estimator = dataclasses.replace(ESTIMATORS[name], penalty=kl_loss(k3, 0.25, trajectory))
    reference = [row[::-1] for row in case.theta]
    one, all_of_them = (
        expected_gradient(case.mdp, case.theta, case.theta_old, estimator, G, method, theta_ref=reference)
        for method in ("enumeration", "groups")
    )
    torch.testing.assert_close(one, all_of_them, **EXACT)
