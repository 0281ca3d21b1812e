"""ratios.py: how token log-ratios are pooled, against a hand-worked table and plain loops."""

import math

import pytest
import torch
from hypothesis import given

from tests.properties.strategies import groups, ragged
from tests.properties.tolerances import EXACT, SAME_BITS
from ticgrpo_theory.estimators.ratios import Ratio, geometric_mean, none, prefix, token, trajectory

RATIOS = (none, token, prefix, trajectory, geometric_mean)

# Two responses of 3 and 2 tokens in four columns; what stands at padding must not matter.
LOG_RATIO = torch.tensor([[0.5, -0.25, 0.125, math.nan], [1.0, 0.5, math.inf, 7.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])
POOLED = {
    none: [[0, 0, 0, 0], [0, 0, 0, 0]],
    token: [[1 / 2, -1 / 4, 1 / 8, 0], [1, 1 / 2, 0, 0]],
    prefix: [[1 / 2, 1 / 4, 3 / 8, 0], [1, 3 / 2, 0, 0]],
    trajectory: [[3 / 8, 3 / 8, 3 / 8, 0], [3 / 2, 3 / 2, 0, 0]],
    geometric_mean: [[1 / 8, 1 / 8, 1 / 8, 0], [3 / 4, 3 / 4, 0, 0]],
}


def check_pooled(ratio: Ratio) -> None:
    expected = torch.tensor(POOLED[ratio], dtype=torch.float64)
    torch.testing.assert_close(ratio(LOG_RATIO, MASK), expected, **EXACT)


@pytest.mark.parametrize("ratio", RATIOS)
def test_pooled_log_ratios_by_hand(ratio):
    check_pooled(ratio)


def by_loops(ratio: Ratio, log_ratios: list[float]) -> list[float]:
    total, running = sum(log_ratios), 0.0
    pooled = []
    for one in log_ratios:
        running += one
        pooled.append(
            {
                none: 0.0,
                token: one,
                prefix: running,
                trajectory: total,
                geometric_mean: total / len(log_ratios),
            }[ratio]
        )
    return pooled


@pytest.mark.parametrize("ratio", RATIOS)
@given(case=groups())
def test_pooled_log_ratios_are_those_of_a_loop(ratio, case):
    batch = case.batch
    found = ragged(ratio(batch.logp - batch.logp_old, batch.mask), batch.mask)
    for row, (logp, logp_old, _) in zip(found, case.members, strict=True):
        expected = by_loops(ratio, [x - y for x, y in zip(logp, logp_old, strict=True)])
        assert row == pytest.approx(expected, abs=EXACT["atol"])


@pytest.mark.parametrize("ratio", RATIOS)
@given(case=groups())
def test_padding_gets_zero_and_is_never_read(ratio, case):
    batch = case.batch
    for filling in (0.0, math.nan, -math.inf, 1e300):
        pooled = ratio(batch.log_ratio.where(batch.mask, filling), batch.mask)
        torch.testing.assert_close(pooled, ratio(batch.log_ratio, batch.mask), **SAME_BITS)
        assert bool((pooled[~batch.mask] == 0).all())


@pytest.mark.parametrize("ratio", RATIOS)
def test_leading_axes_and_dtype_are_kept(ratio):
    stacked = torch.stack([LOG_RATIO, 2 * LOG_RATIO]).float()
    mask = MASK.expand(2, 2, 4)
    pooled = ratio(stacked, mask)
    assert pooled.dtype == torch.float32
    for one, alone in zip(pooled, stacked, strict=True):
        torch.testing.assert_close(one, ratio(alone, MASK), **SAME_BITS)


def test_a_token_that_theta_masks_makes_every_ratio_that_contains_it_zero():
    log_ratio = torch.tensor([[0.5, -math.inf, 1000.0]], dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert token(log_ratio, mask).exp()[0, 1] == 0
    assert prefix(log_ratio, mask).tolist() == [[0.5, -math.inf, -math.inf]]
    for ratio in (trajectory, geometric_mean):
        assert bool((ratio(log_ratio, mask) == -math.inf).all())


@given(case=groups())
def test_the_ratios_coincide_for_responses_of_one_token(case):
    log_ratio, mask = case.batch.log_ratio[:, :1], case.batch.mask[:, :1]
    for ratio in (prefix, trajectory, geometric_mean):
        torch.testing.assert_close(ratio(log_ratio, mask), token(log_ratio, mask), **SAME_BITS)


@pytest.mark.parametrize("ratio", RATIOS)
def test_no_two_ratios_are_the_same(ratio):
    for other in RATIOS:
        if other is not ratio:
            assert (ratio(LOG_RATIO, MASK) - other(LOG_RATIO, MASK)).abs().max() > 0.1
