"""Products of gates: a clip, and further ranges of ratios outside which a token has no weight.

    c = weight of the clip  x  product over gates of 1{lo <= u <= hi},   u a log-ratio pooled at a level

A gate may pool otherwise than the clip, and may compare with the sampler in the place of theta_old. Nothing
of it is differentiated. A product of gates is a gate: where each factor reads its own token alone, so does c.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.clipping import Clip, bounds_of
from ticgrpo_theory.estimators.corrections import LEVELS
from ticgrpo_theory.estimators.properties import Reads, declared, is_ours, joined, reads
from ticgrpo_theory.estimators.ratios import Ratio
from ticgrpo_theory.estimators.shapes import Shape, reads_of, weights_of
from ticgrpo_theory.inputs.numbers import shown

Tokens = Float[Tensor, "*b G T"]
FROM = ("old", "sampler")


def reads_of_clip(clip: Clip) -> Reads | None:
    """What a clip or a shape reads besides the pooled log-ratio."""
    if isinstance(clip, Shape):
        return reads_of(clip)
    bounds = (
        declared(bounds_of(clip), clip) if not hasattr(clip, "clip") else declared(type(clip).bounds, clip)
    )
    return joined(bounds, declared(type(clip).weight, clip))


@dataclass(frozen=True)
class within:
    """1 where a log-ratio, pooled at `level`, lies within the bounds of `clip` for the sign of A, else 0.

    level: "token", "sequence" (the product), "geometric" (its mean) or "largest". since: "old" compares theta
    with theta_old, "sampler" with the policy that drew. Raises ValueError for another level or policy, and
    for a shape, which has no bounds.
    """

    level: str
    clip: Clip
    since: str = "old"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level = {shown(self.level)}: choose {', '.join(map(repr, LEVELS))}")
        if self.since not in FROM:
            raise ValueError(f"since = {shown(self.since)}: choose 'old' or 'sampler'")
        if not isinstance(self.clip, Clip) or isinstance(self.clip, Shape):
            raise ValueError(
                f"clip = {shown(self.clip)} has no bounds: give a clip such as two_sided(0.2, 0.2)"
            )

    @property
    def reads(self) -> Reads | None:
        """What it reads of a response."""
        own = Reads.OWN_TOKEN if self.level == "token" else Reads.OWN_RESPONSE
        return joined(own, declared(type(self.clip).bounds, self.clip) if is_ours(self.clip) else None)

    def keeps(
        self,
        log_ratio: Tokens,
        mask: Bool[Tensor, "*b G T"],
        positive: Bool[Tensor, "*b G"],
        sampler_log_ratio: Tokens | None,
    ) -> Bool[Tensor, "*b G T"]:
        """Whether a token is within the bounds."""
        far = log_ratio
        if self.since == "sampler" and sampler_log_ratio is not None:
            far = log_ratio + sampler_log_ratio
        u = LEVELS[self.level](far, mask)
        lo, hi = self.clip.bounds(positive, mask.sum(dim=-1))
        return (u >= lo.to(u.dtype)[..., None]) & (u <= hi.to(u.dtype)[..., None])


def reads_of_product(shape: "gated") -> Reads | None:
    """The most that any factor reads."""
    return joined(reads_of_clip(shape.clip), *(gate.reads for gate in shape.gates))


@dataclass(frozen=True)
class gated(Shape):
    """The weights of `clip`, 0 where one of the gates is closed: gated(two_sided(0.2, 0.2), (within(...),)).

    Without gates it is the clip. Raises ValueError for gates that are none.
    """

    clip: Clip
    gates: tuple[within, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.clip, Clip):
            raise ValueError(
                f"clip = {shown(self.clip)}: give a clip or a shape, such as two_sided(0.2, 0.2)"
            )
        if not isinstance(self.gates, tuple) or not all(isinstance(gate, within) for gate in self.gates):
            raise ValueError(
                f"gates = {shown(self.gates)}: give a tuple, as in "
                f"gated(two_sided(0.2, 0.2), (within('geometric', two_sided(0.1, 0.1)),))"
            )

    @property
    def sees_position(self) -> bool:
        return isinstance(self.clip, Shape) and self.clip.sees_position

    @reads(reads_of_product)
    def weights(
        self,
        ratio: Ratio,
        log_ratio: Tokens,
        mask: Bool[Tensor, "*b G T"],
        positive: Bool[Tensor, "*b G"],
        logp_old: Tokens | None,
        sampler_log_ratio: Tokens | None,
    ) -> Tokens:
        c = weights_of(self.clip, ratio, log_ratio, mask, positive, logp_old, sampler_log_ratio)
        for gate in self.gates:
            c = c.where(gate.keeps(log_ratio, mask, positive, sampler_log_ratio), 0.0)
        return c

    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        raise TypeError("gated reads more than one log-ratio: its weights are those of `weights`")

    def free(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        return self.clip.free(v, positive, logp_old) if isinstance(self.clip, Shape) else torch.exp(v)
