"""A sum over every group, and what is checked on the groups that enter it.

Multisets may stand for the ordered groups they are made of only where the order of a group does not matter.
That is known of estimators whose parts all declare what they read. For any other it is checked on every
multiset that enters the sum: its members are reordered, by another reordering from one multiset to the next
(rotations, which carry every response across every block boundary, and random ones), and the weights have to
move along. At the first difference the sum starts again over ordered groups. Few ordered groups are listed
outright.

The same groups are evaluated again, so that an estimator whose answer depends on chance, on the number of
the call or on what it did to its input is noticed.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.one_group import Apart, picked, tensors_of
from ticgrpo_theory.estimators.properties import Differences
from ticgrpo_theory.estimators.resolve import HasTokenWeights, properties_of
from ticgrpo_theory.exact.groups import multisets, sizes

OUTRIGHT = 4_000
"""Ordered groups up to which a black box is evaluated on each of them, and reorderings of few multisets."""

TOGETHER = 2**15
"""The same where `torch.func.vmap` takes the black box, so that a group costs some microseconds."""

MAX_CALLS = 2**18
"""Groups of a black box that are listed unless told otherwise; some minutes where groups go one by one."""

Total = TypeVar("Total")
BatchOf = Callable[[Tensor, Tensor], Batch]
"""(members [M, G], positions [M] of these groups in their chunk) -> the groups as estimators see them."""


class NotAffordable(ValueError):
    """No exact method applies, or the groups are too many to be listed; a sample of them may do."""


class OrderMatters(ValueError):
    """A reordered group has other weights; `every` are the groups that were walked over."""

    def __init__(self, every: "EveryGroup | None" = None) -> None:
        super().__init__(
            "a reordered group has other numbers: it depends on the order of the responses in a group; use "
            "expected_gradient(..., method='groups'), which then lists ordered groups"
        )
        self.every = every


@dataclass(eq=False)
class EveryGroup:
    """All groups of `group_size` of N responses that an estimator is evaluated on."""

    estimator: HasTokenWeights
    prob: Float64[np.ndarray, " N"]
    group_size: int
    symmetric: bool | None = None
    """False: ordered groups; True: multisets, trusted; None: multisets where their order is known not to
    matter, or checked."""
    limit: int | None = None
    """Groups of a black box that may be listed; None: MAX_CALLS."""
    checked: int = field(default=0, init=False)
    """Groups whose order was checked."""
    size: float = field(default=0.0, init=False)
    """E[sum |c|] of the groups that were summed last, to which rounding is relative."""
    ordered: bool = field(init=False)
    """Whether the groups that were listed last are ordered ones."""

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group_size = {self.group_size}: a group has a whole number >= 1 of responses")
        few = not self.known and self.symmetric is None and self.sequences <= OUTRIGHT
        self.ordered = self.group_size > 1 and (self.symmetric is False or few)

    @cached_property
    def known(self) -> bool:
        """Whether the estimator's parts say that the order does not matter."""
        return properties_of(self.estimator).known

    @cached_property
    def weigh(self) -> Callable[[Batch], Tensor]:
        """Token weights of many groups."""
        apart = getattr(self.estimator, "apart", None)
        if self.known:
            return self.estimator.token_weights
        one = self.estimator.token_weights
        return BlackBox(self.estimator, apart() if apart is not None else Apart(one, one, depends=True))

    @property
    def sequences(self) -> int | float:
        """Ordered groups there are, N^G; inf where nobody could list them."""
        return sizes.sequences(self.prob.size, self.group_size)

    @property
    def groups(self) -> int | float:
        """Groups that are listed as things stand."""
        return self.sequences if self.ordered else sizes.multisets(self.prob.size, self.group_size)

    @property
    def largest(self) -> int:
        """Groups that may be listed."""
        if self.known:
            return multisets.MAX_GROUPS
        return min(multisets.MAX_GROUPS, MAX_CALLS if self.limit is None else self.limit)

    def listing(self, chunk: int) -> Iterator[tuple[Int64[np.ndarray, "M G"], Float64[np.ndarray, " M"]]]:
        """(members, probability) of all groups as things stand, `chunk` at a time."""
        listing = multisets.ordered_groups if self.ordered else multisets.groups
        return listing(self.prob, self.group_size, chunk)

    def reorderings(self, first: int, M: int, repetitions: int) -> Int64[Tensor, "R M G"]:
        """Other orders of the members of groups number first, first + 1, ..."""
        return multisets.reorderings(first, M, self.group_size, repetitions)

    def obstacle(self) -> str:
        """Why the groups are too many, or ''."""
        if self.groups <= self.largest:
            return ""
        N, G = self.prob.size, self.group_size
        kind = (
            f"N**G = {sizes.written(self.groups)} ordered groups"
            if self.ordered
            else f"C(N+G-1, G) = {sizes.written(self.groups)} multisets"
        )
        name = "MAX_GROUPS" if self.known else "limit"
        return f"(N, G) = ({N}, {G}) has {kind} of responses, more than {name} = {self.largest:,}"

    def over(self, total: Callable[["Walk"], Total]) -> Total:
        """`total` of a walk over the groups: multisets where they may stand for ordered ones.

        Raises NotAffordable for too many groups, and ValueError for an estimator that answers differently
        the second time or whose value reads no log-probability in any group.
        """
        try:
            return self.walked(total)
        except OrderMatters:
            self.ordered = True
            return self.walked(total)

    def walked(self, total: Callable[["Walk"], Total]) -> Total:
        walk = self.fresh_walk()
        found = total(walk)
        walk.finish()
        self.checked = walk.orders.groups
        return found

    def fresh_walk(self) -> "Walk":
        """A walk over the groups that are listed as things stand; ValueError where they are too many."""
        self.refuse_too_many()
        checked = not self.known and self.symmetric is None and not self.ordered and self.group_size > 1
        return Walk(self, checked)

    def refuse_too_many(self) -> None:
        why = self.obstacle()
        if why:
            found = self.ordered and self.symmetric is None
            order = ", and their order matters to the estimator" if found else ""
            raise NotAffordable(
                f"{why}{order}; lower N or G, raise limit=..., or use method='sampled', "
                f"which gives an interval"
            )

    def seconds(self, batch_of: BatchOf) -> float:
        """About how long the walk takes, from a few groups."""
        rng = np.random.default_rng(0)
        members = torch.from_numpy(rng.integers(0, self.prob.size, (SAMPLE, self.group_size)))
        self.weigh(batch_of(members[:2], torch.arange(2)))
        start = time.perf_counter()
        self.weigh(batch_of(members, torch.arange(SAMPLE)))
        each = (time.perf_counter() - start) / SAMPLE
        return each * self.groups * (1 if self.known else 2)


