"""Axis `scale`: the factor in front of each response's sum over tokens, always per group.

scale(length, total_length, group_size, horizon) is elementwise: `length` [*b, G] is |s_i|, `total_length`
(broadcastable to it) the sum of all lengths of the group, `horizon` the response limit of the world or the
sampler. Results are float64 on the device of `length`.
"""

from collections.abc import Callable

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


def pools_lengths(scale: Scale) -> bool:
    """Whether the scale of one response may move with the lengths of the others: it declares no less."""
    found = declared_call(scale)
    return found is None or found > Reads.OWN_RESPONSE
