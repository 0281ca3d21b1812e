"""Token weights of one group, written once more from their definitions, in fractions and balls.

Ratios, gates, scales and means are fractions, so every gate is decided exactly, ties included; only the
standard deviation and the geometric mean leave the rationals.
"""

from collections.abc import Sequence

from flint import arb, fmpq

from ticgrpo_theory.certified.rational import IntegerPolicy, Response, fraction, product
from ticgrpo_theory.estimators import advantages, clipping, ratios, scales
from ticgrpo_theory.estimators.estimator import Estimator


def weights_of_group(
    estimator: Estimator,
    group: Sequence[Response],
    current: IntegerPolicy,
    behaviour: IntegerPolicy,
    moments: tuple[arb, arb],
    horizon: int,
) -> list[list[arb]]:
    """c[i][t] of a whole group, by definition: scale A weight 1{inside the clip}."""
    A = group_advantages(estimator.advantage, [y.reward for y in group], moments)
    lengths = [len(y.tokens) for y in group]
    c = []
    for y, advantage, length in zip(group, A, lengths, strict=True):
        token = [p / q for p, q in zip(y.token_probs(current), y.token_probs(behaviour), strict=True)]
        scale = response_scale(estimator.scale, length, sum(lengths), len(group), horizon)
        lo, hi = ratio_bounds(estimator.clip, bool(advantage >= 0))
        pooled = [pooled_ratio(estimator.ratio, token, t) for t in range(length)]
        inside = [(lo is None or w >= lo**power) and (hi is None or w <= hi**power) for w, power in pooled]
        c.append(
            [
                arb(scale) * advantage * arb(w).root(power) if kept else arb(0)
                for (w, power), kept in zip(pooled, inside, strict=True)
            ]
        )
    return c


def pooled_ratio(ratio: ratios.Ratio, token: Sequence[fmpq], t: int) -> tuple[fmpq, int]:
    """(w, n) where the pooled ratio at token t is the n-th root of the fraction w."""
    if ratio is ratios.none:
        return fmpq(1), 1
    if ratio is ratios.token:
        return token[t], 1
    if ratio is ratios.prefix:
        return product(token[: t + 1]), 1
    if ratio is ratios.trajectory:
        return product(token), 1
    if ratio is ratios.geometric_mean:
        return product(token), len(token)
    raise ValueError(f"no certificate for the ratio {ratio!r}: state it in pooled_ratio first")


def ratio_bounds(clip: clipping.Clip, positive: bool) -> tuple[fmpq | None, fmpq | None]:
    """(lo, hi) on the ratio itself; None where unbounded."""
    if isinstance(clip, clipping.unclipped):
        return None, None
    if isinstance(clip, clipping.upper_only):
        return None, 1 + fraction(clip.eps_high)
    if isinstance(clip, clipping.two_sided):
        return (None, 1 + fraction(clip.eps_high)) if positive else (1 - fraction(clip.eps_low), None)
    raise ValueError(f"no certificate for the clip {clip!r}: state it in ratio_bounds first")


def response_scale(scale: scales.Scale, length: int, total: int, group_size: int, horizon: int) -> fmpq:
    if scale is scales.sequence_mean:
        return fmpq(1, group_size * length)
    if scale is scales.token_mean:
        return fmpq(1, total)
    if scale is scales.sequence_sum:
        return fmpq(1, group_size)
    if scale is scales.constant:
        return fmpq(1, group_size * horizon)
    raise ValueError(f"no certificate for the scale {scale!r}: state it in response_scale first")


def group_advantages(
    advantage: advantages.Advantage, rewards: Sequence[fmpq], moments: tuple[arb, arb]
) -> list[arb]:
    """A[i] of one group; `moments` are mu and sigma of the reward under theta_old."""
    G = len(rewards)
    mean = sum(rewards, fmpq(0)) / G
    if isinstance(advantage, advantages.raw):
        return [arb(r) for r in rewards]
    if isinstance(advantage, advantages.centred):
        return [arb(r - mean) for r in rewards]
    if isinstance(advantage, advantages.leave_one_out):
        return [arb((r - mean) * G / (G - 1)) for r in rewards]
    if isinstance(advantage, advantages.population):
        mu, sigma = moments
        return [(arb(r) - mu) / (sigma + arb(fraction(advantage.delta))) for r in rewards]
    if isinstance(advantage, advantages.standardised):
        variance = sum(((r - mean) ** 2 for r in rewards), fmpq(0)) / (G - advantage.ddof)
        if variance == 0:
            return [arb(0)] * G
        std = arb(variance).sqrt() + arb(fraction(advantage.delta))
        return [arb(r - mean) / std for r in rewards]
    raise ValueError(f"no certificate for the advantage {advantage!r}: state it in group_advantages first")
