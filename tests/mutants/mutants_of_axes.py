"""Mistakes on the axes: advantage, ratio, clip, scale."""

from collections.abc import Callable
from functools import partial

from tests.mutants.mutants import Mutant
from tests.properties import test_token_weights
from tests.unit.estimators import test_advantages, test_clipping, test_ratios, test_scales
from ticgrpo_theory.estimators import advantages, clipping, ratios, scales
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, raw, standardised
from ticgrpo_theory.estimators.clipping import by_sign_and_length, dual, saturating, two_sided, upper_only


def by_hand(advantage: advantages.Advantage) -> Callable[[], None]:
    expected = next(values for entry, values in test_advantages.BY_HAND if entry == advantage)
    return partial(test_advantages.check_by_hand, advantage, expected)


def gate(clip: clipping.Clip) -> Callable[[], None]:
    return partial(test_clipping.check_gate, *next(row for row in test_clipping.GATED if row[0] == clip))


def bounds(clip: clipping.Clip) -> Callable[[], None]:
    return partial(test_clipping.check_bounds, *next(row for row in test_clipping.BOUNDS if row[0] == clip))


def pooled(ratio: ratios.Ratio) -> Callable[[], None]:
    return partial(test_ratios.check_pooled, ratio)


ADVANTAGES = [
    Mutant(
        "standard deviation with 1/(G-1)",
        standardised.of_moments,
        "group_size - self.ddof",
        "group_size - 1",
        by_hand(standardised(0.0)),
    ),
    Mutant(
        "variance in place of the standard deviation",
        standardised.of_moments,
        ".sqrt()",
        "",
        by_hand(standardised(0.0)),
    ),
    Mutant(
        "delta left out", standardised.of_moments, "(std + self.delta)", "std", by_hand(standardised(1.0))
    ),
    Mutant(
        "one baseline for all groups",
        advantages.Advantage.__call__,
        "reward.mean(dim=-1, keepdim=True)",
        "reward.mean()",
        partial(test_token_weights.check_leading_axes, "dr_grpo"),
    ),
    Mutant(
        "groups of equal rewards not told from those whose variance is lost",
        advantages.Advantage.__call__,
        ".masked_fill(equal, 0.0)",
        "",
        partial(test_advantages.check_equal_rewards, standardised(0.0)),
    ),
    Mutant(
        "own reward left in the leave-one-out mean",
        leave_one_out.of_moments,
        " * (group_size / (group_size - 1))",
        "",
        by_hand(leave_one_out()),
    ),
    Mutant(
        "sign of the baseline flipped",
        centred.of_moments,
        "reward - mean",
        "mean - reward",
        by_hand(centred()),
    ),
    Mutant(
        "a baseline where there is none",
        raw.of_moments,
        "return reward",
        "return reward - mean",
        by_hand(raw()),
    ),
]

RATIOS = [
    Mutant(
        "log-ratio pooled over padding",
        ratios.trajectory,
        "log_ratio.where(mask, 0.0).sum(",
        "log_ratio.sum(",
        pooled(ratios.trajectory),
    ),
    Mutant(
        "trajectory sum turned into a mean",
        ratios.trajectory,
        ".sum(dim=-1, keepdim=True)",
        ".mean(dim=-1, keepdim=True)",
        pooled(ratios.trajectory),
    ),
    Mutant(
        "geometric mean over the width of the table",
        ratios.geometric_mean,
        "mask.sum(dim=-1, keepdim=True)",
        "mask.shape[-1]",
        pooled(ratios.geometric_mean),
    ),
    Mutant(
        "prefix without its last token",
        ratios.prefix,
        ".cumsum(dim=-1)",
        ".cumsum(dim=-1).sub(log_ratio)",
        pooled(ratios.prefix),
    ),
    Mutant(
        "mask of the token ratio dropped",
        ratios.token,
        "log_ratio.where(mask, 0.0)",
        "log_ratio",
        pooled(ratios.token),
    ),
]

