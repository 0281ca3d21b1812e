"""What an update reads: P prompts with G responses each, their rewards and old log-probabilities."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llm.sequences import Sequences
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.batches import Batches


@dataclass(frozen=True, eq=False)
class Groups:
    """P groups of G responses; row p G + i of `sequences` is response i of prompt p.

    Tensors lie on one device, that of the network. Entries at padding are never read.
    """

    sequences: Sequences
    reward: Float[Tensor, "P G"]
    logp_old: Float[Tensor, "P G T"]
    """Under the weights that drew the responses, computed by the update's own code and micro-batches."""
    logp_ref: Float[Tensor, "P G T"] | None = None
    """Under the reference policy, where a penalty reads it."""
    logp_sampler: Float[Tensor, "P G T"] | None = None
    """As the sampler reported them, for the gap between sampler and trainer, and for corrections."""
    horizon: int | None = None
    """The limit on response tokens, for scales that divide by a constant length."""
    weight: Float[Tensor, " P"] | None = None
    """Factor of each group in the update; None is 1/P. Enumerations put probabilities of groups here."""

    def __post_init__(self) -> None:
        P, G = self.reward.shape
        rows, T = self.sequences.mask.shape
        if rows != P * G:
            raise ValueError(
                f"sequences has {rows} rows where reward of shape {(P, G)} (P, G) requires {P * G}: give the "
                f"responses of prompt p as rows p G to p G + G - 1"
            )
        for name in ("logp_old", "logp_ref", "logp_sampler"):
            table = getattr(self, name)
            if table is not None and table.shape != (P, G, T):
                raise ValueError(
                    f"{name} has shape {tuple(table.shape)}; reward and sequences "
                    f"require (P, G, T) = {(P, G, T)}: reshape the rows"
                )
        if self.weight is not None and self.weight.shape != (P,):
            raise ValueError(
                f"weight has shape {tuple(self.weight.shape)}, one number for each of {P} groups is due"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(P, G, T)."""
        P, G = self.reward.shape
        return P, G, self.sequences.mask.shape[-1]

    @property
    def tokens(self) -> Int[Tensor, " P"]:
        """sum_i |s_i| of each group."""
        return self.sequences.lengths.reshape(self.reward.shape).sum(dim=-1)

    def batch(self, logp: Float[Tensor, "P G T"]) -> Batch:
        """What estimators read, with these log-probabilities under the current weights."""
        mask = self.sequences.mask.reshape(self.shape)
        return Batch(logp, self.logp_old, self.reward, mask, self.logp_ref, self.horizon, self.logp_sampler)

    def select(self, groups: Int[Tensor, " p"]) -> "Groups":
        """These groups, cut to their longest prompt and response."""
        sequences = self.sequences.select(rows_of(groups, self.shape[1]))
        T = sequences.mask.shape[-1]
        tables = {
            name: getattr(self, name)[groups][..., :T]
            for name in ("logp_old", "logp_ref", "logp_sampler")
            if getattr(self, name) is not None
        }
        weight = None if self.weight is None else self.weight[groups]
        reward = self.reward[groups]
        return dataclasses.replace(self, sequences=sequences, reward=reward, weight=weight, **tables)


def rows_of(groups: Int[Tensor, " p"], group_size: int) -> Int[Tensor, " B"]:
    """p G, ..., p G + G - 1 of each group p."""
    return (groups[:, None] * group_size + torch.arange(group_size, device=groups.device)).flatten()


def minibatches(
    num_groups: int, updates: int, batches: str, device: str | torch.device = "cpu"
) -> list[Tensor]:
    """The groups that each of K updates of a rollout reads, as group numbers.

    "disjoint": K equal parts of whole groups, in order, each used once; "reused": all groups K times.

    Raises ValueError for an unknown name, for no updates, and where groups do not divide.
    """
    if updates < 1:
        raise ValueError(f"updates = {updates}: a rollout is used for at least 1 update")
    B = Batches.of(batches).drawn(updates)
    if num_groups % B:
        raise ValueError(
            f"{num_groups} groups do not divide into {B} disjoint mini-batches: "
            f"draw a multiple of {B} prompts, or give another number of updates"
        )
    parts = torch.arange(num_groups, device=device).split(num_groups // B)
    return [parts[k % B] for k in range(updates)]
