"""Axis `filter`: which groups or responses of an update are left out of the loss, and what replaces them.

drop_equal   groups whose rewards are all equal, which say nothing of which response is better
overlong     responses that were cut at their limit, whose reward says nothing of what they would have become
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.inputs.numbers import finite_number, shown

DROP = {
    "refill": "new prompts are drawn until every group of the update has unequal rewards",
    "same_prompt": "responses to the same prompt are drawn again until their rewards are unequal",
    "divide_by_all": "dropped groups count in the normaliser",
    "divide_by_kept": "dropped groups do not count in the normaliser; an update without any group left is 0",
}
OVERLONG = {"mask": "cut responses get weight 0", "penalty": "long responses lose up to 1 of their reward"}


@dataclass(frozen=True)
class drop_equal:
    """Leave out every group with max r = min r (the reward of the world, before any penalty).

        refill           P groups of *new* prompts, drawn until their rewards are unequal: the expectation is
                         divided by the overall probability of such a group
        same_prompt      P groups of the prompts that were drawn, each tried again: prompt q weighs
                         1 / P(mixed_q) times as much, which changes the direction
        divide_by_all    what is left is divided by P, or by the tokens of all rows
        divide_by_kept   what is left is divided by the number of groups kept, or by their tokens

    Statistics over the update (batch_standardised, ...) are those of the groups kept.
    Source: arXiv:2503.14476 v2 (DAPO), Eq. 11, for the first. Raises ValueError for another mode.
    """

    mode: str = "refill"

    def __post_init__(self) -> None:
        if self.mode not in DROP:
            raise ValueError(f"drop_equal({shown(self.mode)}): choose one of {', '.join(map(repr, DROP))}")

    @property
    def redraws(self) -> bool:
        """Whether an update has no group of equal rewards, because others were drawn."""
        return self.mode in ("refill", "same_prompt")

    def kept(self, reward: Float[Tensor, "*b P G"]) -> Bool[Tensor, "*b P"]:
        """Groups with unequal rewards.

        Raises ValueError for a group of equal rewards where others would have been drawn for it.
        """
        kept = reward.amax(dim=-1) > reward.amin(dim=-1)
        if self.redraws and not bool(kept.all()):
            first = (~kept).nonzero()[0].tolist()
            raise ValueError(
                f"group {first} (index over *b, P) has equal rewards, and {self!r} says that another one was "
                f"drawn for it: give the update that was drawn, or take drop_equal('divide_by_kept')"
            )
        return kept


@dataclass(frozen=True)
class overlong:
    """What becomes of responses at their limit.

        mask      a response that was cut (Batch.truncated) gets weight 0, and its tokens count in no
                  normaliser and no statistic over tokens; its reward stays in the statistics of
                  rewards, and it counts in G
        penalty   r + 0 for |s| <= limit - cache, (limit - cache - |s|) / cache up to limit, and -1 beyond it

    `limit` is Batch.horizon unless given; `cache` is limit / 5 unless given, as 4,096 of 20,480 in the paper.
    Source: arXiv:2503.14476 v2 (DAPO), Sec. 3.4 and Eq. 13.
    Raises ValueError for another mode and for numbers <= 0.
    """

    mode: str = "mask"
    limit: int | float | None = None
    cache: int | float | None = None

    def __post_init__(self) -> None:
        if self.mode not in OVERLONG:
            raise ValueError(f"overlong({shown(self.mode)}): choose one of {', '.join(map(repr, OVERLONG))}")
        for name in ("limit", "cache"):
            value = getattr(self, name)
            if value is None:
                continue
            if self.mode == "mask":
                raise ValueError(
                    f"{name} = {shown(value)}: overlong('mask') reads no number, only what was cut"
                )
            if not finite_number(name, value, "tokens") > 0:
                raise ValueError(f"{name} = {shown(value)}: give a number of tokens > 0")

    def penalty(self, length: Tensor, horizon: int | None) -> Float[Tensor, "..."]:
        """min(0, max(-1, (limit - cache - |s|) / cache)). Raises ValueError without a limit."""
        limit = horizon if self.limit is None else self.limit
        if limit is None:
            raise ValueError(
                f"{self!r} has no limit: give overlong('penalty', limit=...) or Batch(horizon=...)"
            )
        cache = limit / 5 if self.cache is None else self.cache
        return ((limit - cache - length.double()) / cache).clamp(min=-1.0, max=0.0)

    def reward(self, batch: Batch) -> Float[Tensor, "*b G"]:
        """The reward that statistics see."""
        if self.mode == "mask":
            return batch.reward
        return batch.reward + self.penalty(batch.length, batch.horizon).to(batch.reward.dtype)

    def counted(self, batch: Batch) -> Bool[Tensor, "*b G"]:
        """Responses in the loss. Raises ValueError where nobody says which were cut."""
        if self.mode == "penalty":
            return torch.ones_like(batch.reward, dtype=torch.bool)
        if batch.truncated is None:
            raise ValueError(
                f"{self!r} leaves out responses that were cut at their limit: give Batch(truncated=...), "
                f"True for a response that ends without EOS"
            )
        return ~batch.truncated


Filter = drop_equal | overlong


def refuse_redraws(estimator: object, task: str) -> None:
    """Raise ValueError for a filter that draws other groups, where `task` has one group to work with."""
    found = getattr(estimator, "filter", None)
    if isinstance(found, drop_equal) and found.redraws:
        raise ValueError(
            f"{task} follows the group that was drawn, and {found!r} draws another one where its rewards are "
            f"equal: take drop_equal('divide_by_kept'), which gives such a group the weight 0"
        )
