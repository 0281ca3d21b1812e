"""The scale of a group whose normaliser is that of its update: P over the tokens of all P groups.

    scale = P / (tokens of the group + tokens of the others),   R(u) = E[exp(-u tokens of the others)]

At the nodes of 1/x and 1/x^2 as sums of exponentials the others are a factor R(u): expectations over the own
group are those of a token mean (token_means.py) with that factor.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from ticgrpo_theory.estimators.properties import Reads, reads


@dataclass(frozen=True, eq=False)
class InUpdate:
    """E over the other groups of P over all tokens; `token_means.Tilted` reads its nodes."""

    u: Float64[np.ndarray, " Q"]
    weight: Float64[np.ndarray, " Q"]
    """1/x = sum_q weight_q exp(-u_q x) over all totals of the update, 1/x^2 with another factor u_q."""
    rest: Float64[np.ndarray, " Q"]
    """R(u_q)."""
    P: int

    @reads(Reads.REWARDS_AND_LENGTHS)
    def __call__(self, length: Tensor, total_length: Tensor, group_size: int, horizon: int | None) -> Tensor:
        """P E[1 / (total length + tokens of the others)]: a first moment, of no use in a second one."""
        total = total_length.double()[..., None]
        u, weight = torch.from_numpy(self.u), torch.from_numpy(self.P * self.weight * self.rest)
        return (torch.exp(-u * total) @ weight).expand_as(length)
