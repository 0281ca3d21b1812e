"""exact/: any loss and any estimator is the sum over all ordered groups of its definition, or the test fails.

A random battery (`black_boxes`), and losses that people wrote (`small_losses`).
"""

import functools
import math
from types import SimpleNamespace

import pytest
import torch

from tests.oracles.by_definition import moments, policy_gradient, reuse
from tests.properties.black_box_worlds import prompts_of
from tests.properties.black_boxes import BOXES, DOUBLE, REUSED, Box, negative
from tests.properties.small_losses import LOSSES
from tests.properties.tolerances import VISIBLE
from tests.thinned import one_in, only
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.exact import expected_gradient, gradient_moments, reuse_bias
from ticgrpo_theory.exact.groups import every_group
from ticgrpo_theory.worlds import WORLDS

NAMED = {box.name: box for box in BOXES}

CANCELLING = 1e-4
"""Where E[g_hat] is smaller than this share of the root of E||g_hat||^2, errors are relative to that."""


def close(found: torch.Tensor, expected: torch.Tensor, size: float, tolerance: float) -> None:
    """||found - expected|| <= tolerance max(||expected||, CANCELLING size)."""
    scale = max(float(expected.norm()), CANCELLING * size)
    torch.testing.assert_close(float((found - expected).norm()) / scale, 0.0, atol=tolerance, rtol=0.0)


@functools.cache
def summed(box: Box) -> tuple[torch.Tensor, float]:
    """(E[g_hat], E||g_hat||^2) by the oracle."""
    setting = box.setting
    tables = (setting.prompts, setting.theta, setting.theta_old)
    mean, second = moments(*tables, box.objective, box.group_size, box.theta_ref)
    # A box whose gradient is 0 in every group would test nothing.
    assert second > 1e-6
    return mean, second


def check_expectation(box: Box) -> None:
    """E[g_hat]."""
    (mean, second), setting = summed(box), box.setting
    arguments = (setting.mdp, setting.theta, setting.theta_old, box.estimator, box.group_size)
    found = expected_gradient(*arguments, theta_ref=box.theta_ref)
    close(found, mean, math.sqrt(second), box.tolerance)


