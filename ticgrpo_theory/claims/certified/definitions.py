"""Token weights of one group, written once more from their definitions, in fractions and balls.

Under integer policies ratios, gates, scales and means are fractions, so every gate is decided exactly, ties
included; only the standard deviation and the geometric mean leave the rationals. Under policies whose logits
are balls a gate that a ball leaves open is refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from flint import arb, fmpq

from ticgrpo_theory.claims.certified.rational import (
    IntegerPolicy,
    Number,
    Policy,
    Response,
    fraction,
    product,
)
from ticgrpo_theory.estimators import advantages, clipping, ratios, scales
from ticgrpo_theory.estimators.estimator import Estimator

Bound = fmpq | arb | None


@dataclass(frozen=True)
class Weighed:
    """One response of a group: what multiplies the scores of its tokens."""

    response: Response
    advantage: arb
    scale: fmpq
    ratio: list[arb]
    """The pooled ratio at every token."""
    inside: list[bool]
    """Whether the clip leaves the token on."""

    @property
    def weights(self) -> list[arb]:
        """c[t] = scale A ratio 1{inside the clip}."""
        return [
            arb(self.scale) * self.advantage * w if on else arb(0)
            for w, on in zip(self.ratio, self.inside, strict=True)
        ]


def weights_of_group(
    estimator: Estimator,
    group: Sequence[Response],
    current: Policy,
    behaviour: IntegerPolicy,
    moments: tuple[arb, arb],
    horizon: int,
) -> list[list[arb]]:
    """c[i][t] of a whole group, by definition."""
    return [each.weights for each in weighed(estimator, group, current, behaviour, moments, horizon)]


def weighed(
    estimator: Estimator,
    group: Sequence[Response],
    current: Policy,
    behaviour: IntegerPolicy,
    moments: tuple[arb, arb],
    horizon: int,
) -> list[Weighed]:
    """Advantage, scale, ratios and gates of every response of a group."""
    A = group_advantages(cast(advantages.Advantage, estimator.advantage), [y.reward for y in group], moments)
    lengths = [len(y.tokens) for y in group]
    found = []
    for y, advantage, length in zip(group, A, lengths, strict=True):
        token = [p / q for p, q in zip(y.token_probs(current), y.token_probs(behaviour), strict=True)]
        scale = response_scale(estimator.scale, length, sum(lengths), len(group), horizon)
        lo, hi = ratio_bounds(estimator.clip, bool(advantage >= 0), length)
        pooled = [pooled_ratio(estimator.ratio, token, t) for t in range(length)]
        inside = [
            (lo is None or at_most(power_of(lo, n), w)) and (hi is None or at_most(w, power_of(hi, n)))
            for w, n in pooled
        ]
        found.append(Weighed(y, advantage, scale, [arb(w).root(n) for w, n in pooled], inside))
    return found


def at_most(x: Number, y: Number) -> bool:
    """x <= y, decided: fractions exactly, balls where they do not overlap."""
    if bool(x <= y):
        return True
    if bool(x > y):
        return False
    raise ValueError(f"{x} <= {y} is open at this precision: choose a witness farther from the clip")


def power_of(x: Number, n: int) -> Number:
    return x if n == 1 else x**n


def pooled_ratio(ratio: ratios.Ratio, token: Sequence[Number], t: int) -> tuple[Number, int]:
    """(w, n) where the pooled ratio at token t is the n-th root of w."""
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


def ratio_bounds(clip: clipping.Clip, positive: bool, length: int) -> tuple[Bound, Bound]:
    """(lo, hi) on the ratio itself; None where unbounded."""
    if isinstance(clip, clipping.unclipped):
        return None, None
    if isinstance(clip, clipping.upper_only):
        return None, above_one(clip.eps_high)
    if isinstance(clip, clipping.two_sided):
        return (None, above_one(clip.eps_high)) if positive else (1 - fraction(clip.eps_low), None)
    if isinstance(clip, clipping.by_sign_and_length):
        limit = arb(fraction(clip.log_limit)).exp()
        upper = (arb(fraction(clip.rate)) * arb(length).sqrt()).exp() if positive else fraction(clip.cap)
        return 1 / limit, upper
    raise ValueError(f"no certificate for the clip {clip!r}: state it in ratio_bounds first")


def above_one(eps: float) -> fmpq | None:
    """1 + eps; None where eps is infinite."""
    return None if eps == math.inf else 1 + fraction(eps)


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
        std = group_deviation(rewards, advantage.ddof)
        if std is None:
            return [arb(0)] * G
        return [arb(r - mean) / (std + arb(fraction(advantage.delta))) for r in rewards]
    raise ValueError(f"no certificate for the advantage {advantage!r}: state it in group_advantages first")


def group_deviation(rewards: Sequence[fmpq], ddof: int = 0) -> arb | None:
    """sigma_G with 1/(G - ddof); None where all rewards are equal."""
    mean = sum(rewards, fmpq(0)) / len(rewards)
    variance = sum(((r - mean) ** 2 for r in rewards), fmpq(0)) / (len(rewards) - ddof)
    return None if variance == 0 else arb(variance).sqrt()
