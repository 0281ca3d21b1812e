"""Sixteen wrong losses are found, each by its first line, and none of twenty right ones is accused."""

import re

import pytest

from tests.thinned import only
from tests.unit.check.right_losses import RIGHT
from tests.unit.check.wrong_losses import WRONG
from ticgrpo_theory.check import check_loss
from ticgrpo_theory.check.questions import ROWS

NAMED = {loss.__name__: loss for loss in WRONG}
QUICK = ("ascends", "all_detached", "shifted_mask", "token_mean_of_piece", "no_epsilon", "sequence_mean")


@pytest.mark.parametrize("name", only(QUICK, NAMED))
def test_a_wrong_loss_is_blamed_for_its_fault(name):
    report = check_loss(NAMED[name], seconds=300.0)
    assert re.match(WRONG[NAMED[name]], report.verdict), report.verdict
    assert [row.name for row in report.rows] == list(ROWS)


@pytest.mark.parametrize("name", only(("token_clip", "wide", "skips", "trajectory_is"), RIGHT))
def test_a_right_loss_is_not_accused(name):
    report = check_loss(RIGHT[name], name=name, seconds=300.0)
    assert report.verdict.startswith("UNBIASED on policy"), report.verdict
    failing = {row.name for row in report.rows if row.holds is False}
    # What a drift costs is said of nearly every loss, and blamed on none.
    assert failing <= {"unbiased_off_policy"}
    assert not any(row.holds is None for row in report.rows if row.name != "sampler"), report.rows
