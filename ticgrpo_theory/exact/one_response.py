"""The reduction to one response, checked where it is claimed or a method is named.

A group of G i.i.d. responses reduces to one where the weights of response i are, whatever the others,

    G c[i,t] = G scale[i] (A+ c_t(1) + |A-| c_t(-1)) + c_t(0),      c_t of response i alone.

Parts of the catalogue are of that form by construction. For others it is compared with what the estimator
says of whole groups of the problem: every response at least once, at its own log-ratios, with the advantages
of its group and with their negatives.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import apart_of, from_loss
from ticgrpo_theory.estimators.one_group import Apart, picked
from ticgrpo_theory.estimators.penalties import kl_loss
from ticgrpo_theory.estimators.properties import NEGLIGIBLE, RELATIVE
from ticgrpo_theory.exact.responses import enumeration

LEAST = 24
"""Groups that are compared at least."""


@dataclass(frozen=True, eq=False)
class OneResponse:
    """The claim about an estimator whose parts are not of the catalogue, on the responses of a problem."""

    estimator: Estimator | from_loss
    every: enumeration.Responses
    group_size: int
    horizon: int

    @cached_property
    def groups(self) -> Int64[Tensor, "M G"]:
        """Random groups that hold every response at least once."""
        N, G = len(self.every.reward), self.group_size
        rng = np.random.default_rng(0)
        size = G * max(LEAST, -(-N // G))
        drawn = np.concatenate([rng.permutation(N), rng.integers(0, N, max(0, size - N))])[: max(size, N)]
        drawn = np.concatenate([drawn, rng.integers(0, N, -len(drawn) % G)])
        return torch.from_numpy(drawn.reshape(-1, G))

    @cached_property
    def why(self) -> str:
        """How a group contradicts the claim, or ''."""
        if not isinstance(self.estimator, from_loss) and self.estimator.properties.undeclared:
            outside = [part for part in self.estimator.properties.undeclared if part not in REDUCIBLE]
            if outside:
                return (
                    f"{' and '.join(outside)}: declares nothing, and a sum over the others needs to know it"
                )
        for sign in (1.0, -1.0):
            for members in self.groups:
                gap, size = self.compared(members, sign)
                if gap > size:
                    rewards = [round(r, 6) for r in self.every.reward[members].tolist()]
                    return (
                        f"its weights are not those of single responses: in a group with rewards {rewards} "
                        f"they differ by {gap:.3g}"
                    )
        return ""

    @property
    def assumed(self) -> str:
        """What a result that rests on the claim has to say."""
        return f"weights of single responses assumed, checked on {2 * len(self.groups):,} groups"

    def compared(self, members: Int64[Tensor, " G"], sign: float) -> tuple[float, float]:
        """Largest difference in one group whose advantages are multiplied by `sign`, and what is rounding."""
        batch = self.batch(members)
        A = sign * self.advantages(batch)
        found = self.together(batch, A)
        expected = self.alone(members, A, batch)
        largest = float(torch.maximum(found.abs(), expected.abs()).max())
        rounding = RELATIVE[self.dtype] * largest + NEGLIGIBLE[self.dtype]
        return float((found - expected).abs().max()), rounding

    def batch(self, members: Int64[Tensor, " G"]) -> Batch:
        every, width = self.every, int(self.every.mask[members].sum(dim=1).max())
        ref = every.logp_ref
        return Batch(
            every.logp[members, :width],
            every.logp_old[members, :width],
            every.reward[members],
            every.mask[members, :width],
            None if ref is None else ref[members, :width],
            self.horizon,
            every.logp_sampler[members, :width],
            None if every.truncated is None else every.truncated[members],
            tokens=every.tokens[members, :width],
        )

    def advantages(self, batch: Batch) -> Float[Tensor, " G"]:
        A = self.estimator.advantages(batch)
        if A.shape != batch.reward.shape:
            raise ValueError(
                f"advantages of shape {tuple(A.shape)} belong to tokens: a group reduces to one response for "
                f"one number each; use method='groups'"
            )
        return A

    def together(self, batch: Batch, A: Float[Tensor, " G"]) -> Float[Tensor, "G T"]:
        """c[i,t] of the group with these advantages."""
        if isinstance(self.estimator, from_loss):
            return self.estimator.weights_given(batch, A)
        scale = self.estimator.scales(batch.mask, batch.horizon)
        read = (batch.log_ratio, A, batch.mask, batch.sampler_log_ratio, batch.logp_old)
        c = scale[:, None] * self.estimator.response_weights(*read)
        penalty = self.estimator.penalty
        return c + penalty.weights(batch, scale) if isinstance(penalty, kl_loss) else c

    def alone(self, members: Int64[Tensor, " G"], A: Float[Tensor, " G"], batch: Batch) -> Tensor:
        """The same from every response alone."""
        width = batch.mask.shape[1]
        plus, minus, free = (table[members, :width] for table in self.unit)
        if isinstance(self.estimator, from_loss):
            scale = torch.full_like(A, 1.0 / self.group_size)
        else:
            scale = self.estimator.scales(batch.mask, batch.horizon)
        both = A.clamp(min=0.0)[:, None] * plus - A.clamp(max=0.0)[:, None] * minus
        return scale[:, None] * (both + free) + self.penalty_alone(batch, scale)

    def penalty_alone(self, batch: Batch, scale: Float[Tensor, " G"]) -> Float[Tensor, "G T"]:
        """The weights of a penalty in the loss, from one response after the other; 0 without one."""
        penalty = getattr(self.estimator, "penalty", None)
        if not isinstance(penalty, kl_loss):
            return torch.zeros_like(batch.logp)
        rows = [picked(batch, torch.tensor([i])) for i in range(len(scale))]
        return torch.cat([penalty.weights(row, scale[i : i + 1]) for i, row in enumerate(rows)])

    @cached_property
    def unit(self) -> tuple[Tensor, Tensor, Tensor]:
        """(c(1) - c(0), c(-1) - c(0), c(0)) of every response alone, [N, T] each."""
        at = [unit_weights(self.estimator, self.every, sign, self.horizon) for sign in (1.0, -1.0, 0.0)]
        return at[0] - at[2], at[1] - at[2], at[2]

    @cached_property
    def dtype(self) -> torch.dtype:
        """In which the estimator computes: seen on one of the groups."""
        apart = self.estimator.apart()
        apart.watched(self.batch(self.groups[0]))
        return apart.dtype

    @cached_property
    def free(self) -> bool:
        """Whether some response has weights that no advantage multiplies."""
        return bool((self.unit[2] != 0).any())


REDUCIBLE = ("its ratio", "the weights of its clip", "the bounds of its clip")
"""Parts whose claim `OneResponse` can check; the others enter the sum over the rest of a group."""


def unit_weights(
    estimator: Estimator | from_loss, every: enumeration.Responses, A: float, horizon: int
) -> Float[Tensor, "N T"]:
    """c_t(y; A) of every response alone, without scale."""
    one = every.alone(horizon)

    def advantages(batch: Batch) -> Tensor:
        return torch.full_like(batch.reward, A)

    if isinstance(estimator, from_loss):
        return apart_of(lambda batch: estimator.value(batch, advantages(batch)))(one)[:, 0]

    def weights(batch: Batch) -> Tensor:
        A, d = advantages(batch), batch.sampler_log_ratio
        return estimator.response_weights(batch.log_ratio, A, batch.mask, d, batch.logp_old)

    return Apart(weights, weights)(one)[:, 0]
