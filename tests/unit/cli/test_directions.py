"""directions.py: where a gradient points, and what is said of one that leads downhill."""

import math

import pytest
import torch

from ticgrpo_theory import worlds
from ticgrpo_theory.cli.answers.directions import cosine, downhill, pointing
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.exact.answers import Problem
from ticgrpo_theory.exact.mean.known_mean import Expectation


def of(mean: list[float], gradient: list[float], lost: float = 1e-15) -> Problem:
    """A problem of which these two are known, each with this rounding."""
    problem = Problem(worlds.xor(), [[0.0, 0.0]], [[0.0, 0.0]], "grpo", 2)
    known, target = (torch.tensor([x], dtype=torch.float64) for x in (mean, gradient))
    vars(problem).update(expectation=Expectation(known, "given", rounding=lost), mean=known)
    vars(problem).update(gradient=target, gradient_rounding=lost)
    return problem


def test_the_cosine_of_two_gradients():
    for gradient, cos in (([3.0, 4.0], 1.0), ([4.0, 3.0], 24 / 25), ([-3.0, -4.0], -1.0)):
        at = of([3.0, 4.0], gradient)
        assert cosine(at, at) == pytest.approx(cos)


def test_what_is_no_more_than_its_rounding_has_no_direction():
    for at in (of([3e-16, 4e-16], [3.0, 4.0]), of([3.0, 4.0], [3e-16, 4e-16]), of([0.0, 0.0], [0.0, 0.0])):
        assert cosine(at, at) is None
    small = of([3e-16, 4e-16], [3.0, 4.0], lost=1e-20)
    assert cosine(small, small) == pytest.approx(1.0)


def test_a_multiple_points_where_its_sign_says():
    assert (pointing(0.5), pointing(-2.0), pointing(0.0)) == (1.0, -1.0, None)


@pytest.mark.parametrize("value", [None, 0.0, 1.0, -1e-10])
def test_nothing_is_said_of_what_does_not_lead_downhill(value):
    assert downhill("own", ESTIMATORS["grpo"], value) == ""


def test_a_cosine_whose_interval_holds_zero_only_may_lead_downhill():
    said = downhill("own", ESTIMATORS["grpo"], -0.2, 0.3)
    assert said.startswith("own may point DOWNHILL") and "-0.2 +- 0.3" in said
    assert downhill("own", ESTIMATORS["grpo"], -0.2, 0.1).startswith("own points DOWNHILL")


def test_the_way_out_is_that_of_the_kind_of_estimator():
    objective = Objective(lambda batch: batch.reward.sum())
    loss = from_loss(lambda logp, logp_old, advantages, mask: logp.sum(), ESTIMATORS["grpo"].advantage)
    for estimator, way_out in (
        (objective, "is maximised"),
        (loss, "is minimised"),
        (ESTIMATORS["grpo"], "J here"),
    ):
        assert way_out in downhill("own", estimator, -math.sqrt(0.5))
