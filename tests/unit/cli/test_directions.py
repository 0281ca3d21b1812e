"""directions.py: where a gradient points, and what is said of one that leads downhill."""

import math

import pytest
import torch

from ticgrpo_theory.cli.answers.directions import cosine, downhill, pointing
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.losses import Objective, from_loss

UP = torch.tensor([[3.0, 4.0]], dtype=torch.float64)


def test_the_cosine_of_two_gradients():
    assert cosine(UP, UP) == pytest.approx(1.0)
    assert cosine(UP, torch.tensor([[4.0, 3.0]], dtype=torch.float64)) == pytest.approx(24 / 25)
    assert cosine(UP, -UP) == pytest.approx(-1.0)
    assert cosine(UP, torch.zeros_like(UP)) is None and cosine(torch.zeros_like(UP), UP) is None


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
