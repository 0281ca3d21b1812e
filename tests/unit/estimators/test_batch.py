"""batch.py: what a batch is, and every way in which one is refused."""

import dataclasses
import math

import pytest
import torch

from tests.properties.strategies import padded
from ticgrpo_theory.batch import Batch

MEMBERS = [([-0.5, -1.0], [-0.25, -1.5], 1.0), ([-2.0], [-2.5], 0.0)]
NAN, INF = math.nan, math.inf


def batch() -> Batch:
    return padded(MEMBERS, horizon=3, extra=1)


def changed(name: str, index: tuple[int, ...], value: float) -> Batch:
    good = batch()
    tensor = getattr(good, name).clone()
    tensor[index] = value
    return dataclasses.replace(good, **{name: tensor})


def check_log_ratio_and_length() -> None:
    assert batch().log_ratio.tolist() == [[-0.25, 0.5, 0.0], [0.5, 0.0, 0.0]]
    assert batch().length.tolist() == [2, 1]


def test_log_ratios_are_zero_on_padding_and_lengths_count_the_mask():
    check_log_ratio_and_length()


def test_a_good_batch_is_accepted_whatever_stands_at_padding():
    assert math.isnan(batch().logp[1, 1])
    batch().check()
    for name in ("logp", "logp_old"):
        for value in (NAN, INF, -INF):
            changed(name, (1, 2), value).check()


def test_a_token_that_theta_masks_is_accepted():
    changed("logp", (0, 1), -INF).check()


NOT_FINITE = [
    ("logp", (0, 1), NAN, r"logp\[0, 1\] = nan at a token of a response"),
    ("logp", (0, 1), INF, r"logp\[0, 1\] = inf at a token"),
    ("logp", (0, 1), 0.5, r"logp\[0, 1\] = 0\.5 at a token .* log-probabilities must be numbers <= 0"),
    ("logp_old", (1, 0), 1e-9, r"logp_old\[1, 0\] = 1e-09 at a token"),
    ("logp_old", (1, 0), NAN, r"logp_old\[1, 0\] = nan at a token"),
    ("logp_old", (1, 0), -INF, r"logp_old\[1, 0\] = -inf .* cannot have probability zero under theta_old"),
    ("reward", (1,), NAN, r"reward\[1\] = nan is not finite: rewards must be finite numbers"),
    ("reward", (0,), -INF, r"reward\[0\] = -inf is not finite"),
    (
        "mask",
        (1, 0),
        False,
        r"response \[1\] \(index over \*b, G\) is empty: .* keep that token in the mask or drop",
    ),
]


@pytest.mark.parametrize("name, index, value, message", NOT_FINITE)
def test_numbers_that_would_become_a_silent_nan_are_refused(name, index, value, message):
    with pytest.raises(ValueError, match=message):
        changed(name, index, value).check()


def test_rounding_of_a_certain_token_and_numbers_at_padding_may_lie_above_zero():
    changed("logp", (0, 1), 1e-14).check()
    changed("logp", (1, 2), 0.5).check()


def test_a_bad_reference_is_refused():
    reference = batch().logp.clone()
    reference[0, 0] = NAN
    with pytest.raises(ValueError, match=r"logp_ref\[0, 0\] = nan at a token"):
        dataclasses.replace(batch(), logp_ref=reference).check()


def test_a_response_longer_than_the_limit_is_refused():
    with pytest.raises(ValueError, match=r"horizon = 1, but a response has 2 tokens: horizon is the limit"):
        dataclasses.replace(batch(), horizon=1).check()
    dataclasses.replace(batch(), horizon=2).check()


SHAPES = [
    (dict(reward=torch.zeros(3)), r"reward has shape \(3,\) where logp of shape \(2, 3\) .* requires \(2,\)"),
    (dict(reward=torch.zeros(2, 1)), r"reward has shape \(2, 1\)"),
    (dict(mask=torch.ones(2, 4, dtype=torch.bool)), r"mask has shape \(2, 4\) .* requires \(2, 3\)"),
    (dict(logp_old=torch.zeros(1, 2, 3)), r"logp_old has shape \(1, 2, 3\) .* requires \(2, 3\)"),
    (dict(tokens=torch.zeros(2, 2, dtype=torch.int64)), r"tokens has shape \(2, 2\) .* requires \(2, 3\)"),
    (dict(logp_ref=torch.zeros(2, 1)), r"logp_ref has shape \(2, 1\) .* pad or index it to match"),
    (dict(logp=torch.zeros(3)), r"logp has shape \(3,\); a batch needs at least the axes \(G, T\)"),
    (dict(mask=torch.ones(2, 3, dtype=torch.int64)), r"mask has dtype torch\.int64; .* give mask\.bool\(\)"),
]


@pytest.mark.usefixtures("unchecked_signatures")
@pytest.mark.parametrize("tensors, message", SHAPES)
def test_mismatched_shapes_and_a_mask_of_numbers_are_refused(tensors, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(batch(), **tensors)
