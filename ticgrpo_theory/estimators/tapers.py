"""Shapes that treat either sign of A by a rule of its own, or bound a ratio by the place of its token."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.clipping import by_sign, check_epsilons, log_floor
from ticgrpo_theory.estimators.properties import Reads, reads
from ticgrpo_theory.estimators.ratios import Ratio
from ticgrpo_theory.estimators.shapes import Shape, check_positive
from ticgrpo_theory.inputs.numbers import number_or_nan, shown

Tokens = Float[Tensor, "*b G T"]


@dataclass(frozen=True)
class inverse_if_positive(Shape):
    """A >= 0: min(1 / w, cap) where w <= 1 + eps_high; A < 0: min(w, cap) where w >= 1 - eps_low; else 0.

    A token that has become rarer is pushed harder where A > 0, one that has become likelier less. Both caps
    hold the weight. At w = 1 it is 1. Raises ValueError for eps < 0 and cap <= 1.
    Source: arXiv:2510.06062 (ASPO), as `compute_policy_loss_archer` of github.com/zyh1999/ASPO, commit
    84a1eb1, computes it, whose caps are 3.
    """

    eps_low: float = 0.2
    eps_high: float = 0.2
    cap: float = 3.0

    def __post_init__(self) -> None:
        check_epsilons(self.eps_low, self.eps_high)
        if not number_or_nan(self.cap) > 1:
            raise ValueError(f"cap = {shown(self.cap)}: the weight 1 of ratio 1 is kept, which needs cap > 1")

    @reads(Reads.NOTHING)
    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        stays = torch.where(positive, v <= math.log1p(self.eps_high), v >= log_floor(self.eps_low))
        return self.free(v, positive, logp_old).clamp(max=self.cap).where(stays, 0.0)

    def free(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        return torch.where(positive, -v, v).exp()


@dataclass(frozen=True)
class tapered(Shape):
    """A >= 0: 1; A < 0: w held in [low, high]. What is right is imitated, what is wrong is unlearned slowly.

    At w = 1 it is 1. Raises ValueError without 0 <= low <= 1 <= high.
    Source: arXiv:2503.14286 (TOPR), the canonical choice low = 0, high = 1.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= number_or_nan(self.low) <= 1 <= number_or_nan(self.high):
            raise ValueError(
                f"low = {shown(self.low)}, high = {shown(self.high)}: a taper keeps the weight 1 of ratio 1, "
                f"which needs 0 <= low <= 1 <= high"
            )

    @reads(Reads.NOTHING)
    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        low = math.log(self.low) if self.low > 0 else -math.inf
        return v.clamp(low, math.log(self.high)).exp().where(~positive, 1.0)

    def free(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        return v.exp().where(~positive, 1.0)


@dataclass(frozen=True)
class position_band(Shape):
    """A >= 0: log w <= high t^power; A < 0: -low t^power <= log w <= cap t^power; t = 1, 2, ... of the token.

    The band widens as the logarithm of a prefix ratio spreads, like sqrt(t). t counts tokens of the response
    that are trained. Raises ValueError for numbers that are not finite and > 0; power may be 0.
    Source: arXiv:2605.07331 (CTPO), as github.com/horizon-llm/CTPO, commit acc4021, computes it: 0.025, 0.05
    and 0.05 are those of its script; there log-ratios are cut at 20 beforehand, and at 10 when added up.
    """

    low: float = 0.025
    high: float = 0.05
    cap: float = 0.05
    power: float = 0.5

    def __post_init__(self) -> None:
        check_positive(position_band_numbers(self) if self.power == 0 else self)

    @property
    def sees_position(self) -> bool:
        return True

    @reads(Reads.NOTHING)
    def weights(
        self,
        ratio: Ratio,
        log_ratio: Tokens,
        mask: Bool[Tensor, "*b G T"],
        positive: Bool[Tensor, "*b G"],
        logp_old: Tokens | None,
        sampler_log_ratio: Tokens | None,
    ) -> Tokens:
        v, sign = ratio(log_ratio, mask), positive[..., None]
        width = mask.to(v.dtype).cumsum(dim=-1).clamp(min=1.0) ** self.power
        lo = by_sign(sign, -math.inf, -self.low).to(v.dtype)
        hi = by_sign(sign, self.high, self.cap).to(v.dtype)
        return v.exp().where((v >= lo * width) & (v <= hi * width), 0.0)

    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        raise TypeError("position_band reads the place of a token: its weights are those of `weights`")

    def free(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        return v.exp()


def position_band_numbers(band: position_band) -> position_band:
    """The same band with a power that `check_positive` takes."""
    return position_band(band.low, band.high, band.cap, 1.0)
