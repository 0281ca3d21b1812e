"""clipping.py: bounds by hand, weights on both sides of them, and objectives whose derivative they are."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators.clipping import (
    Clip,
    before_pooling,
    by_sign_and_length,
    dual,
    saturating,
    two_sided,
    unclipped,
    upper_only,
)
from ticgrpo_theory.estimators.gates import inside, log_two_sided
from ticgrpo_theory.estimators.ratios import Ratio, geometric_mean, none, token, trajectory

INF = math.inf
# clip -> (lo, hi) in log space for A >= 0, then for A < 0, at a length of 4 tokens.
BOUNDS = [
    (unclipped(), (-INF, INF), (-INF, INF)),
    (two_sided(0.2, 0.28), (-INF, math.log(1.28)), (math.log(0.8), INF)),
    (two_sided(0.0, 0.0), (-INF, 0.0), (0.0, INF)),
    (upper_only(0.28), (-INF, math.log(1.28)), (-INF, math.log(1.28))),
    (dual(0.2, 0.28, 3.0, 20.0), (-20.0, math.log(1.28)), (math.log(0.8), math.log(3.0))),
    # The limit on log w takes over where it is the narrower one.
    (dual(0.2, 0.28, 3.0, 0.1), (-0.1, 0.1), (-0.1, 0.1)),
    (by_sign_and_length(0.01, 3.0, 20.0), (-20.0, 0.02), (-20.0, math.log(3.0))),
    (by_sign_and_length(100.0, 3.0, 1.0), (-1.0, 1.0), (-1.0, 1.0)),
    (log_two_sided(0.3, 0.4), (-INF, 0.4), (-0.3, INF)),
    (two_sided(10.0, 10.0), (-INF, math.log(11.0)), (-INF, INF)),
    (two_sided(1.0, 0.2), (-INF, math.log(1.2)), (-INF, INF)),
    (inside(0.5, 2.0), (-math.log(2.0), math.log(2.0)), (-math.log(2.0), math.log(2.0))),
    (inside(0.0, 2.0), (-INF, math.log(2.0)), (-INF, math.log(2.0))),
    (saturating(upper_only(0.28)), (-INF, math.log(1.28)), (-INF, math.log(1.28))),
    (before_pooling(log_two_sided(0.4, 0.4)), (-INF, 0.4), (-0.4, INF)),
]


def double(numbers: list) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def bounds_of(clip: Clip, A: list[float], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return clip.bounds(double(A) >= 0, torch.full((len(A),), length))


def check_bounds(clip: Clip, positive: tuple[float, float], negative: tuple[float, float]) -> None:
    lo, hi = bounds_of(clip, [1.0, 0.0, -1.0], 4)
    torch.testing.assert_close(lo, double([positive[0], positive[0], negative[0]]), **EXACT)
    torch.testing.assert_close(hi, double([positive[1], positive[1], negative[1]]), **EXACT)


@pytest.mark.parametrize("clip, positive, negative", BOUNDS)
def test_bounds_by_hand(clip, positive, negative):
    check_bounds(clip, positive, negative)


def weights(clip: Clip, ratio: Ratio, A: list[float], log_ratio: list[list[float]]) -> torch.Tensor:
    """Weights without A and scale of responses of full length."""
    table = double(log_ratio)
    lo, hi = clip.bounds(double(A) >= 0, torch.full((len(A),), table.shape[1]))
    return clip.weight(ratio, table, torch.ones_like(table, dtype=torch.bool), lo[:, None], hi[:, None])


BELOW, INSIDE, ABOVE, FAR = math.log(0.5), math.log(1.1), math.log(1.5), math.log(4.0)
# One token each: the weight of w = 1/2, 1.1, 3/2, 4 for A > 0, then for A < 0.
GATED = [
    (unclipped(), [0.5, 1.1, 1.5, 4.0], [0.5, 1.1, 1.5, 4.0]),
    (two_sided(0.2, 0.28), [0.5, 1.1, 0.0, 0.0], [0.0, 1.1, 1.5, 4.0]),
    (upper_only(0.28), [0.5, 1.1, 0.0, 0.0], [0.5, 1.1, 0.0, 0.0]),
    (dual(0.2, 0.28), [0.5, 1.1, 0.0, 0.0], [0.0, 1.1, 1.5, 0.0]),
    (by_sign_and_length(0.2), [0.5, 1.1, 0.0, 0.0], [0.5, 1.1, 1.5, 0.0]),
    (by_sign_and_length(0.01), [0.5, 0.0, 0.0, 0.0], [0.5, 1.1, 1.5, 0.0]),
    (saturating(upper_only(0.28)), [0.5, 1.1, 1.28, 1.28], [0.5, 1.1, 1.28, 1.28]),
    (saturating(two_sided(0.2, 0.28)), [0.5, 1.1, 1.28, 1.28], [0.8, 1.1, 1.5, 4.0]),
]


def check_gate(clip: Clip, positive: list[float], negative: list[float]) -> None:
    steps = [[v] for v in (BELOW, INSIDE, ABOVE, FAR)]
    for A, expected in ((1.0, positive), (-1.0, negative)):
        found = weights(clip, token, [A] * 4, steps)[:, 0]
        torch.testing.assert_close(found, double(expected), **EXACT)


@pytest.mark.parametrize("clip, positive, negative", GATED)
def test_weights_inside_and_outside_by_hand(clip, positive, negative):
    check_gate(clip, positive, negative)


def check_before_pooling() -> None:
    """Three tokens at 0.1, 0.7, -0.9, clamp at 0.4: A > 0 clamps 0.7 to 0.4, A < 0 clamps -0.9 to -0.4."""
    clip = before_pooling(log_two_sided(0.4, 0.4))
    found = weights(clip, geometric_mean, [1.0, -1.0], [[0.1, 0.7, -0.9]] * 2)
    up, down = math.exp((0.1 + 0.4 - 0.9) / 3), math.exp((0.1 + 0.7 - 0.4) / 3)
    torch.testing.assert_close(found, double([[up, 0.0, up], [down, down, 0.0]]), **EXACT)


def test_a_token_clamped_before_pooling_counts_for_the_others_and_is_off_itself():
    check_before_pooling()


def check_boundary(clip: Clip) -> None:
    hi = math.log1p(0.28)
    just_above = math.nextafter(hi, 1.0)
    assert weights(clip, token, [1.0, 1.0], [[hi], [just_above]]).tolist() == [[math.exp(hi)], [0.0]]


@pytest.mark.parametrize("clip", [two_sided(0.2, 0.28), upper_only(0.28), dual(0.2, 0.28)])
def test_a_ratio_exactly_at_the_bound_is_still_on(clip):
    check_boundary(clip)


@given(eighths(-1, 1), st.floats(-3, 3), st.sampled_from([0.1, 0.2, 0.28, 0.5]))
def test_the_two_sided_weight_is_the_derivative_of_the_pessimistic_minimum(A, log_w, eps):
    """d/dl min(w A, clip(w, 1 - eps, 1 + eps) A) with w = exp(l), by autograd."""
    logp = double([[log_w]]).requires_grad_()
    w = logp.exp()
    torch.minimum(w * A, w.clamp(1 - eps, 1 + eps) * A).sum().backward()
    found = A * weights(two_sided(eps, eps), token, [A], [[log_w]])
    torch.testing.assert_close(found, logp.grad, **EXACT)


@given(eighths(-1, 1), st.floats(-3, 3), st.sampled_from([1.5, 3.0]))
def test_the_dual_weight_is_the_derivative_of_the_dual_clipped_objective(A, log_w, cap):
    """d/dl max(min(w A, clip(w) A), cap A) for A < 0, min(w A, clip(w) A) for A >= 0, by autograd."""
    logp = double([[log_w]]).requires_grad_()
    w = logp.exp()
    objective = torch.minimum(w * A, w.clamp(0.8, 1.28) * A)
    if A < 0:
        objective = objective.clamp(min=cap * A)
    objective.sum().backward()
    found = A * weights(dual(0.2, 0.28, cap), token, [A], [[log_w]])
    torch.testing.assert_close(found, logp.grad, **EXACT)


def check_saturated_stays_finite() -> None:
    found = weights(saturating(upper_only(0.28)), token, [1.0, -1.0], [[1000.0, -1000.0]] * 2)
    torch.testing.assert_close(found, double([[1.28, 0.0]] * 2), **EXACT)


def test_a_saturating_clip_holds_the_bound_at_log_ratios_of_a_thousand():
    check_saturated_stays_finite()


BOUNDED = [upper_only(0.28), dual(0.2, 0.28), by_sign_and_length()]


def check_bounded_stays_finite(clip: Clip, ratio: Ratio) -> None:
    found = weights(clip, ratio, [1.0, -1.0], [[1000.0, -1000.0], [1000.0, 1000.0]])
    assert bool(torch.isfinite(found).all())
    if ratio is not none:
        assert found[1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("clip", BOUNDED)
@pytest.mark.parametrize("ratio", [token, trajectory, geometric_mean, none])
def test_bounded_clips_are_finite_at_log_ratios_of_a_thousand(clip, ratio):
    check_bounded_stays_finite(clip, ratio)


def test_bounds_grow_with_the_square_root_of_the_length():
    clip = by_sign_and_length(0.5)
    highs = [bounds_of(clip, [1.0, -1.0], n)[1] for n in (1, 4, 9, 10_000)]
    torch.testing.assert_close(torch.stack(highs)[:, 0], double([0.5, 1.0, 1.5, 20.0]), **EXACT)
    torch.testing.assert_close(torch.stack(highs)[:, 1], double([math.log(3.0)] * 4), **EXACT)


@pytest.mark.parametrize("clip", [clip for clip, *_ in BOUNDS])
def test_bounds_are_double_precision_and_contain_zero(clip):
    lo, hi = bounds_of(clip, [1.0, -1.0], 7)
    assert lo.dtype == hi.dtype == torch.float64
    assert bool(((lo <= 0) & (hi >= 0)).all())


BAD = [
    (
        lambda: two_sided(-0.5, 0.2),
        r"eps_low = -0\.5, eps_high = 0\.2: .* needs eps_low >= 0 and eps_high >= 0",
    ),
    (lambda: inside(1.2, 0.8), r"low = 1\.2, high = 0\.8: .* needs 0 <= low <= 1 <= high"),
    (lambda: inside(-0.1, 1.8), r"low = -0\.1"),
    (lambda: inside(1.1, 2.0), r"low = 1\.1"),
    (lambda: two_sided(-0.1, 0.2), r"eps_low = -0\.1"),
    (lambda: two_sided(0.2, -0.2), r"eps_high = -0\.2"),
    (lambda: two_sided(0.2, math.nan), r"eps_high = nan"),
    (lambda: upper_only(-0.28), r"eps_high = -0\.28: a clip keeps ratios"),
    (lambda: dual(-2.0, 0.28), r"eps_low = -2\.0"),
    (
        lambda: dual(0.2, 0.28, cap=1.0),
        r"cap = 1\.0, log_limit = 20\.0: dual clip needs cap > 1, log_limit > 0",
    ),
    (lambda: dual(0.2, 0.28, log_limit=0.0), r"log_limit = 0\.0"),
    (lambda: by_sign_and_length(rate=-1.0), r"rate = -1\.0, .* needs rate >= 0, cap > 1, log_limit > 0"),
    (lambda: by_sign_and_length(cap=0.5), r"cap = 0\.5"),
    (lambda: by_sign_and_length(log_limit=-1.0), r"log_limit = -1\.0"),
    (lambda: log_two_sided(-0.4, 0.4), r"lower = -0\.4, upper = 0\.4: both log-ratio limits must be >= 0"),
    (lambda: log_two_sided(0.4, math.nan), r"upper = nan"),
]


@pytest.mark.parametrize("build, message", BAD)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
