"""Expectations over a group by listing which types its responses have, with the sums of group_sums/counts.py.

This suits more types than responses, and advantages that are only callable on a vector of rewards.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor, from_numpy

from ticgrpo_theory.estimators.properties import Differences
from ticgrpo_theory.exact.group_sums.counts import CHUNK, per_pair, per_response
from ticgrpo_theory.exact.groups.every_group import OUTRIGHT, OrderMatters
from ticgrpo_theory.exact.groups.multisets import groups, reorderings
from ticgrpo_theory.worlds.compiling import kernel

Chunks = Iterator[tuple[Int64[np.ndarray, "M G"], Float64[np.ndarray, "M G"], Float64[np.ndarray, " M"]]]

OfGroup = Callable[[Tensor, Tensor], Tensor]
"""(reward, length) of whole groups [M, G] -> contribution of every response [M, G]."""


@dataclass(frozen=True, eq=False)
class Members:
    """All multisets of G types, as vectors of rewards and lengths."""

    contribution: OfGroup
    reward: Float64[np.ndarray, " m"]
    length: Float64[np.ndarray, " m"]
    group_size: int

    def chunks(self, prob: Float64[np.ndarray, " m"]) -> Chunks:
        """(types [M, G], contribution [M, G], probability [M]), a part of the groups at a time."""
        for members, weight in groups(prob, self.group_size, max(1, CHUNK // self.group_size)):
            yield members, np.ascontiguousarray(self.of(members).numpy()), weight

    @property
    def known(self) -> "Members":
        """The same contributions, whose order needs no further check: it is the same at all probabilities."""
        return self

    def of(self, members: Int64[np.ndarray, "M G"]) -> Tensor:
        """Contributions of groups of types."""
        return self.contribution(from_numpy(self.reward[members]), from_numpy(self.length[members]))

    def given_one(self, prob: Float64[np.ndarray, "Q m"]) -> Float64[np.ndarray, "Q 2 m"]:
        """As `Counts.given_one`."""
        out, listed = np.zeros((len(prob), 2, self.reward.size)), self
        for q, p in enumerate(prob):
            for members, A, weight in listed.chunks(p):
                part = np.zeros_like(out[q])
                add_signed_members(members, A, weight, part)
                out[q] += part
            listed = self.known
        return per_response(out, prob, self.group_size)

    def given_two(
        self, prob: Float64[np.ndarray, "Q m"]
    ) -> tuple[Float64[np.ndarray, "Q 2 m"], Float64[np.ndarray, "Q 2 2 m m"]]:
        """As `Counts.given_two`."""
        m, listed = self.reward.size, self
        square, cross = np.zeros((len(prob), 2, m)), np.zeros((len(prob), 2, 2, m, m))
        for q, p in enumerate(prob):
            for members, A, weight in listed.chunks(p):
                add_products_of_members(members, A, weight, square[q], cross[q])
            listed = self.known
        return per_response(square, prob, self.group_size), per_pair(cross, prob, self.group_size)


class CheckedMembers(Members):
    """The same for a contribution that is not of the catalogue: the order of every group is checked."""

    def chunks(self, prob: Float64[np.ndarray, " m"]) -> Chunks:
        """As `Members.chunks`; raises OrderMatters where a reordered group has other contributions."""
        count = math.comb(self.group_size + prob.size - 1, self.group_size)
        seen, found, R = 0, Differences(), max(1, OUTRIGHT // count)
        for members, A, weight in super().chunks(prob):
            M, G = members.shape
            order = reorderings(seen, M, G, R).reshape(R * M, G)
            moved = self.of(np.take_along_axis(np.tile(members, (R, 1)), order.numpy(), axis=1))
            there = from_numpy(A).repeat(R, 1).gather(1, order)
            if found.add(there[..., None], moved[..., None], from_numpy(weight).repeat(R)) is not None:
                raise OrderMatters
            seen += len(weight)
            yield members, A, weight

    @property
    def known(self) -> Members:
        return Members(self.contribution, self.reward, self.length, self.group_size)


@kernel
def add_signed_members(members, A, weight, out):
    """As `add_signed`, each response on its own."""
    for g in range(weight.size):
        for i in range(members.shape[1]):
            term = weight[g] * A[g, i]
            out[0, members[g, i]] += max(term, 0.0)
            out[1, members[g, i]] += min(term, 0.0)


@kernel
def add_products_of_members(members, A, weight, square, cross):
    """square[s, j] += P (A_i^s)^2; cross[s, s', j, j'] += P A_i^s A_i'^s' over different responses i, i'."""
    for g in range(weight.size):
        for i in range(members.shape[1]):
            s, own = (0 if A[g, i] > 0 else 1), members[g, i]
            square[s, own] += weight[g] * A[g, i] ** 2
            for other in range(members.shape[1]):
                if other == i:
                    continue
                r = 0 if A[g, other] > 0 else 1
                cross[s, r, own, members[g, other]] += weight[g] * A[g, i] * A[g, other]
