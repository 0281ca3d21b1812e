"""penalised.py: J - beta KL, and the table of what each sampled penalty contributes, line by line."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.instances.penalty_lines import (
    A_FEW,
    EVERYWHERE,
    MISSES,
    ON_POLICY,
    WITNESS,
    Point,
    contribution,
    frozen,
    frozen_at_theta,
    plain,
    point,
    points,
    sequence,
    tensor,
)
from tests.oracles import literal
from tests.properties.tolerances import DIFFERENCED, EXACT, VISIBLE
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import leave_one_out
from ticgrpo_theory.estimators.catalogue import reinforce
from ticgrpo_theory.estimators.penalties import (
    Penalty,
    held,
    k1,
    k2,
    k3,
    kl_exact,
    kl_loss,
    kl_reward,
)
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.exact.penalties.divergence import expected_divergence, frozen_divergence
from ticgrpo_theory.exact.penalties.penalised import penalised_gradient, penalised_objective, penalty_gradient
from ticgrpo_theory.mdp import TokenMDP


@A_FEW
@given(points(largest=9), st.sampled_from(EVERYWHERE))
def test_lines_of_the_table_that_hold_for_any_two_policies(drawn, line):
    p, (penalty, estimator, target) = point(drawn), line
    torch.testing.assert_close(contribution(p, penalty, estimator), target(p), **EXACT)


@A_FEW
@given(points(largest=9), st.sampled_from(ON_POLICY))
def test_lines_of_the_table_that_hold_on_policy(drawn, line):
    p, (penalty, estimator, target) = point(drawn).on_policy, line
    torch.testing.assert_close(contribution(p, penalty, estimator), target(p), **EXACT)


@pytest.mark.parametrize("line", EVERYWHERE + ON_POLICY)
def test_every_line_of_the_table_on_one_world(line):
    penalty, estimator, target = line
    p = WITNESS if line in EVERYWHERE else WITNESS.on_policy
    torch.testing.assert_close(contribution(p, penalty, estimator), target(p), **EXACT)


@pytest.mark.parametrize("case", MISSES)
def test_the_same_check_rejects_what_the_table_does_not_say(case):
    penalty, ratio, target, at = case
    assert (contribution(at, penalty, plain(ratio)) - target(at)).norm() > VISIBLE


def test_at_one_token_the_divergences_coincide_and_so_do_the_estimators():
    one = WITNESS._replace(
        mdp=TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=[0.0, 1.0, 0.0]),
        theta=tensor([[0.5, 0.0, -0.5]]),
        old=tensor([[0.0, 0.5, 0.0]]),
        reference=tensor([[-0.5, 0.0, 1.0]]),
    )
    for target in (frozen, frozen_at_theta):
        torch.testing.assert_close(target(one), sequence(one), **EXACT)
    for penalty in (kl_loss(k1, 1.0, token), kl_loss(k3, 1.0, geometric_mean), kl_loss(k2, 1.0, held(token))):
        torch.testing.assert_close(contribution(one, penalty, plain()), sequence(one), **EXACT)
    for penalty in (kl_loss(k2, 1.0), kl_reward(k1, 1.0)):
        on = one.on_policy
        torch.testing.assert_close(contribution(on, penalty, plain()), sequence(on), **EXACT)
        assert (contribution(one, penalty, plain()) - sequence(one)).norm() > VISIBLE


def test_a_leave_one_out_advantage_gives_the_lines_of_the_raw_one():
    for p, ratio in ((WITNESS.on_policy, none), (WITNESS, trajectory)):
        rloo = dataclasses.replace(plain(ratio), advantage=leave_one_out())
        for penalty in (kl_reward(k1, 1.0), kl_reward(k3, 1.0)):
            found = contribution(p, penalty, rloo, group_size=2)
            torch.testing.assert_close(found, contribution(p, penalty, plain(ratio)), **EXACT)
    # Off-policy without ratio, the baseline has a mean of its own.
    rloo = dataclasses.replace(plain(), advantage=leave_one_out())
    gap = contribution(WITNESS, kl_reward(k1, 1.0), rloo, group_size=2)
    assert (gap - contribution(WITNESS, kl_reward(k1, 1.0), plain())).norm() > VISIBLE


def stopping(theta: torch.Tensor) -> Point:
    """Unequal lengths: EOS is token 1, at most three tokens."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=lambda y: 0.0)
    return Point(mdp, theta, theta, tensor([[0.0, 1.0], [1.5, -0.5], [0.0, 0.5]]))


