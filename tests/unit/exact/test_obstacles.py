"""exact/obstacles.py: which method is exact for which estimator, and the reason in words where one is not."""

import dataclasses

import pytest

from tests.instances.worlds_by_hand import OLD, THETA, coin, eos_tree
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.clipping import two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.penalties import k1, kl_loss, kl_reward
from ticgrpo_theory.exact.obstacles import (
    dynamic_obstacle,
    gate_ignores_sign,
    groups_obstacle,
    is_unclipped,
    lengths_of,
    reduction_obstacle,
)
from ticgrpo_theory.exact.problem import CheckedProblem

WORLD = eos_tree([1.0, 0.25, 0.0, 0.75])


def problem(estimator, G=2, **options):
    return CheckedProblem(WORLD, THETA, OLD, estimator, G, **options).one


def test_lengths_are_those_that_responses_have():
    assert lengths_of(WORLD.graph).tolist() == [1, 2, 3] and lengths_of(coin().graph).tolist() == [1]


def test_what_a_clip_does_is_read_off_its_bounds():
    assert is_unclipped(unclipped(), WORLD.graph) and not is_unclipped(upper_only(0.2), WORLD.graph)
    assert gate_ignores_sign(upper_only(0.2), WORLD.graph)
    assert not gate_ignores_sign(two_sided(0.2, 0.2), WORLD.graph)


# Token ratios and unclipped ones are summed layer by layer; a clip of the whole response is not.
DYNAMIC = {
    "grpo": "",
    "trajectory_is": "",
    "prefix_is": "",
    "no_is": "",
    "tic_grpo": "its clip depends on more than one token",
    "gspo": "its clip depends on more than one token",
}


@pytest.mark.parametrize(("name", "why"), DYNAMIC.items())
def test_dynamic_programming_says_what_stands_in_its_way(name, why):
    assert dynamic_obstacle(problem(name)) == why


def test_penalties_and_callables_are_named():
    grpo = ESTIMATORS["grpo"]
    in_loss = dataclasses.replace(grpo, penalty=kl_loss(k1, 0.1))
    in_reward = dataclasses.replace(grpo, penalty=kl_reward(k1, 0.1))
    assert "summed token by token" in dynamic_obstacle(problem(in_loss, theta_ref=OLD))
    assert reduction_obstacle(problem(in_loss, theta_ref=OLD)) == ""
    assert "before the group statistics" in reduction_obstacle(problem(in_reward, theta_ref=OLD))
    assert "may couple" in reduction_obstacle(problem(lambda batch: batch.logp.sum()))


def test_groups_are_listed_up_to_a_number_of_them():
    assert groups_obstacle(problem("grpo")) == ""
    assert groups_obstacle(problem("grpo", float("inf"))) == "an infinite group cannot be enumerated"
    assert "(N, G) = (4, 2000) has C(N+G-1, G)" in groups_obstacle(problem("grpo", 2000))
