"""Axis `scale`: the factor in front of each response's sum over tokens, always per group.

scale(length, total_length, group_size, horizon) is elementwise: `length` [*b, G] is |s_i|, `total_length`
(broadcastable to it) the sum of all lengths of the group, `horizon` the response limit of the world or the
sampler. Results are float64 on the device of `length`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ticgrpo_theory.estimators.properties import Reads, declared_call, reads

Scale = Callable[[Tensor, Tensor, int, int | None], Tensor]


@reads(Reads.OWN_RESPONSE)
def sequence_mean(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / (G |s_i|).  Source: arXiv:2508.02833 v2, Eq. 5."""
    return 1.0 / (group_size * length.double())


@reads(Reads.REWARDS_AND_LENGTHS)
def token_mean(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / sum_j |s_j|, the same for every response of a group.  Source: arXiv:2503.14476 v2 (DAPO), Eq. 8."""
    return (1.0 / total_length.double()).expand_as(length)


@reads(Reads.NOTHING)
def sequence_sum(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / G.  Source: arXiv:2508.02833 v2, Eq. 9, differentiated literally."""
    return torch.full_like(length, 1.0 / group_size, dtype=torch.float64)


@reads(Reads.NOTHING)
def constant(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / (G horizon).  Source: arXiv:2503.20783 v1 (Dr. GRPO), Appendix A."""
    if horizon is None or horizon < 1:
        raise ValueError(
            f"horizon = {horizon}: the scale `constant` divides by the response limit, at least 1; "
            f"give Batch(..., horizon=limit)"
        )
    return torch.full_like(length, 1.0 / (group_size * horizon), dtype=torch.float64)


@dataclass(frozen=True, repr=False)
class kept:
    """`scale` of what a correction keeps: lengths count the tokens whose phi is not 0, and nothing else.

    A scale that divides by the number of responses divides by the number of those with such a token, which
    is what rejection by a smaller response mask amounts to; a response without any has the scale 0. The plain
    scale counts masked tokens and responses like all others.
    """

    scale: Scale

    def __post_init__(self) -> None:
        if not callable(self.scale) or isinstance(self.scale, type | kept):
            raise ValueError(f"scale = {self.scale!r}: give a plain scale, such as kept(token_mean)")

    def __repr__(self) -> str:
        return f"kept({getattr(self.scale, '__name__', repr(self.scale))})"

    @reads(Reads.REWARDS_AND_LENGTHS)
    def __call__(self, length: Tensor, total_length: Tensor, group_size: int, horizon: int | None) -> Tensor:
        """The scale of responses [*b, G] that have `length` such tokens."""
        some = length > 0
        if pools_lengths(self.scale):
            found = self.scale(length.clamp(min=1), total_length.clamp(min=1), group_size, horizon)
            return found.where(some, 0.0)
        found = self.scale(length.clamp(min=1), total_length.clamp(min=1), 1, horizon)
        return (found / some.sum(dim=-1, keepdim=True).clamp(min=1)).where(some, 0.0)


def pools_lengths(scale: Scale) -> bool:
    """Whether the scale of one response may move with the lengths of the others: it declares no less."""
    found = declared_call(scale)
    return found is None or found > Reads.OWN_RESPONSE