SAMPLE = 512
"""Groups whose evaluation is timed."""


@dataclass(eq=False)
class BlackBox:
    """Token weights of many groups, one group at a time, with the memory of how that went."""

    estimator: Any
    apart: Apart

    def __call__(self, batch: Batch) -> Tensor:
        batch.check()
        c = self.apart(batch)
        return c if bool(torch.isfinite(c).all()) else self.estimator.token_weights(batch)


class Walk:
    """One pass over all groups, chunk by chunk, with its checks."""

    def __init__(self, every: EveryGroup, check: bool) -> None:
        self.every, self.check = every, check
        self.seen = 0
        self.orders, self.again = Differences(), Differences()
        self.first: tuple[Tensor, Tensor, BatchOf, Tensor] | None = None

    def chunks(self, size: int) -> Iterator[tuple[Int64[Tensor, "M G"], Float[Tensor, " M"]]]:
        """(members, probability) of all groups, at most `size` at a time."""
        for members, prob in self.every.listing(size):
            yield torch.from_numpy(members), torch.from_numpy(prob)
            self.seen += len(prob)

    def weights(
        self, members: Int64[Tensor, "M G"], prob: Float[Tensor, " M"], batch_of: BatchOf
    ) -> Float[Tensor, "M G T"]:
        """c[i,t] of a chunk of groups, checked.

        Raises OrderMatters, and ValueError where the same group gets other weights the second time.
        """
        rows = torch.arange(len(members))
        c = self.every.weigh(batch_of(members, rows))
        if self.every.known:
            return c
        if self.check and self.cheap:
            raise OrderMatters(self.every)
        if self.check:
            (M, G), R = members.shape, self.repetitions
            order = self.every.reorderings(self.seen, M, R).reshape(R * M, G)
            moved = self.every.weigh(batch_of(members.repeat(R, 1).gather(1, order), rows.repeat(R)))
            there = c.repeat(R, 1, 1).gather(1, order[..., None].expand_as(moved))
            self.orders.dtype = self.dtype
            if self.orders.add(there, moved, prob.repeat(R)) is not None:
                self.ask_again(members, prob, batch_of, c)
                raise OrderMatters(self.every)
        else:
            self.ask_again(members, prob, batch_of, c)
        if self.first is None:
            few = slice(0, FEW)
            self.first = (members[few], prob[few], batch_of, c[few])
        return c

    @property
    def dtype(self) -> torch.dtype:
        """In which the estimator computes, as far as was seen."""
        apart = getattr(self.every.weigh, "apart", None)
        return torch.float64 if apart is None else apart.dtype

    @property
    def cheap(self) -> bool:
        """Whether ordered groups, which need no check, are few enough for what one of them costs."""
        apart = getattr(self.every.weigh, "apart", None)
        return apart is not None and apart.together and self.every.sequences <= TOGETHER

    @property
    def repetitions(self) -> int:
        """Reorderings of each multiset: more where multisets are few."""
        return max(1, int(OUTRIGHT / self.every.groups))

    def ask_again(
        self, members: Int64[Tensor, "M G"], prob: Float[Tensor, " M"], batch_of: BatchOf, c: Tensor
    ) -> None:
        """Raise ValueError where the same groups, in an order of their own if many, get other weights now."""
        order = torch.arange(len(c))
        if len(c) > FEW:
            # In the same order a state of period 2 would answer an even number of groups alike.
            order = torch.from_numpy(np.random.default_rng(self.seen).permutation(len(c)))
        batch = batch_of(members[order], order)
        c, prob = c[order], prob[order]
        self.again.dtype = self.dtype
        worst = self.again.add(c, self.every.weigh(batch), prob)
        if worst is not None:
            group = picked(batch, worst) if "logp" in tensors_of(batch) else batch
            rewards = ", ".join(f"{r:.6g}" for r in group.reward.tolist()[:8])
            raise ValueError(
                f"the estimator gives other token weights to the same group the second time (rewards "
                f"[{rewards}]), so that groups do not determine its expectation; switch off dropout and "
                f"other randomness inside it, and keep no state from one call to the next"
            )

    def finish(self) -> None:
        """After the last chunk: the first groups once more, and whether anything was differentiated."""
        if self.first is not None:
            members, prob, batch_of, c = self.first
            self.ask_again(members, prob, batch_of, c)
            # Between the two one call more, so that no estimator of period 2 is in the same phase both times.
            self.every.weigh(batch_of(members[:1], torch.arange(1)))
            self.ask_again(members, prob, batch_of, c)
        weigh = self.every.weigh
        if isinstance(weigh, BlackBox) and not weigh.apart.depends:
            raise ValueError(
                f"the objective does not depend on batch.logp in any of the {self.every.groups:,} groups: "
                f"nothing to differentiate"
            )


FEW = 4
"""Groups of the first chunk that are evaluated again at the end."""