def check_by_multisets(box: Box) -> None:
    """E[g_hat], where vmap does not make ordered groups cheap, so that multisets are tried first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(every_group, "TOGETHER", 0)
        check_expectation(box)


def check_moments(box: Box) -> None:
    """E[g_hat] and E||g_hat||^2, from one sum."""
    (mean, second), setting = summed(box), box.setting
    arguments = (setting.mdp, setting.theta, setting.theta_old, box.estimator, box.group_size)
    found = gradient_moments(*arguments, theta_ref=box.theta_ref)
    close(found.mean, mean, math.sqrt(second), box.tolerance)
    assert found.second_moment == pytest.approx(second, rel=box.tolerance)


def check_reuse(box: Box, K: int, eta: float) -> None:
    """E[g_hat_k], E[grad J(theta_k)], E||g_hat_k - grad J(theta_k)||^2 and E[J(theta_k)] for k = 0..K."""
    start = box.setting.theta_old
    expected = reuse(box.setting.prompts, start, box.objective, box.group_size, K, eta, box.theta_ref)
    found = reuse_bias(box.setting.mdp, start, box.estimator, box.group_size, K, eta, theta_ref=box.theta_ref)
    for k in range(K + 1):
        size = math.sqrt(float(expected.mse[k]))
        close(found.gradient[k], expected.gradient[k], size, DOUBLE)
        close(found.target[k], expected.target[k], size, DOUBLE)
    torch.testing.assert_close(found.mse, expected.mse, atol=0.0, rtol=DOUBLE)
    torch.testing.assert_close(found.expected_return, expected.expected_return, atol=DOUBLE, rtol=DOUBLE)


@pytest.mark.parametrize("name", one_in(8, NAMED), ids=list(NAMED))
def test_any_box_is_the_sum_over_ordered_groups(name):
    check_expectation(NAMED[name])


ORDERS_SHOW = [name for name in NAMED if "many groups" in name and "one_order_of_the_best" not in name][::3]
"""Boxes of many groups; an order that matters in one multiset alone needs all orders of it."""


@pytest.mark.parametrize("name", one_in(3, ORDERS_SHOW), ids=ORDERS_SHOW)
def test_many_groups_agree_where_multisets_are_tried_first(name):
    check_by_multisets(NAMED[name])


@pytest.mark.parametrize("name", one_in(11, list(NAMED)[::3]), ids=list(NAMED)[::3])
def test_squares_of_any_box_are_the_sum_over_ordered_groups(name):
    check_moments(NAMED[name])


@pytest.mark.parametrize(
    "box, K, eta", one_in(3, REUSED), ids=lambda case: case.name if isinstance(case, Box) else None
)
def test_any_box_is_followed_through_its_inner_steps(box, K, eta):
    check_reuse(box, K, eta)


def test_the_battery_has_two_hundred_boxes_of_every_kind():
    assert len(NAMED) == len(BOXES) >= 200
    assert all(box.count > 4_000 for box in BOXES if "many groups" in box.name)
    for kind in ("of_objective", "of_loss", "ratio of", "scale of", "clip of", "advantage of", "many groups"):
        assert sum(kind in name for name in NAMED) >= 10


def test_the_same_checks_reject_the_numbers_of_another_box():
    one, other = BOXES[1], BOXES[2]
    for wrong in (other.estimator, "grpo"):
        box = Box(one.name, one.setting, one.group_size, wrong, one.objective)
        with pytest.raises(AssertionError):
            check_expectation(box)
        with pytest.raises(AssertionError):
            check_moments(box)
        with pytest.raises(AssertionError):
            check_reuse(box, 1, 0.5)


def small(name: str) -> tuple:
    """(mdp, theta, theta_old, G, objective, E[g_hat], grad J(theta)) of a loss that somebody wrote."""
    world, G, eta, objective = LOSSES[name]
    mdp = WORLDS[world].build()
    prompts, theta_old = prompts_of(mdp), WORLDS[world].theta_old(mdp)
    theta = theta_old + eta * policy_gradient(prompts, theta_old)
    mean, second = moments(prompts, theta, theta_old, objective, G)
    return mdp, theta, theta_old, G, objective, mean, second, policy_gradient(prompts, theta)


def in_terms_of_advantages(objective):
    """The objective as a loss: its own statistics of A are those of the rewards, where A = r."""

    def loss(logp, logp_old, advantages, mask):
        batch = SimpleNamespace(logp=logp, logp_old=logp_old, reward=advantages, mask=mask)
        return negative(objective(batch))

    return from_loss(loss, raw())


QUICK = ("bnpo_two_steps", "self_normalised", "longest", "padded_mean", "median_baseline")


@pytest.mark.parametrize("name", only(QUICK, LOSSES))
def test_losses_that_people_wrote(name):
    mdp, theta, theta_old, G, objective, mean, second, _ = small(name)
    for estimator in (objective, in_terms_of_advantages(objective)):
        close(expected_gradient(mdp, theta, theta_old, estimator, G), mean, math.sqrt(second), DOUBLE)
    found = gradient_moments(mdp, theta, theta_old, objective, G)
    close(found.mean, mean, math.sqrt(second), DOUBLE)
    assert found.second_moment == pytest.approx(second, rel=DOUBLE)


UNBIASED = ("bnpo_two_steps", "against_first", "second_with_first_as_baseline")


def test_three_of_them_point_along_the_gradient_and_the_others_do_not():
    for name in LOSSES:
        *_, mean, _, gradient = small(name)
        residual = (mean / mean.norm() - gradient / gradient.norm()).norm()
        assert residual < DOUBLE if name in UNBIASED else residual > VISIBLE
