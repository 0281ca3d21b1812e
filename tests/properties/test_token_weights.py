"""estimator.py: what token weights must not depend on, and what they do at the ends of the number line."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.instances.probe import PROBE
from tests.oracles.test_literal import HORIZON, RESPONSES, group_of
from tests.properties.strategies import groups, padded
from tests.properties.tolerances import EXACT, SAME_BITS, SINGLE
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.ratios import none

NAMES = sorted(FIRST)


def stacked(batches: list[Batch]) -> Batch:
    tables = {
        name: [getattr(batch, name) for batch in batches] for name in ("logp", "logp_old", "reward", "mask")
    }
    return Batch(**{name: torch.stack(parts) for name, parts in tables.items()}, horizon=batches[0].horizon)


def varied(number: int) -> list[Batch]:
    """PROBE with log-ratios and rewards scaled, responses in another order each time."""
    batches = []
    for r in range(number):
        order = torch.arange(len(RESPONSES)).roll(r)
        spread = 1 - r / (2 * number)
        logp = PROBE.logp_old + spread * (PROBE.logp - PROBE.logp_old)
        batches.append(
            Batch(logp[order], PROBE.logp_old[order], spread * PROBE.reward[order], PROBE.mask[order])
        )
    return [dataclasses.replace(batch, horizon=HORIZON) for batch in batches]


def check_leading_axes(name: str) -> None:
    batches = varied(6)
    alone = torch.stack([ESTIMATORS[name].token_weights(batch) for batch in batches])
    together = stacked(batches)
    torch.testing.assert_close(ESTIMATORS[name].token_weights(together), alone, **SAME_BITS)
    square = stacked([stacked(batches[:3]), stacked(batches[3:])])
    expected = alone.reshape(2, 3, *alone.shape[1:])
    torch.testing.assert_close(ESTIMATORS[name].token_weights(square), expected, **SAME_BITS)


@pytest.mark.parametrize("name", NAMES)
def test_one_call_on_leading_axes_is_as_many_calls_bit_for_bit(name):
    check_leading_axes(name)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_single_precision(name):
    single = padded(group_of(RESPONSES), HORIZON, extra=1, dtype=torch.float32)
    found = ESTIMATORS[name].token_weights(single)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), ESTIMATORS[name].token_weights(PROBE), **SINGLE)


def check_padding(name: str) -> None:
    expected = ESTIMATORS[name].token_weights(PROBE)
    assert bool((expected[~PROBE.mask] == 0).all())
    for filling in (0.0, 5.0, math.inf, -math.inf, -1e300):
        filled = {key: getattr(PROBE, key).where(PROBE.mask, filling) for key in ("logp", "logp_old")}
        found = ESTIMATORS[name].token_weights(dataclasses.replace(PROBE, **filled))
        torch.testing.assert_close(found, expected, **SAME_BITS)


@pytest.mark.parametrize("name", NAMES)
def test_padding_gets_zero_and_is_never_read(name):
    check_padding(name)


def check_wider(name: str) -> None:
    wide = padded(group_of(RESPONSES), HORIZON, extra=400)
    found = ESTIMATORS[name].token_weights(wide)[:, : PROBE.mask.shape[1]]
    torch.testing.assert_close(found, ESTIMATORS[name].token_weights(PROBE), **EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_a_wider_table_changes_nothing(name):
    check_wider(name)


@given(st.sampled_from(NAMES), groups(min_size=2), st.randoms(use_true_random=False))
def test_the_order_of_the_group_does_not_matter(name, case, random):
    order = list(range(len(case.members)))
    random.shuffle(order)
    batch = case.batch
    shuffled = padded([case.members[i] for i in order], case.horizon, case.extra)
    expected = ESTIMATORS[name].token_weights(batch)[order]
    torch.testing.assert_close(ESTIMATORS[name].token_weights(shuffled), expected, **EXACT)


def extreme(log_ratio: float) -> Batch:
    """Four responses of two tokens, A > 0 and A < 0, each with the log-ratio +x and -x at its first token."""
    members = []
    for reward in (1.0, 0.0):
        for x in (log_ratio, -log_ratio):
            members.append(([-1.0 + x, -1.0], [-1.0, -1.0], reward))
    return padded(members, horizon=2)


UNBOUNDED = {
    "grpo": "A < 0",
    "dapo": "A < 0",
    "dr_grpo": "A < 0",
    "gspo": "A < 0",
    "gspo_narrow": "A < 0",
    "gmpo": "A < 0",
    "trajectory_is": "A >= 0",
    "prefix_is": "A >= 0",
}


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(UNBOUNDED)))
@pytest.mark.parametrize("size", [50.0, 1000.0])
def test_bounded_clips_are_finite_at_log_ratios_of_a_thousand(name, size):
    found = ESTIMATORS[name].token_weights(extreme(size))
    assert bool(torch.isfinite(found).all()) and float(found.abs().max()) <= 3.0


def check_overflow(name: str) -> None:
    # The geometric mean over two tokens is half as large.
    size = 2000.0 if name.startswith(("gspo", "gmpo")) else 1000.0
    message = (
        rf"a token weight of the estimator \(ratio={ESTIMATORS[name].ratio.__name__}, .*\) overflows "
        rf"torch.float64 at index \[\d, 0\] \({UNBOUNDED[name]}\); the largest pooled log-ratio is 1000: "
        r".*\(upper_only, dual\)"
    )
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name].token_weights(extreme(size))
    # It is the size alone: fifty is fine.
    assert bool(torch.isfinite(ESTIMATORS[name].token_weights(extreme(50.0))).all())


@pytest.mark.parametrize("name", sorted(UNBOUNDED))
def test_a_weight_that_overflows_is_refused_with_estimator_sign_and_log_ratio(name):
    check_overflow(name)


def test_an_overflow_with_advantage_zero_is_zero():
    batch = dataclasses.replace(extreme(1000.0), reward=torch.zeros(4, dtype=torch.float64))
    assert bool((ESTIMATORS["trajectory_is"].token_weights(batch) == 0).all())


def check_masked_token(name: str) -> None:
    logp = PROBE.logp.clone()
    logp[0, 1] = -math.inf
    batch = dataclasses.replace(PROBE, logp=logp.requires_grad_())
    c = ESTIMATORS[name].token_weights(batch)
    assert bool(torch.isfinite(c).all())
    ESTIMATORS[name].objective(batch).backward()
    torch.testing.assert_close(logp.grad, c, **SAME_BITS)
    if ESTIMATORS[name].ratio is not none:
        assert math.isfinite(float(ESTIMATORS[name].objective(batch).detach()))


@pytest.mark.parametrize("name", NAMES)
def test_a_token_that_theta_masks_has_finite_weights_and_a_finite_gradient(name):
    check_masked_token(name)
