"""A sum over every update: P groups of G responses, each with its probability.

    ordered updates     every sequence of P groups, each of them every sequence of G responses
    multisets           groups as multisets of responses, and updates as multisets of groups; where each
                        prompt is there once, as sequences of such groups, one of each prompt

Multisets may stand for ordered updates only where neither the order within groups nor that of the groups
matters: known, or checked on every one that enters, as for groups (groups/every_group.py).
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.properties import Properties
from ticgrpo_theory.estimators.scales import micro_batch_token_mean
from ticgrpo_theory.estimators.updates import update_scale
from ticgrpo_theory.exact.groups import multisets, sizes
from ticgrpo_theory.exact.groups.every_group import EveryGroup
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.updates.update import Update
from ticgrpo_theory.worlds.compiling import kernel

MAX_UNITS = 2**20
"""Groups that are kept in a list to make updates of."""


@dataclass(frozen=True)
class OfUpdate:
    """An estimator of updates whose rows [*b, B, T] are its groups of one another."""

    estimator: Estimator
    P: int

    @property
    def properties(self) -> Properties:
        """Those of its parts, whose coupling across groups the list of updates knows."""
        return self.estimator.of_each_row.properties

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b B T"]:
        """c[p,i,t], row p G + i."""
        lead = batch.logp.shape[:-2]
        parted = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        split = {
            name: x.unflatten(len(lead), (self.P, -1)) for name, x in parted.items() if isinstance(x, Tensor)
        }
        c = self.estimator.update_weights(dataclasses.replace(batch, **{**split, "group": None}))
        return c.flatten(len(lead), len(lead) + 1)


def objective_of(given: from_loss, P: int) -> Objective:
    """The objective of whole updates: advantages by group, the loss on all rows."""

    def value(batch: Batch) -> Any:
        rows = {"reward": batch.reward, "mask": batch.mask, "logp": batch.logp, "logp_old": batch.logp_old}
        parted = {name: x.unflatten(0, (P, -1)) for name, x in rows.items()}
        groups = [
            Batch(**{name: x[p] for name, x in parted.items()}, horizon=batch.horizon) for p in range(P)
        ]
        A = torch.cat([given.advantages(group) for group in groups])
        return given.value(batch, A)

    return Objective(value, score=given.score)


def of_updates(update: Update) -> Any:
    """What gives the weights of all rows [*b, B, T] of an update."""
    given = update.one.given
    if isinstance(given, Estimator):
        return OfUpdate(given, update.P)
    return objective_of(given, update.P) if isinstance(given, from_loss) else given


def all_responses(update: Update) -> tuple[enumeration.Responses, list[int]]:
    """The responses of all prompts in one list, as wide as the longest, and where each prompt's begin."""
    each = [problem.listed_responses for problem in update.problems]
    starts = np.cumsum([0, *(len(every.reward) for every in each)]).tolist()
    return enumeration.with_padding(enumeration.joined(each), update.one.policies), starts


@dataclass(frozen=True, eq=False)
class Units:
    """Groups of responses, by their numbers in the list of all, with the probability of each."""

    members: Int64[np.ndarray, "U G"]
    prob: Float64[np.ndarray, " U"]