def test_one_over_length_turns_k1_into_a_pull_on_the_length():
    p = stopping(WITNESS.theta)
    shorter = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=lambda y: 1 / len(y))
    averaged = dataclasses.replace(plain(), scale=sequence_mean)
    found = contribution(p, kl_loss(k1, 1.0), averaged)
    torch.testing.assert_close(found, policy_gradient(shorter, p.theta), **EXACT)
    assert found.norm() > VISIBLE
    # The reference does not enter.
    moved = p._replace(reference=-p.reference)
    torch.testing.assert_close(contribution(moved, kl_loss(k1, 1.0), averaged), found, **EXACT)


def test_one_over_length_leaves_the_divergence_per_token_to_whole_rows():
    p = stopping(WITNESS.theta)._replace(old=WITNESS.old)
    averaged = dataclasses.replace(plain(), scale=sequence_mean)
    per_token = expected_divergence(p.mdp, p.theta, p.reference, scale=sequence_mean).gradient
    frozen_per_token = frozen_divergence(p.mdp, p.theta, p.old, p.reference, scale=sequence_mean).gradient
    torch.testing.assert_close(contribution(p, kl_exact(1.0, trajectory), averaged), per_token, **EXACT)
    torch.testing.assert_close(contribution(p, kl_exact(1.0), averaged), frozen_per_token, **EXACT)
    for k in (k1, k3):
        assert (contribution(p, kl_loss(k, 1.0, trajectory), averaged) - per_token).norm() > VISIBLE
        assert (contribution(p, kl_loss(k, 1.0, token), averaged) - frozen_per_token).norm() > VISIBLE


def test_near_the_reference_k2_and_k3_in_the_reward_hold_nothing_back():
    def size(k: Callable, distance: float) -> float:
        p = WITNESS.on_policy
        near = p._replace(reference=p.theta + distance * (p.reference - p.theta))
        return float(contribution(near, kl_reward(k, 1.0), plain()).norm())

    for k, order in ((k1, 1), (k2, 2), (k3, 2)):
        assert size(k, 1e-4) / size(k, 0.5e-4) == pytest.approx(2**order, rel=1e-3)
    assert size(k3, 1e-4) < 1e-3 * size(k1, 1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.25, 2.0])
def test_the_penalised_gradient_is_the_derivative_of_the_penalised_objective(beta):
    for p, scale in itertools.product((WITNESS, stopping(WITNESS.theta)), (sequence_sum, sequence_mean)):

        def objective(table: list, p: Point = p, scale: Callable = scale) -> float:
            return penalised_objective(p.mdp, table, p.reference, beta, scale)

        expected = literal.central_difference(objective, p.theta.tolist())
        found = penalised_gradient(p.mdp, p.theta, p.reference, beta, scale)
        torch.testing.assert_close(found, tensor(expected), **DIFFERENCED)
        enumerated = penalised_gradient(p.mdp, p.theta, p.reference, beta, scale, "enumeration")
        torch.testing.assert_close(found, enumerated, **EXACT)


BETA = 0.5


def tilted(reward: Callable) -> tuple[TokenMDP, torch.Tensor, torch.Tensor, float]:
    """World, reference, the policy P(y) = P_ref(y) exp(r(y) / beta) / Z, and beta log Z."""
    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=3, eos=2, reward=reward)
    s, a = torch.arange(mdp.num_rows)[:, None], torch.arange(3)
    reference = ((2 * s + 3 * a) % 5).double() / 4
    rows = {begun: torch.log_softmax(reference[i], 0) for i, begun in enumerate(mdp.prefixes)}
    mass = {
        y: math.exp(sum(float(rows[y[:t]][y[t]]) for t in range(len(y))) + reward(y) / BETA)
        for y in mdp.responses
    }
    theta = torch.empty_like(reference)
    for i, before in enumerate(mdp.prefixes):
        for next_token in range(3):
            begun = (*before, next_token)
            theta[i, next_token] = math.log(sum(m for y, m in mass.items() if y[: len(begun)] == begun))
    return mdp, reference, theta, BETA * math.log(sum(mass.values()))


