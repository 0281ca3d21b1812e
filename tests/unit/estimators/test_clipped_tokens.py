"""estimators/clipped_tokens.py: which tokens a clip switches off or holds, by hand."""

import pytest
import torch

from ticgrpo_theory.estimators.clipped_tokens import clipped
from ticgrpo_theory.estimators.clipping import before_pooling, saturating, two_sided, unclipped
from ticgrpo_theory.estimators.ratios import geometric_mean, token, trajectory

# Bounds log 0.8 = -0.22 and log 1.2 = 0.18; the last token of the second response is padding.
LOG_RATIO = torch.tensor([[0.5, -0.5, 0.1], [0.5, -0.5, 0.5]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True], [True, True, False]])
POSITIVE = torch.tensor([True, False])
OUTSIDE = [[True, False, False], [False, True, False]]
NONE = [[False] * 3] * 2


def touched(clip, ratio=token) -> tuple[list, list]:
    found = clipped(clip, ratio, LOG_RATIO, MASK, POSITIVE)
    return found.off.tolist(), found.held.tolist()


def test_a_gate_switches_off_and_a_saturating_clip_holds_the_same_tokens():
    assert touched(two_sided(0.2, 0.2)) == (OUTSIDE, NONE)
    assert touched(saturating(two_sided(0.2, 0.2))) == (NONE, OUTSIDE)
    assert touched(unclipped()) == (NONE, NONE)


def test_a_pooled_ratio_is_clipped_for_the_whole_response():
    # log w' = 0.1 and 0: inside. With bounds of 5 % the first is outside.
    assert touched(two_sided(0.2, 0.2), trajectory) == (NONE, NONE)
    assert touched(two_sided(0.05, 0.05), trajectory) == ([[True] * 3, [False] * 3], NONE)


def test_a_token_clamped_before_pooling_holds_its_neighbours():
    off, held = touched(before_pooling(two_sided(0.2, 0.2)), geometric_mean)
    assert off == OUTSIDE
    assert held == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("kind", [saturating, before_pooling])
def test_bounds_at_infinity_are_no_clip_of_any_kind(kind):
    assert touched(kind(unclipped()), geometric_mean) == (NONE, NONE)
