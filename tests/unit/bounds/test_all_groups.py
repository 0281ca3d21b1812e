"""C2*: expected moves over all groups, and runs with an acting clip certified by them."""

import dataclasses

import pytest
import torch

from tests.properties.tolerances import EXACT, VISIBLE
from tests.thinned import only
from tests.unit.bounds.test_certificates import FAR, XOR, run
from ticgrpo_theory.bounds import (
    check_c2_all_groups,
    instance_constants,
)
from ticgrpo_theory.bounds.all_groups import expected_moves
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, grpo, tic_grpo_eq11
from ticgrpo_theory.exact import gradient_moments, reuse_bias
from ticgrpo_theory.worlds import WORLDS


def check_moves(estimator, mdp, theta, K: int) -> None:
    """E Delta against the sum of the exact expected inner gradients over all groups."""
    c = instance_constants(mdp, estimator, 3, 0.5, K)
    found = expected_moves(c, torch.stack(theta))
    for i, table in enumerate(theta):
        steps = reuse_bias(mdp, table, estimator, 3, K - 1, 0.5).gradient
        torch.testing.assert_close(found.mean[i], 0.5 * steps.sum(dim=0), **EXACT)
        one = instance_constants(mdp, estimator, 3, 0.5, 1)
        second = gradient_moments(mdp, table, table, estimator, 3).second_moment
        square = expected_moves(one, table[None]).second_moment[0]
        assert square.item() == pytest.approx(0.25 * second, abs=1e-12)


def check_moves_of_one_row() -> None:
    check_moves(ESTIMATORS["tic_grpo"], XOR, [torch.tensor(FAR, dtype=torch.float64)], 3)


def test_expected_moves_are_those_of_the_enumeration_at_one_policy():
    theta = [torch.tensor(x, dtype=torch.float64) for x in (FAR, [[0.2, 0.4]], [[-1.0, 0.5]])]
    check_moves(grpo(delta=0.0), XOR, theta, 4)
    check_moves(ESTIMATORS["dapo"], WORLDS["length-trap"].build(), theta, 2)
    check_moves_of_one_row()


def test_worlds_that_are_too_large_for_all_groups_are_refused():
    mdp = WORLDS["right-answer"].build()
    c = instance_constants(mdp, "grpo", 8, 0.1, 4)
    with pytest.raises(ValueError, match=r"N = 27 responses, G = 8, K = 4 ask for .* more than MAX_STEPS"):
        expected_moves(c, torch.zeros(10, mdp.num_rows, mdp.vocab_size, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"2 prompts: all groups of an outer step are followed for one prompt"
    ):
        two = WORLDS["prompt-trap"].build()
        expected_moves(instance_constants(two, "grpo", 2, 0.1, 1), torch.zeros(1, 1, 2, dtype=torch.float64))


# Bound over left side with an acting clip, G = 4, K = 4, by eta K: printed without the length of the run.
ALL_GROUPS = [
    (grpo(0.2, 0.2, 0.0), 0.1, 1.17),
    (grpo(0.2, 0.2, 0.0), 0.3, 1.74),
    (grpo(0.2, 0.2, 0.0), 1.0, 2.22),
    (tic_grpo_eq11(0.2, 0.0), 0.1, 1.17),
    (tic_grpo_eq11(0.2, 0.0), 0.3, 1.74),
    (tic_grpo_eq11(0.2, 0.0), 1.0, 2.17),
]
IDS = [f"{name} {span}" for name in ("grpo", "tic") for span in (0.1, 0.3, 1.0)]


@pytest.mark.parametrize(("estimator", "span", "ratio"), only([ALL_GROUPS[1]], ALL_GROUPS), ids=IDS)
def test_all_groups_certify_runs_with_an_acting_clip(estimator, span, ratio):
    """250 outer steps come within 3 % of every printed ratio; 100 and 400 do not."""
    c = instance_constants(XOR, estimator, 4, span / 4, 4)
    found = check_c2_all_groups(c, run(XOR, FAR, estimator, 4, span / 4, 4, outer_steps=250, replicates=12))
    assert found.holds and found.standard_errors > 3
    assert float(found.rhs.mean() / found.lhs.mean()) == pytest.approx(ratio, rel=0.03)


@pytest.mark.parametrize("estimator", only([ALL_GROUPS[2][0]], [ALL_GROUPS[2][0], ALL_GROUPS[5][0]]))
def test_the_same_check_rejects_half_the_curvature_where_steps_are_large(estimator):
    c = instance_constants(XOR, estimator, 4, 1.0 / 4, 4)
    flat = dataclasses.replace(c, values={**c.values, "L_J": c.L_J / 2 * 0.8})
    trace = run(XOR, FAR, estimator, 4, 1.0 / 4, 4, outer_steps=100, replicates=8)
    assert float((check_c2_all_groups(flat, trace).margin).mean()) < -VISIBLE
