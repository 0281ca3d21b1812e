"""exact/expectation.py: callables, losses and axes of one's own are exact or refused, never guessed at."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings

from tests.instances.reference_instance import BINARY, OLD, TERNARY, THETA
from tests.oracles import definitions
from tests.properties.strategies import mdps_with_two_policies
from tests.properties.tolerances import EXACT, VISIBLE
from tests.unit.estimators.test_losses import (
    INSIDE,
    OUTSIDE,
    sequence_mean_loss,
    token_mean_loss,
    trajectory_loss,
)
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, standardised
from ticgrpo_theory.estimators.clipping import saturating, upper_only
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.ratios import prefix, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import expected_gradient

STD = standardised(delta=1e-6)


@dataclasses.dataclass(frozen=True)
class mirrored(saturating):
    """A clip with a rule of its own: a ratio beyond the upper bound counts by its inverse."""

    def weight(self, ratio, log_ratio, mask, lo, hi):
        """exp(-v) beyond hi, exp(v) below."""
        v = ratio(log_ratio, mask)
        return torch.where(v > hi, -v, v).exp()


@pytest.mark.parametrize("ratio", [token, trajectory, prefix])
def test_a_clip_with_a_rule_of_its_own_is_not_taken_for_its_bounds(ratio):
    estimator = Estimator(ratio, standardised(0.0), mirrored(upper_only(0.2)), sequence_mean)
    expected = expected_gradient(BINARY, THETA, OLD, estimator, 3, "groups")
    found = expected_gradient(BINARY, THETA, OLD, estimator, 3, "enumeration")
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(expected_gradient(BINARY, THETA, OLD, estimator, 3), expected, **EXACT)
    with pytest.raises(
        ValueError, match=r"'dynamic_programming' is not .* a rule of its own; use method='enum"
    ):
        expected_gradient(BINARY, THETA, OLD, estimator, 3, "dynamic_programming")
    held = dataclasses.replace(estimator, clip=saturating(upper_only(0.2)))
    assert float((expected_gradient(BINARY, THETA, OLD, held, 3) - expected).abs().max()) > VISIBLE


LOSSES = [("grpo", sequence_mean_loss, STD), ("trajectory_is", trajectory_loss, leave_one_out())]


@pytest.mark.parametrize("name, loss, advantage", LOSSES)
def test_a_trainers_loss_has_the_expectation_of_the_estimator_it_implements(name, loss, advantage):
    for mdp in (BINARY, TERNARY):
        expected = expected_gradient(mdp, THETA, OLD, name, 3)
        for method in ("enumeration", "groups"):
            found = expected_gradient(mdp, THETA, OLD, from_loss(loss, advantage), 3, method)
            torch.testing.assert_close(found, expected, **EXACT)


@settings(max_examples=settings().max_examples // 5)
@given(mdps_with_two_policies(largest=4))
def test_the_same_on_any_world(case):
    for name, loss, advantage in LOSSES:
        expected = expected_gradient(case.mdp, case.theta, case.theta_old, name, 2)
        for method in ("enumeration", "groups"):
            estimator = from_loss(loss, advantage)
            found = expected_gradient(case.mdp, case.theta, case.theta_old, estimator, 2, method)
            torch.testing.assert_close(found, expected, **EXACT)


def test_a_mean_over_the_tokens_of_a_group_couples_it_and_is_exact_by_groups():
    loss = from_loss(token_mean_loss, STD)
    expected = expected_gradient(BINARY, THETA, OLD, "dapo", 3)
    torch.testing.assert_close(expected_gradient(BINARY, THETA, OLD, loss, 3), expected, **EXACT)


def test_the_score_of_a_loss_is_taken_where_it_says():
    at_old = from_loss(
        lambda logp, logp_old, A, mask: -((A[:, None] * logp * mask).sum(-1) / mask.sum(-1)).mean(),
        STD,
        old,
    )
    for method in ("enumeration", "groups"):
        found = expected_gradient(BINARY, THETA, OLD, at_old, 3, method)
        torch.testing.assert_close(found, expected_gradient(BINARY, THETA, OLD, "stale", 3), **EXACT)


@pytest.mark.parametrize("loss", OUTSIDE)
def test_losses_outside_the_one_response_form_are_refused_by_it_and_exact_by_groups(loss):
    estimator = from_loss(loss, centred())
    message = (
        rf"loss {loss.__name__}, .*its weights are not those of single responses: .* use method='groups'"
    )
    with pytest.raises(ValueError, match=message):
        expected_gradient(BINARY, THETA, OLD, estimator, 3, "enumeration")
    with pytest.raises(
        ValueError, match=r"method='dynamic_programming' .*callable has no declared ratio and clip"
    ):
        expected_gradient(BINARY, THETA, OLD, estimator, 3, "dynamic_programming")
    expected = expected_gradient(BINARY, THETA, OLD, estimator, 3, "groups")
    torch.testing.assert_close(expected_gradient(BINARY, THETA, OLD, estimator, 3), expected, **EXACT)


@pytest.mark.parametrize("loss", INSIDE)
def test_losses_affine_in_their_advantages_reduce_to_one_response_where_asked_by_name(loss):
    estimator = from_loss(loss, centred())
    expected = expected_gradient(BINARY, THETA, OLD, estimator, 3, "groups")
    found = expected_gradient(BINARY, THETA, OLD, estimator, 3, "enumeration", explain=True)
    torch.testing.assert_close(found.value, expected, **EXACT)
    assert "assumed, checked on" in found.assumed


def self_normalised(batch: Batch) -> torch.Tensor:
    """sum_i softmax_i(log w') r_i."""
    log_w = (batch.logp - batch.logp_old).where(batch.mask, 0.0).sum(-1)
    return (torch.softmax(log_w, dim=0) * batch.reward).sum()


def self_normalised_weights(group, horizon) -> list[list[float]]:
    """d/dl of sum_i p_i r_i with p = softmax(log w'): p_i (r_i - sum_j p_j r_j), the same for every token."""
    ratios = [math.exp(sum(x - y for x, y in zip(new, old_, strict=True))) for new, old_, _ in group]
    p = [w / sum(ratios) for w in ratios]
    mean = sum(w * r for w, (_, _, r) in zip(p, group, strict=True))
    return [[w * (r - mean)] * len(new) for w, (new, _, r) in zip(p, group, strict=True)]


def first_against_second(batch: Batch) -> torch.Tensor:
    """An objective that tells the members of a group apart: the first pushes against the second."""
    log_p = batch.logp.where(batch.mask, 0.0).sum(-1)
    return (batch.reward[0] - batch.reward[1]) * (log_p[0] - 0.5 * log_p[1])


def first_against_second_weights(group, horizon) -> list[list[float]]:
    gap = group[0][2] - group[1][2]
    factors = [gap, -0.5 * gap] + [0.0] * (len(group) - 2)
    return [[c] * len(new) for c, (new, _, _) in zip(factors, group, strict=True)]


BOXES = [(self_normalised, self_normalised_weights), (first_against_second, first_against_second_weights)]


@pytest.mark.parametrize("objective, weights", BOXES)
@settings(max_examples=settings().max_examples // 5)
@given(case=mdps_with_two_policies(largest=4))
def test_black_boxes_are_the_sum_over_ordered_groups(objective, weights, case):
    expected = sum(
        weight
        * torch.tensor(
            definitions.expected_gradient(
                world, case.theta, case.theta_old, weights, 3, groups=definitions.ordered_groups
            ),
            dtype=torch.float64,
        )
        for weight, world in case.prompts
    )
    found = expected_gradient(case.mdp, case.theta, case.theta_old, objective, 3)
    torch.testing.assert_close(found, expected, **EXACT)


def test_a_black_box_is_refused_one_response_at_a_time_and_at_infinity():
    with pytest.raises(
        ValueError, match=r"a callable objective may couple the responses of a group in any way"
    ):
        expected_gradient(BINARY, THETA, OLD, self_normalised, 3, "enumeration")
    with pytest.raises(ValueError, match=r"an infinite group cannot be enumerated"):
        expected_gradient(BINARY, THETA, OLD, ESTIMATORS["grpo"], math.inf, "groups")


def test_an_objective_that_changes_its_mind_is_refused():
    noise = iter(range(10**6))

    def restless(batch: Batch) -> torch.Tensor:
        return next(noise) * batch.logp[0, 0]

    with pytest.raises(
        ValueError, match=r"gives other token weights to the same group the second time .* switch off dropout"
    ):
        expected_gradient(BINARY, THETA, OLD, restless, 2)