def test_the_tilted_reference_is_the_optimum():
    mdp, reference, theta, best = tilted(lambda y: float(y.count(0) == 1))
    assert penalised_objective(mdp, theta, reference, BETA) == pytest.approx(best, abs=EXACT["atol"])
    found = penalised_gradient(mdp, theta, reference, BETA)
    torch.testing.assert_close(found, torch.zeros_like(found), **EXACT)
    assert penalised_gradient(mdp, theta, reference, BETA, sequence_mean).norm() > VISIBLE
    assert expected_return(mdp, theta) > expected_return(mdp, reference)


def test_which_penalties_rest_at_the_optimum():
    mdp, reference, theta, _ = tilted(lambda y: float(y.count(0) == 1))

    def drift(penalty: Penalty) -> float:
        carrying = dataclasses.replace(reinforce(), penalty=penalty)
        return float(expected_gradient(mdp, theta, theta, carrying, 1, theta_ref=reference).norm())

    for penalty in (kl_reward(k1, BETA), kl_loss(k3, BETA, trajectory), kl_exact(BETA, prefix)):
        assert drift(penalty) < EXACT["atol"]
    for penalty in (kl_loss(k3, BETA, token), kl_loss(k3, BETA), kl_loss(k2, BETA), kl_reward(k3, BETA)):
        assert drift(penalty) > VISIBLE


@pytest.mark.parametrize("penalty", [kl_loss(k3, 1.0, token), kl_exact(1.0), kl_reward(k1, 1.0)])
def test_every_knob_moves_the_number(penalty):
    p = WITNESS
    base = contribution(p, penalty, plain())
    twice = dataclasses.replace(penalty, beta=2.0)
    torch.testing.assert_close(contribution(p, twice, plain()), 2 * base, **EXACT)
    others = [dataclasses.replace(penalty, ratio=trajectory)] if hasattr(penalty, "ratio") else []
    others += [dataclasses.replace(penalty, k=k2)] if hasattr(penalty, "k") else []
    for other in others:
        assert (contribution(p, other, plain()) - base).norm() > VISIBLE
    averaged = dataclasses.replace(plain(), scale=sequence_mean)
    assert (contribution(p, penalty, averaged) - base).norm() > VISIBLE


def test_the_size_of_the_group_enters_through_a_pooled_scale():
    p, pooled = stopping(WITNESS.theta), dataclasses.replace(plain(), scale=token_mean)
    one, two = (contribution(p, kl_exact(1.0), pooled, group_size=G) for G in (1, 2))
    assert (one - two).norm() > 1e-3
    # Where all lengths are equal it does not.
    one, two = (contribution(WITNESS, kl_exact(1.0), pooled, group_size=G) for G in (1, 2))
    torch.testing.assert_close(one, two, **EXACT)


def test_what_has_no_weights_for_tokens_says_so():
    carrying = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_exact(0.5))
    p = WITNESS
    with pytest.raises(ValueError, match="kl_exact is no function of the sampled tokens of a group"):
        expected_gradient(p.mdp, p.theta, p.old, carrying, 2, method="groups", theta_ref=p.reference)
    with pytest.raises(ValueError, match=r"already: give it without one"):
        penalty_gradient(p.mdp, p.theta, p.old, p.reference, kl_loss(k1, 1.0), carrying)


def test_supports_that_make_a_penalty_infinite_are_refused():
    masked = WITNESS.reference.clone()
    masked[0, 1] = -math.inf
    with pytest.raises(ValueError, match="row 0, token 1 has probability zero under theta_ref but not under"):
        contribution(WITNESS._replace(reference=masked), kl_loss(k3, 1.0), plain())
    with pytest.raises(ValueError, match="kl_to_reference is inf in row 0"):
        penalised_objective(WITNESS.mdp, WITNESS.theta, masked, 0.5)
    # theta forbids what theta_old draws: sampled estimates see an infinite log-ratio, whole rows do not.
    never = WITNESS._replace(theta=masked, reference=WITNESS.reference)
    with pytest.raises(ValueError, match=r"log-ratio to the reference at index .* is -inf"):
        contribution(never, kl_loss(k3, 1.0, token), plain())
    found = contribution(never, kl_exact(1.0, trajectory), plain())
    torch.testing.assert_close(found, sequence(never), **EXACT)
