"""Axis `clip`: where the weight of a token is switched off, or held.

Every clip is a frozen dataclass. `bounds(positive, length)` gives lo, hi in log space for responses with
A >= 0 (`positive` True) and A < 0, and is the one home of every clip: torch formulas read its numbers,
dynamic programming and compiled passes read `table(lengths)`, which adds what lies beyond them.
`weight(ratio, log_ratio, mask, lo, hi)` turns bounds into token weights:

    gated (the rule)   exp(clamp(v, lo, hi)) * (lo <= v <= hi),   v = ratio(log_ratio)
    saturating         exp(clamp(v, lo, hi)): the weight is held at the bound and never switched off
    before_pooling     exp(ratio(clamp(l, lo, hi))) * (lo <= l <= hi): clamped token by token, then pooled

The clamp precedes the exponential, so log-ratios of +-1000 give 0 or the bound, never NaN.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators import clip_table
from ticgrpo_theory.estimators.clip_table import ClipTable, SignedBounds
from ticgrpo_theory.estimators.properties import Reads, declared, declared_call, reads
from ticgrpo_theory.estimators.ratios import Ratio
from ticgrpo_theory.inputs.numbers import number_or_nan

Bounds = tuple[Tensor, Tensor]


def by_sign(
    positive: Bool[Tensor, "*b G"], if_positive: float | Tensor, if_negative: float | Tensor
) -> Float[Tensor, "*b G"]:
    """`if_positive` where A >= 0, `if_negative` where A < 0, in float64.

    Two bare Python floats in torch.where would give float32 and an error of 1e-7 in every bound.
    """
    one = torch.ones(positive.shape, dtype=torch.float64, device=positive.device)
    return torch.where(positive, one * if_positive, one * if_negative)


def check_epsilons(eps_low: float, eps_high: float) -> None:
    if not number_or_nan(eps_low) >= 0 or not number_or_nan(eps_high) >= 0:
        raise ValueError(
            f"eps_low = {eps_low!r}, eps_high = {eps_high!r}: a clip keeps ratios in [1 - eps_low, 1 + "
            f"eps_high], which needs eps_low >= 0 and eps_high >= 0; from eps_low = 1 on nothing is too small"
        )


def log_floor(eps_low: float) -> float:
    """log(1 - eps_low); -inf from eps_low = 1 on, where no ratio is too small."""
    return math.log1p(-eps_low) if eps_low < 1 else -math.inf


def inner_bounds(clip: "saturating | before_pooling") -> Reads | None:
    """A clip around another one reads for its bounds what that one reads."""
    return declared(type(clip.clip).bounds, clip.clip)


def bounds_of(clip: "Clip") -> object:
    """The function that computes the bounds: of the innermost clip, where a clip takes those of another."""
    while type(clip).bounds in (saturating.bounds, before_pooling.bounds):
        clip = clip.clip  # type: ignore[attr-defined]
    return type(clip).bounds


@dataclass(frozen=True)
class Clip:
    """The common part: the gated rule."""

    def __init_subclass__(cls) -> None:
        if cls.table is not Clip.table:
            raise TypeError(
                f"{cls.__name__} overrides `table`, which must say what `bounds` and `weight` compute: "
                f"override `bounds`, or `weight`, and leave `table` to follow"
            )

    def declarations(self, ratio: Ratio) -> dict[str, tuple[object, Reads | None]]:
        """What pooling, bounds and the rule from ratios to weights declare that they read."""
        kind = type(self)
        return {
            "its ratio": (ratio, declared_call(ratio)),
            "the bounds of its clip": (bounds_of(self), declared(kind.bounds, self)),
            "the weights of its clip": (kind.weight, declared(kind.weight, self)),
        }

    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        raise TypeError(f"{type(self).__name__} defines no bounds")

    def table(self, lengths: NDArray[np.int64]) -> ClipTable:
        """The bounds for either sign of A and the weights beyond them, at lengths [n].

        Raises ValueError where `has_table` is False: `weight` is then a rule of its own.
        """
        beyond = TABLES.get(type(self).weight)
        if beyond is None:
            raise ValueError(
                f"{type(self).__name__} turns ratios into weights by a rule of its own, for which no table "
                f"of bounds stands; ask `has_table` first, and evaluate its `weight` where there is none"
            )
        return beyond(bounds_by_sign(self, torch.from_numpy(np.ascontiguousarray(lengths))))

    @reads(Reads.NOTHING)
    def weight(
        self,
        ratio: Ratio,
        log_ratio: Float[Tensor, "*b G T"],
        mask: Bool[Tensor, "*b G T"],
        lo: Float[Tensor, "*b G 1"],
        hi: Float[Tensor, "*b G 1"],
    ) -> Float[Tensor, "*b G T"]:
        """exp(clamp(v, lo, hi)) * (lo <= v <= hi)."""
        v = ratio(log_ratio, mask)
        return v.clamp(lo, hi).exp().where((v >= lo) & (v <= hi), 0.0)


@dataclass(frozen=True)
class unclipped(Clip):
    """No clip: every weight is exp(v)."""

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        return by_sign(positive, -math.inf, -math.inf), by_sign(positive, math.inf, math.inf)


@dataclass(frozen=True)
class two_sided(Clip):
    """A >= 0: w <= 1 + eps_high; A < 0: w >= 1 - eps_low. A < 0 with a large w is not bounded.

    Source: arXiv:1707.06347 v2 (PPO), Eq. 7; with eps_low < eps_high arXiv:2503.14476 v2 (DAPO), Eq. 8.
    """

    eps_low: float
    eps_high: float

    def __post_init__(self) -> None:
        check_epsilons(self.eps_low, self.eps_high)

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        return (
            by_sign(positive, -math.inf, log_floor(self.eps_low)),
            by_sign(positive, math.log1p(self.eps_high), math.inf),
        )


@dataclass(frozen=True)
class upper_only(Clip):
    """w <= 1 + eps_high for either sign of A.  Source: arXiv:2508.02833 v2, Eq. 9."""

    eps_high: float

    def __post_init__(self) -> None:
        check_epsilons(0.0, self.eps_high)

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        hi = math.log1p(self.eps_high)
        return by_sign(positive, -math.inf, -math.inf), by_sign(positive, hi, hi)


@dataclass(frozen=True)
class dual(Clip):
    """As two_sided, with w <= cap for A < 0, and |log w| <= log_limit for either sign.

    Source: arXiv:1912.09729 v3 (dual-clip PPO), Eq. 5; the limit on log w is that of verl 0.9.1, where
    log-ratios are clamped at 20 before the exponential and so carry no gradient outside.
    """

    eps_low: float
    eps_high: float
    cap: float = 3.0
    log_limit: float = 20.0

    def __post_init__(self) -> None:
        check_epsilons(self.eps_low, self.eps_high)
        if not number_or_nan(self.cap) > 1 or not number_or_nan(self.log_limit) > 0:
            raise ValueError(
                f"cap = {self.cap!r}, log_limit = {self.log_limit!r}: dual clip needs cap > 1, log_limit > 0"
            )

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        limit = self.log_limit
        lo = by_sign(positive, -limit, max(log_floor(self.eps_low), -limit))
        hi = by_sign(positive, min(math.log1p(self.eps_high), limit), min(math.log(self.cap), limit))
        return lo, hi


@dataclass(frozen=True)
class by_sign_and_length(Clip):
    """|log w| <= log_limit; A >= 0: w <= exp(rate sqrt(length)); A < 0: w <= cap.

    Differs from Eq. 9 of arXiv:2508.02833 v2 although it is that paper's released loss: the upper bound grows
    with the response, and for A < 0 PPO's max() undoes it, so that only the dual clip at `cap` is left.
    Source: the loss `tic-grpo` of github.com/pangleipll/dynamic_sen_clip, commit 3b37d82.
    """

    rate: float = 0.01
    cap: float = 3.0
    log_limit: float = 20.0

    def __post_init__(self) -> None:
        rate, cap, limit = map(number_or_nan, (self.rate, self.cap, self.log_limit))
        if not rate >= 0 or not cap > 1 or not limit > 0:
            raise ValueError(
                f"rate = {self.rate!r}, cap = {self.cap!r}, log_limit = {self.log_limit!r}: "
                f"needs rate >= 0, cap > 1, log_limit > 0"
            )

    @reads(Reads.OWN_RESPONSE)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        upper = (self.rate * length.double().sqrt()).clamp(max=self.log_limit)
        lo = by_sign(positive, -self.log_limit, -self.log_limit)
        return lo, by_sign(positive, upper, min(math.log(self.cap), self.log_limit))


@dataclass(frozen=True)
class saturating(Clip):
    """exp(clamp(v, lo, hi)) with the bounds of `clip`: the weight is held there, the score keeps flowing.

    Source: arXiv:2506.13585 v1 (CISPO), Eq. 4 and 5.
    """

    clip: Clip

    @reads(inner_bounds)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        return self.clip.bounds(positive, length)

    @reads(Reads.NOTHING)
    def weight(
        self,
        ratio: Ratio,
        log_ratio: Float[Tensor, "*b G T"],
        mask: Bool[Tensor, "*b G T"],
        lo: Float[Tensor, "*b G 1"],
        hi: Float[Tensor, "*b G 1"],
    ) -> Float[Tensor, "*b G T"]:
        """exp(clamp(v, lo, hi))."""
        return ratio(log_ratio, mask).clamp(lo, hi).exp()


@dataclass(frozen=True)
class before_pooling(Clip):
    """exp(ratio(clamp(l, lo, hi))) * (lo <= l <= hi) with the bounds of `clip`.

    A clamped token still enters the weights of the others, but its own weight is off.
    Source: arXiv:2507.20673 v1 (GMPO), Eq. 4.
    """

    clip: Clip

    @reads(inner_bounds)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        return self.clip.bounds(positive, length)

    @reads(Reads.OWN_TOKEN)
    def weight(
        self,
        ratio: Ratio,
        log_ratio: Float[Tensor, "*b G T"],
        mask: Bool[Tensor, "*b G T"],
        lo: Float[Tensor, "*b G 1"],
        hi: Float[Tensor, "*b G 1"],
    ) -> Float[Tensor, "*b G T"]:
        """exp(ratio(clamp(l, lo, hi))) * (lo <= l <= hi)."""
        pooled = ratio(log_ratio.clamp(lo, hi), mask)
        return pooled.exp().where((log_ratio >= lo) & (log_ratio <= hi), 0.0)


TABLES = {Clip.weight: clip_table.switched_off, saturating.weight: clip_table.held}
"""For each rule that makes a token's weight of its own pooled ratio alone: the table that says the same."""


def has_table(clip: Clip) -> bool:
    """Whether a token's weight is a function of its own pooled log-ratio, which `clip.table` then lists."""
    return type(clip).weight in TABLES


def bounds_by_sign(clip: Clip, length: Int[Tensor, "*b"]) -> SignedBounds:
    """The bounds for A >= 0 and for A < 0 of responses of these lengths, whatever the rule of the clip."""
    positive = torch.ones_like(length, dtype=torch.bool)
    return SignedBounds(*clip.bounds(positive, length), *clip.bounds(~positive, length))
