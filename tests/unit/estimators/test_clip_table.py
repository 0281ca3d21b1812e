"""estimators/clip_table.py: the table of every clip is the clip, and a rule of one's own has none."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT
from tests.unit.estimators.declarations import CLIPS
from ticgrpo_theory.estimators.clip_table import OPEN, ClipTable, held, switched_off
from ticgrpo_theory.estimators.clipping import (
    Clip,
    before_pooling,
    bounds_by_sign,
    by_sign_and_length,
    has_table,
    saturating,
    two_sided,
    unclipped,
    upper_only,
)
from ticgrpo_theory.estimators.ratios import token

LOG_RATIOS = [-math.inf, -30.0, -1.0, -0.25, 0.0, 0.125, 0.3, 0.75, 30.0]


def by_table(table: ClipTable, row: int, v: float, positive: bool) -> float:
    """c(v) as the head of the module says."""
    lo_plus, hi_plus, lo_minus, hi_minus, *beyond = (float(column[row]) for column in table)
    lo, hi, below, above = (lo_plus, hi_plus, *beyond[:2]) if positive else (lo_minus, hi_minus, *beyond[2:])
    return math.exp(below if v < lo else above if v > hi else v)


def check_table(clip: Clip) -> None:
    lengths = np.array([1, 4])
    table = clip.table(lengths)
    for row, length in enumerate(lengths.tolist()):
        for positive in (True, False):
            mask = torch.ones(1, length, dtype=torch.bool)
            lo, hi = (
                bound[..., None] for bound in clip.bounds(torch.tensor([positive]), torch.tensor([length]))
            )
            for v in LOG_RATIOS:
                log_ratio = torch.full((1, length), v, dtype=torch.float64)
                expected = clip.weight(token, log_ratio, mask, lo, hi)
                found = torch.full_like(expected, by_table(table, row, v, positive))
                torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("clip", [c for c in CLIPS if has_table(c)], ids=repr)
def test_the_table_of_a_clip_lists_the_weights_of_its_formula(clip):
    check_table(clip)


def test_a_table_of_the_other_rule_would_be_seen(monkeypatch):
    monkeypatch.setattr(saturating, "table", lambda self, lengths: self.clip.table(lengths))
    with pytest.raises(AssertionError):
        check_table(saturating(two_sided(0.2, 0.28)))


@dataclass(frozen=True)
class like_cispo(two_sided):
    """A clip that takes the rule of another class without deriving from it."""

    weight = saturating.weight


@dataclass(frozen=True)
class halved(two_sided):
    """A rule of its own."""

    def weight(self, ratio, log_ratio, mask, lo, hi):
        return super().weight(ratio, log_ratio, mask, lo, hi) / 2


def test_the_rule_decides_not_the_family():
    assert has_table(like_cispo(0.2, 0.2))
    check_table(like_cispo(0.2, 0.2))


@pytest.mark.parametrize("clip", [before_pooling(upper_only(0.2)), halved(0.2, 0.2)])
def test_no_table_stands_for_a_rule_of_its_own(clip):
    assert not has_table(clip)
    with pytest.raises(
        ValueError, match=rf"{type(clip).__name__} turns ratios into weights .* ask `has_table`"
    ):
        clip.table(np.array([1]))


def test_a_table_cannot_be_overridden_apart_from_the_weights():
    with pytest.raises(TypeError, match=r"other overrides `table`.*override `bounds`, or `weight`"):

        class other(two_sided):
            def table(self, lengths):
                return OPEN


def test_what_is_asked_of_a_table():
    lengths = np.array([1, 4])
    assert unclipped().table(lengths).is_open and OPEN.is_open
    assert not two_sided(0.2, 0.2).table(lengths).is_open
    grows = by_sign_and_length(0.1).table(lengths)
    assert grows.depends_on_length and not grows.is_open
    assert not two_sided(0.2, 0.2).table(lengths).depends_on_length
    with pytest.raises(ValueError, match="bounds of the clip differ between 2 lengths"):
        grows.at_every_length()
    assert switched_off((-0.5, 0.5, -1.0, 1.0)).at_every_length() == (-0.5, 0.5, -1.0, 1.0) + (-math.inf,) * 4
    assert held((-0.5, 0.5, -1.0, 1.0)).at_every_length() == (-0.5, 0.5, -1.0, 1.0) * 2


def test_the_square_of_a_weight_has_the_doubled_table():
    for table in (switched_off((-0.5, 0.25, -1.0, 0.75)), held((-0.5, 0.25, -1.0, 0.75))):
        rows = ClipTable(*(np.atleast_1d(column) for column in table))
        for positive in (True, False):
            for v in LOG_RATIOS[1:-1]:
                squared = by_table(rows.power(2), 0, 2 * v, positive)
                assert squared == pytest.approx(by_table(rows, 0, v, positive) ** 2, rel=EXACT["rtol"])


def test_the_sign_is_ignored_where_both_pairs_of_bounds_are_one():
    length = torch.tensor([1, 4])
    assert bounds_by_sign(upper_only(0.2), length).ignore_sign
    assert not bounds_by_sign(two_sided(0.2, 0.2), length).ignore_sign
    assert not bounds_by_sign(by_sign_and_length(0.1), length).ignore_sign