@dataclass(eq=False)
class EveryUpdate(EveryGroup):
    """All updates of an estimator, a loss or an objective of whole updates; `group_size` is B."""

    update: Update = field(kw_only=True)
    starts: list[int] = field(kw_only=True)
    """Where the responses of each prompt begin in `prob`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = update_scale(getattr(self.update.one.given, "scale", None))
        if isinstance(scale, micro_batch_token_mean) and scale.order != "shuffled":
            # Rows that stand together share a normaliser: every order is an update of its own.
            self.ordered = self.group_size > 1

    @property
    def numbers(self) -> list[int]:
        """Responses of every prompt."""
        return [b - a for a, b in zip(self.starts, self.starts[1:], strict=False)]

    def counted(self, ordered: bool) -> int | float:
        """Updates that are listed, filters left out."""
        G, P = self.update.G, self.update.P
        groups = [sizes.sequences(N, G) if ordered else sizes.multisets(N, G) for N in self.numbers]
        if math.inf in groups:
            return math.inf
        if self.update.each:
            return sizes.at_most(math.prod(map(int, groups)))
        total = int(sum(groups))
        return sizes.sequences(total, P) if ordered else sizes.multisets(total, P)

    @property
    def sequences(self) -> int | float:
        """Ordered updates there are."""
        return self.counted(True)

    @property
    def groups(self) -> int | float:
        """Updates that are listed as things stand."""
        return self.counted(self.ordered)

    def obstacle(self) -> str:
        """Why the updates are too many, or ''."""
        if self.groups <= self.largest:
            return ""
        update, kind = self.update, "ordered updates" if self.ordered else "multisets"
        name = "MAX_GROUPS" if self.known else "limit"
        return (
            f"updates of (P, G) = ({update.P}, {update.G}) with {', '.join(map(str, self.numbers[:8]))} "
            f"responses to the prompts are {sizes.written(self.groups)} {kind}, more than {name} = "
            f"{self.largest:,}"
        )

    def units(self) -> list[Units]:
        """Groups of every prompt that a filter leaves, with P(group | prompt, not drawn again)."""
        found, listing = [], multisets.ordered_groups if self.ordered else multisets.groups
        drop = self.update.drop
        for q in range(len(self.update.problems)):
            prob = self.prob[self.starts[q] : self.starts[q + 1]]
            chunks = list(listing(prob, self.update.G, MAX_UNITS))
            members = np.concatenate([m for m, _ in chunks])
            chance = np.concatenate([p for _, p in chunks])
            if drop is not None and drop.redraws:
                reward = self.reward_of(q)[members]
                mixed = reward.max(axis=1) > reward.min(axis=1)
                members, chance = members[mixed], chance[mixed]
                if drop.mode == "same_prompt":
                    chance = chance / chance.sum()
            found.append(Units(members + self.starts[q], chance))
        return found

    def reward_of(self, q: int) -> Float64[np.ndarray, " N"]:
        """Rewards of the responses to prompt q."""
        return self.update.problems[q].listed_responses.reward.numpy()

    def listing(self, chunk: int) -> Iterator[tuple[Int64[np.ndarray, "M B"], Float64[np.ndarray, " M"]]]:
        """(members, probability) of all updates as things stand, `chunk` at a time."""
        P, units = self.update.P, self.units()
        if self.update.each:
            sizes_of = np.array([len(u.prob) for u in units])
            starts = np.concatenate([[0], np.cumsum(sizes_of)[:-1]])
            members, prob = (
                np.concatenate([u.members for u in units]),
                np.concatenate([u.prob for u in units]),
            )
            listed = products(prob, starts, sizes_of, chunk)
        else:
            weighed = [q * u.prob for q, u in zip(self.update.weights, units, strict=True)]
            members, prob = np.concatenate([u.members for u in units]), np.concatenate(weighed)
            if self.update.drop is not None and self.update.drop.mode == "refill":
                prob = prob / prob.sum()
            listing = multisets.ordered_groups if self.ordered else multisets.groups
            listed = listing(prob, P, chunk)
        for chosen, chance in listed:
            yield members[chosen].reshape(len(chosen), -1), chance

    def reorderings(self, first: int, M: int, repetitions: int) -> Int64[Tensor, "R M B"]:
        """Other orders of updates number first, first + 1, ...: within groups, and of drawn groups."""
        rng, P, G = np.random.default_rng(first), self.update.P, self.update.G
        within = rng.random((repetitions, M, P, G)).argsort(axis=-1)
        # The first group always changes its order, where it has more than one response.
        same = (within[..., 0, :] == np.arange(G)).all(axis=-1)
        within[..., 0, :] = np.where(
            same[..., None], np.roll(within[..., 0, :], 1, axis=-1), within[..., 0, :]
        )
        order = within + (np.arange(P) * G)[:, None]
        if not self.update.each and P > 1:
            # Rotations in turn with random orders.
            drawn = rng.random((repetitions, M, P)).argsort(axis=-1)
            number = (first + np.arange(M)) * repetitions + np.arange(repetitions)[:, None]
            turned = (np.arange(P) + 1 + (number // 2 % max(P - 1, 1))[..., None]) % P
            between = np.where((number % 2 == 0)[..., None], turned, drawn)
            order = np.take_along_axis(order, between[..., None], axis=-2)
        return torch.from_numpy(order.reshape(repetitions, M, P * G))

    @cached_property
    def group(self) -> Int64[Tensor, " B"]:
        """Which group every row belongs to."""
        return torch.arange(self.update.P).repeat_interleave(self.update.G)


def products(
    prob: Float64[np.ndarray, " U"],
    starts: Int64[np.ndarray, " P"],
    counts: Int64[np.ndarray, " P"],
    chunk: int,
) -> Iterator[tuple[Int64[np.ndarray, "M P"], Float64[np.ndarray, " M"]]]:
    """(units, probability) of every choice of one unit of each range, counts[p] from starts[p] on."""
    state, total = np.zeros(starts.size, dtype=np.int64), math.prod(counts.tolist())
    for first in range(0, total, chunk):
        size = min(chunk, total - first)
        chosen, weight = np.empty((size, starts.size), dtype=np.int64), np.empty(size)
        next_products(state, prob, starts, counts, chosen, weight)
        yield chosen, weight


@kernel
def next_products(state, prob, starts, counts, chosen, weight):
    """Rows of the next choices from `state` on, which is left at the one after the last row."""
    P = state.size
    for row in range(weight.size):
        chance = multisets_headroom
        for p in range(P):
            unit = starts[p] + state[p]
            chosen[row, p] = unit
            chance *= prob[unit]
        weight[row] = chance / multisets_headroom
        p = P - 1
        while p > 0 and state[p] == counts[p] - 1:
            state[p] = 0
            p -= 1
        state[p] += 1


multisets_headroom = multisets.HEADROOM
"""As for groups: products of small probabilities keep their digits."""