CLIPS = [
    Mutant(
        "lower end for A >= 0",
        two_sided.bounds,
        "by_sign(positive, -math.inf, log_floor(self.eps_low))",
        "by_sign(positive, log_floor(self.eps_low), -math.inf)",
        gate(two_sided(0.2, 0.28)),
    ),
    Mutant(
        "clip on the wrong side",
        two_sided.bounds,
        "by_sign(positive, math.log1p(self.eps_high), math.inf)",
        "by_sign(positive, math.inf, math.log1p(self.eps_high))",
        gate(two_sided(0.2, 0.28)),
    ),
    Mutant(
        "eps for its logarithm",
        two_sided.bounds,
        "math.log1p(self.eps_high)",
        "self.eps_high",
        bounds(two_sided(0.2, 0.28)),
    ),
    Mutant(
        "signs of A exchanged",
        clipping.by_sign,
        "one * if_positive, one * if_negative",
        "one * if_negative, one * if_positive",
        gate(two_sided(0.2, 0.28)),
    ),
    Mutant(
        "bounds in single precision",
        clipping.by_sign,
        "dtype=torch.float64",
        "dtype=torch.float32",
        bounds(upper_only(0.28)),
    ),
    Mutant(
        "upper end for A >= 0 only",
        upper_only.bounds,
        "by_sign(positive, hi, hi)",
        "by_sign(positive, hi, math.inf)",
        gate(upper_only(0.28)),
    ),
    Mutant("no dual clip", dual.bounds, "min(math.log(self.cap), limit)", "limit", gate(dual(0.2, 0.28))),
    Mutant(
        "bound that grows like the length",
        by_sign_and_length.bounds,
        ".sqrt()",
        "",
        bounds(by_sign_and_length(0.01, 3.0, 20.0)),
    ),
    Mutant(
        "gate without clamp",
        clipping.Clip.weight,
        "v.clamp(lo, hi).exp().where((v >= lo) & (v <= hi), 0.0)",
        "v.exp() * ((v >= lo) & (v <= hi))",
        partial(test_clipping.check_bounded_stays_finite, upper_only(0.28), ratios.token),
    ),
    Mutant(
        "clamp without gate",
        clipping.Clip.weight,
        ".where((v >= lo) & (v <= hi), 0.0)",
        "",
        gate(two_sided(0.2, 0.28)),
    ),
    Mutant(
        "off at the bound itself",
        clipping.Clip.weight,
        "(v <= hi)",
        "(v < hi)",
        partial(test_clipping.check_boundary, upper_only(0.28)),
    ),
    Mutant(
        "saturating clip that switches off",
        saturating.weight,
        "return ratio(log_ratio, mask).clamp(lo, hi).exp()",
        "return Clip.weight(self, ratio, log_ratio, mask, lo, hi)",
        gate(saturating(upper_only(0.28))),
    ),
    Mutant(
        "pooled before the clamp",
        clipping.before_pooling.weight,
        "log_ratio.clamp(lo, hi)",
        "log_ratio",
        test_clipping.check_before_pooling,
    ),
    Mutant(
        "a clamped token keeps its weight",
        clipping.before_pooling.weight,
        ".where((log_ratio >= lo) & (log_ratio <= hi), 0.0)",
        "",
        test_clipping.check_before_pooling,
    ),
]

SCALES = [
    Mutant(
        "mean over tokens turned into a sum",
        scales.sequence_mean,
        "group_size * length.double()",
        "group_size + 0 * length.double()",
        partial(test_scales.check_factors, scales.sequence_mean),
    ),
    Mutant(
        "mean over responses turned into a sum",
        scales.sequence_sum,
        "1.0 / group_size",
        "1.0",
        partial(test_scales.check_factors, scales.sequence_sum),
    ),
    Mutant(
        "token mean taken response by response",
        scales.token_mean,
        "1.0 / total_length.double()",
        "1.0 / (group_size * length.double())",
        partial(test_scales.check_factors, scales.token_mean),
    ),
    Mutant(
        "longest response for the response limit",
        scales.constant,
        "group_size * horizon",
        "group_size * length.max().item()",
        partial(test_scales.check_factors, scales.constant),
    ),
]
