"""Reuse of a group against an oracle that follows every group, and where the bias is zero."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.instances.reuse_world import FREE_TIC, MATCH, SIGMA, START, Z, c_G, norms
from tests.oracles.definitions import (
    GroupGradient,
    add,
    expected_return,
    multiset_groups,
    ordered_groups,
    policy_gradient,
    probabilities,
    squared_distance,
    tree_world,
    zeros,
)
from tests.properties.strategies import (
    eighths,
    mdps_with_masked_tokens,
    mdps_with_two_policies,
    tables,
    worlds,
)
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators import ratios as pooling
from ticgrpo_theory.estimators.catalogue import tic_grpo
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.penalties import k1, k3, kl_loss, kl_reward
from ticgrpo_theory.exact import expected_gradient, reuse_bias
from ticgrpo_theory.exact import expected_return as exact_return
from ticgrpo_theory.exact import policy_gradient as exact_gradient
from ticgrpo_theory.exact.reuse import followed_groups
from ticgrpo_theory.mdp import TokenMDP

# An example is hundreds of gradients with checked signatures, so there are fewer of them than elsewhere.
FEW = settings(max_examples=25)


# An oracle that follows every group with lists and loops


def followed(prompts, theta_old, weights, G, K, eta, scale, groups=multiset_groups, disjoint=False):
    """gradient, target, mse and J at k = 0..K; `prompts` lists (weight, world) over one table of logits."""
    world = prompts[0][1]
    gradient, target = ([zeros(world) for _ in range(K + 1)] for _ in range(2))
    mse, returns = [0.0] * (K + 1), [0.0] * (K + 1)

    def step(k, theta, chance, q, members):
        g_hat = GroupGradient(prompts[q][1], theta, theta_old, weights, {})(members)
        goal = zeros(world)
        for weight, other in prompts:
            add(goal, policy_gradient(other, theta), scale * weight)
            returns[k] += chance * weight * expected_return(other, theta)
        add(gradient[k], g_hat, chance)
        add(target[k], goal, chance)
        mse[k] += chance * squared_distance(g_hat, goal)
        moved = [list(row) for row in theta]
        add(moved, g_hat, eta)
        return moved

    def draws():
        for q, (weight, own) in enumerate(prompts):
            for members, P in groups(probabilities(own, theta_old), G):
                yield weight * P, q, members

    def descend(k, theta, chance):
        for P, q, members in draws():
            moved = step(k, theta, chance * P, q, members)
            if disjoint and k < K:
                descend(k + 1, moved, chance * P)
            for later in range(k + 1, K + 1 if not disjoint else 0):
                moved = step(later, moved, P, q, members)

    descend(0, theta_old, 1.0)
    return tuple(torch.tensor(x, dtype=torch.float64) for x in (gradient, target, mse, returns))


def assert_followed(steps, expected) -> None:
    for found, wanted in zip(
        (steps.gradient, steps.target, steps.mse, steps.expected_return), expected, strict=True
    ):
        torch.testing.assert_close(found, wanted, **EXACT)
    torch.testing.assert_close(steps.bias, expected[0] - expected[1], **EXACT)


NAMES = (
    "grpo",
    "dapo",
    "dr_grpo",
    "no_is",
    "stale",
    "tic_grpo",
    "tic_grpo_eq11",
    "gspo",
    "cispo",
    "gmpo",
    "rloo",
)
SAMPLED = st.sampled_from((*NAMES, "trajectory_is", "prefix_is", "reinforce"))


@FEW
@given(mdps_with_masked_tokens(largest=5), SAMPLED, st.integers(2, 3), eighths(0.125, 1), eighths(-1, 2))
def test_every_group_followed_by_loops_gives_the_same_numbers(case, name, G, eta, scale):
    steps = reuse_bias(case.mdp, case.theta_old, name, G, 2, eta, scale=scale)
    assert_followed(steps, followed(case.prompts, case.theta_old, name, G, 2, eta, scale))


@FEW
@given(mdps_with_two_policies(largest=4), SAMPLED, eighths(0.125, 1))
def test_disjoint_groups_followed_by_loops_give_the_same_numbers(case, name, eta):
    assume(max(len(world.responses) for _, world in case.prompts) <= 3)
    steps = reuse_bias(case.mdp, case.theta_old, name, 2, 1, eta, batches="disjoint")
    assert_followed(steps, followed(case.prompts, case.theta_old, name, 2, 1, eta, 1.0, disjoint=True))


def first_counts_double(batch: Batch) -> torch.Tensor:
    """An objective that treats the first response of a group unlike the others."""
    weight = torch.tensor([2.0] + [1.0] * (batch.logp.shape[0] - 1), dtype=torch.float64)
    w = batch.log_ratio.sum(dim=-1).exp()
    return (weight * batch.reward * w).sum() / batch.logp.shape[0]


def first_counts_double_by_hand(group, horizon):
    w = [math.exp(sum(logp) - sum(logp_old)) for logp, logp_old, _ in group]
    return [
        [(2.0 if i == 0 else 1.0) * reward * w[i] / len(group)] * len(logp)
        for i, (logp, _, reward) in enumerate(group)
    ]


def test_groups_are_ordered_where_the_order_matters():
    expected = [
        followed(
            [(1.0, tree_world(2, 2, lambda y: float(y[0] == y[1])))],
            START,
            first_counts_double_by_hand,
            *rest,
        )
        for rest in ((2, 2, 0.5, 1.0, ordered_groups), (2, 2, 0.5, 1.0, multiset_groups))
    ]
    steps = reuse_bias(MATCH, START, first_counts_double, 2, 2, 0.5)
    assert_followed(steps, expected[0])
    assert (expected[0][2] - expected[1][2]).abs().max() > VISIBLE / 10


def test_a_loss_is_followed_as_the_estimator_that_it_writes_out():
    def loss(logp, logp_old, advantages, mask):
        w = (logp - logp_old).where(mask, 0.0).sum(dim=-1).exp()
        return -(advantages * w.clamp(max=1.2)).mean()

    wrapped = from_loss(loss, ESTIMATORS["tic_grpo"].advantage)
    found, expected = (reuse_bias(MATCH, START, e, 2, 2, 1.0) for e in (wrapped, tic_grpo(eps_high=0.2)))
    torch.testing.assert_close(found.gradient, expected.gradient, **EXACT)
    torch.testing.assert_close(found.mse, expected.mse, **EXACT)


# Properties


@FEW
@given(mdps_with_two_policies(largest=8), SAMPLED, st.sampled_from(["reused", "disjoint"]))
def test_the_first_gradient_is_that_of_one_step(case, name, batches):
    steps = reuse_bias(case.mdp, case.theta_old, name, 2, 0, 1.0, batches=batches)
    gradient = expected_gradient(case.mdp, case.theta_old, case.theta_old, name, 2)
    torch.testing.assert_close(steps.gradient[0], gradient, **EXACT)
    torch.testing.assert_close(steps.target[0], exact_gradient(case.mdp, case.theta_old), **EXACT)
    torch.testing.assert_close(
        steps.expected_return[0].item(), exact_return(case.mdp, case.theta_old), **EXACT
    )


@FEW
@given(
    worlds(largest=6).flatmap(
        lambda d: st.tuples(st.just(d), tables(d.num_rows, d.prompts[0][1].vocab_size))
    ),
    SAMPLED,
)
def test_the_squared_error_is_at_least_the_squared_bias(case, name):
    definition, theta = case
    steps = reuse_bias(definition.mdp, theta, name, 2, 2, 0.5)
    assert bool((steps.mse >= norms(steps.bias).square() - 1e-12).all())


@FEW
@given(mdps_with_two_policies(largest=4), eighths(0.125, 1))
def test_a_stale_gradient_makes_k_steps_one_long_step(case, eta):
    many = reuse_bias(case.mdp, case.theta_old, "stale", 2, 2, eta).expected_return
    one = reuse_bias(case.mdp, case.theta_old, "stale", 2, 1, 2 * eta).expected_return
    torch.testing.assert_close(many[2], one[1], **EXACT)


@pytest.mark.parametrize("name", ["no_is", "grpo", "tic_grpo_eq11"])
def test_only_a_stale_gradient_does(name):
    many = reuse_bias(MATCH, START, name, 2, 4, 2.0).expected_return
    one = reuse_bias(MATCH, START, name, 2, 1, 8.0).expected_return
    assert (many[4] - one[1]).abs() > VISIBLE


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
def test_chunks_of_groups_give_the_same_numbers(batches, monkeypatch):
    whole = reuse_bias(MATCH, START, "grpo", 2, 1, 1.0, batches=batches)
    monkeypatch.setattr(followed_groups, "CHUNK", 70)
    parts = reuse_bias(MATCH, START, "grpo", 2, 1, 1.0, batches=batches)
    for name in ("gradient", "target", "mse", "expected_return"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), **EXACT)


# Disjoint mini-batches


@pytest.mark.parametrize(
    "estimator, scale",
    [
        (Z, 0.5 / SIGMA),
        (ESTIMATORS["trajectory_is"], 1.0),
        (FREE_TIC, 0.5 * c_G(2)),
    ],
)
def test_a_new_group_for_every_step_leaves_the_trajectory_ratio_unbiased(estimator, scale):
    fresh = reuse_bias(MATCH, START, estimator, 2, 2, 2.0, scale=scale, batches="disjoint")
    assert norms(fresh.bias).max() < 1e-15
    assert norms(reuse_bias(MATCH, START, estimator, 2, 2, 2.0, scale=scale).bias)[1:].min() > VISIBLE


@pytest.mark.parametrize("name", ["grpo", "no_is", "prefix_is", "tic_grpo_eq11"])
def test_other_weights_stay_biased_on_new_groups(name):
    """Token and prefix ratios, none, and a clip: for no multiple of grad J is the bias zero."""
    fresh = reuse_bias(MATCH, START, name, 2, 1, 2.0, batches="disjoint")
    g, J_gradient = fresh.gradient[1].flatten(), fresh.target[1].flatten()
    assert (g - (g @ J_gradient) / (J_gradient @ J_gradient) * J_gradient).norm() > VISIBLE / 10


def test_leave_one_out_is_unbiased_on_new_groups_with_several_prompts_and_lengths():
    one = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.25, 0.0], eos=1)
    other = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 0.5, 1.0], eos=0)
    mixed = TokenMDP.mixture([one, other], [0.25, 0.75], share_rows=True)
    fresh = reuse_bias(mixed, START[:2], "trajectory_is", 2, 1, 4.0, batches="disjoint")
    assert norms(fresh.bias).max() < 1e-15
    assert norms(reuse_bias(mixed, START[:2], "trajectory_is", 2, 1, 4.0).bias)[1] > VISIBLE


# Penalties


@pytest.mark.parametrize("penalty", [kl_loss(k3, 0.5), kl_loss(k1, 0.5, pooling.token), kl_reward(k1, 0.5)])
def test_a_penalty_takes_part_in_every_step(penalty):
    reference = [[0.0, 0.5], [0.25, -0.5], [0.5, 0.0]]
    base = ESTIMATORS["grpo"]
    penalised = Estimator(base.ratio, base.advantage, base.clip, base.scale, penalty=penalty)
    steps = reuse_bias(MATCH, START, penalised, 2, 2, 1.0, theta_ref=reference)
    first = expected_gradient(MATCH, START, START, penalised, 2, theta_ref=reference)
    torch.testing.assert_close(steps.gradient[0], first, **EXACT)
    without = reuse_bias(MATCH, START, base, 2, 2, 1.0)
    assert norms(steps.gradient - without.gradient).min() > VISIBLE


# What is refused


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"batches": "fresh"}, "batches = 'fresh': choose 'reused' .* or 'disjoint'"),
        ({"group_size": math.inf}, "group_size = inf.*expected_gradient"),
        ({"group_size": 1, "estimator": "rloo"}, "undefined for a group of 1"),
        ({"inner_steps": -1}, "inner_steps = -1: give a whole number >= 0"),
        ({"inner_steps": 1.5}, "inner_steps = 1.5: give a whole number >= 0"),
        ({"learning_rate": math.nan}, "learning_rate = nan: give a finite number"),
        ({"scale": math.inf}, "scale = inf: give a finite number"),
        ({"estimator": "gropo"}, "unknown estimator 'gropo'; nearest names: grpo"),
        ({"group_size": 300}, "groups .*G = 300.* more than MAX_NUMBERS = .*; lower N, G or K"),
        (
            {"inner_steps": 9, "batches": "disjoint"},
            "sequences of K.1 groups .*K = 9.* more than MAX_NUMBERS",
        ),
        (
            {"estimator": first_counts_double, "group_size": 9},
            "calls of the objective.* more than limit",
        ),
    ],
)
def test_reuse_refuses(changed, words, unchecked_signatures):
    arguments = {"estimator": "grpo", "group_size": 2, "inner_steps": 1, "learning_rate": 0.5} | changed
    with pytest.raises(ValueError, match=words):
        reuse_bias(MATCH, START, **arguments)
