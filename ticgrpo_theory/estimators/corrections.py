"""Axis `correction`: weights that make up for a sampler mu that is not theta_old.

Responses come from an engine (another precision, temperature, top-p, ...), theta_old is the policy whose
log-probabilities the trainer calls old. With d[i,t] = logp_old[i,t] - logp_sampler[i,t] pooled over a level,

    token      W[i,t] = exp(d[i,t])
    sequence   W[i]   = exp(sum_u d[i,u])
    geometric  W[i]   = exp(sum_u d[i,u] / |s_i|)
    largest    W[i]   = exp(max_u d[i,u])

every token weight is multiplied by phi(W), a constant for the derivative. A penalty in the loss is not. Only
`sequence` without a bound undoes the sampler; every other one leaves a bias.

Sources: Espeholt et al., arXiv:1802.01561 v3 (IMPALA), for truncation; Zheng et al., arXiv:2510.18855 v1
(IcePop), for masking tokens; whole responses as in the `rollout_correction` of verl 0.9 and in TRL 1.16.
"""

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.properties import Reads, is_ours, reads
from ticgrpo_theory.inputs.numbers import number_or_nan, shown


def largest(log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]) -> Float[Tensor, "*b G T"]:
    """max_u d[i,u], the same number at every token of response i."""
    top = log_ratio.where(mask, -math.inf).amax(dim=-1, keepdim=True)
    return top.expand_as(log_ratio).where(mask, 0.0)


LEVELS = {
    "token": ratios.token,
    "sequence": ratios.trajectory,
    "geometric": ratios.geometric_mean,
    "largest": largest,
}
"""How token log-ratios to the sampler are pooled, by name."""


def reads_of_level(correction: "Bounded") -> Reads:
    """What phi reads of a response."""
    return Reads.OWN_TOKEN if correction.level == "token" else Reads.OWN_RESPONSE


@dataclass(frozen=True)
class Correction:
    """The common part: phi(W) from the log-ratios d of theta_old to the sampler.

    A class of your own gives `log_weight`; it is then evaluated on whole groups.
    """

    def log_weight(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """log phi of every token, -inf where it is masked; whatever on padding."""
        raise TypeError(f"{type(self).__name__} defines no log_weight")

    def weight(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """phi of every token; 0 on padding."""
        return self.log_weight(log_ratio, mask).exp().where(mask, 0.0)

    def keeps(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Bool[Tensor, "*b G T"]:
        """The tokens whose phi is not 0."""
        return mask & (self.log_weight(log_ratio, mask) > -math.inf)

    @property
    def parts(self) -> tuple["Correction", ...]:
        """The factors of phi."""
        return (self,)


@dataclass(frozen=True)
class Bounded(Correction):
    """A correction with bounds lo and hi on W, each None where there is none."""

    level: str
    """"token", "sequence", "geometric" or "largest"."""
    lo: float | None = None
    hi: float | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level = {shown(self.level)}: choose one of {', '.join(map(repr, LEVELS))}")
        lo = 0.0 if self.lo is None else number_or_nan(self.lo)
        hi = math.inf if self.hi is None else number_or_nan(self.hi)
        if not 0 <= lo < hi:
            raise ValueError(
                f"lo = {self.lo!r}, hi = {self.hi!r}: bounds on a ratio W need 0 <= lo < hi; None is no bound"
            )

    @property
    def log_bounds(self) -> tuple[float, float]:
        """log lo and log hi; infinite where there is no bound."""
        lo = -math.inf if not self.lo else math.log(self.lo)
        return lo, math.inf if self.hi is None else math.log(self.hi)

    @property
    def unbounded(self) -> bool:
        """Whether phi(W) = W, of classes of this package whose phi(W) is W within the bounds."""
        return self.log_bounds == (-math.inf, math.inf)

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        """(lo, hi, phi below lo, phi above hi, power of W between them), for compiled passes."""
        raise TypeError(f"{type(self).__name__} has a rule of its own")

    def pooled(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """log W at every token."""
        return LEVELS[self.level](log_ratio, mask)

    def inside(self, v: Tensor) -> Tensor:
        """Whether lo <= W <= hi."""
        lo, hi = self.log_bounds
        return (v >= lo) & (v <= hi)


@dataclass(frozen=True)
class truncated(Bounded):
    """phi(W) = min(max(W, lo), hi).  Source: arXiv:1802.01561 v3, Sec. 4.1, with hi alone."""

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        lo, hi = map(math.exp, self.log_bounds)
        return lo, hi, lo, hi, 1.0

    @reads(reads_of_level)
    def log_weight(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """clamp(log W, log lo, log hi)."""
        return self.pooled(log_ratio, mask).clamp(*self.log_bounds)


@dataclass(frozen=True)
class masked(Bounded):
    """phi(W) = W where lo <= W <= hi, else 0.  Source: arXiv:2510.18855 v1 (IcePop), for tokens."""

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        lo, hi = map(math.exp, self.log_bounds)
        return lo, hi, 0.0, 0.0, 1.0

    @reads(reads_of_level)
    def log_weight(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """log W where it lies within the bounds, -inf elsewhere."""
        v = self.pooled(log_ratio, mask)
        return v.where(self.inside(v), -math.inf)


@dataclass(frozen=True)
class rejected(Bounded):
    """phi(W) = 1 where lo <= W <= hi, else 0: a mask that multiplies by no ratio."""

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        lo, hi = map(math.exp, self.log_bounds)
        return lo, hi, 0.0, 0.0, 0.0

    @reads(reads_of_level)
    def log_weight(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """0 where log W lies within the bounds, -inf elsewhere."""
        v = self.pooled(log_ratio, mask)
        return torch.zeros_like(v).where(self.inside(v), -math.inf)


def reads_of_parts(correction: "product") -> Reads | None:
    """The most that any factor reads; None where one declares nothing."""
    known = [part for part in correction.factors if is_ours(part)]
    if len(known) < len(correction.factors):
        return None
    return max(reads_of_level(part) for part in correction.parts if isinstance(part, Bounded))


@dataclass(frozen=True)
class product(Correction):
    """phi = product of the phi of several corrections: product((truncated(...), rejected(...)))."""

    factors: tuple[Correction, ...]

    def __post_init__(self) -> None:
        factors = self.factors if isinstance(self.factors, tuple) else ()
        if not factors or not all(isinstance(part, Correction) for part in factors):
            raise ValueError(
                f"factors = {shown(self.factors)}: give a tuple of corrections, as in "
                f"product((truncated('token', None, 2.0), rejected('sequence', 0.5, 2.0)))"
            )

    @property
    def parts(self) -> tuple[Correction, ...]:
        return tuple(part for factor in self.factors for part in factor.parts)

    @reads(reads_of_parts)
    def log_weight(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """The sum of the logarithms of the factors."""
        return functools.reduce(torch.add, (part.log_weight(log_ratio, mask) for part in self.factors))
