"""Every group there is: all multisets of G responses out of N, each with its probability.

    P(i_1 <= ... <= i_G) = G! / (n_1! ... n_N!) prod_i P_old(i)^{n_i}

An estimator that treats the responses of a group alike has the same token weights in every order, so that
C(N+G-1, G) multisets stand for N^G ordered groups. That symmetry is tested on groups, not assumed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.kernels import kernel

MAX_GROUPS = 2**25
"""Largest number of groups that are listed, about a minute of batched estimators."""

MAX_SINGLE_GROUPS = 2**18
"""The same for callables, which see one group at a time: about two minutes."""

CHUNK = 2**16
"""Numbers (groups x G x T) evaluated at once: enough to amortise torch, few enough to stay in cache."""

SYMMETRY_TOLERANCE = 1e-9
"""Largest difference, relative to the largest weight, between a group and its reordering."""


@runtime_checkable
class HasTokenWeights(Protocol):
    def token_weights(self, batch: Batch) -> Tensor: ...


def groups(
    prob: Float64[np.ndarray, " N"], group_size: int, chunk: int
) -> Iterator[tuple[Int64[np.ndarray, "M G"], Float64[np.ndarray, " M"]]]:
    """(members, probability) of all multisets, `chunk` at a time; members never decrease along a row.

    Raises ValueError, before allocating, when there are more than MAX_GROUPS.
    """
    N = prob.size
    count = math.comb(N + group_size - 1, group_size)
    if count > MAX_GROUPS:
        raise ValueError(
            f"(N, G) = ({N}, {group_size}) has C(N+G-1, G) = {count:,} multisets of responses, more than "
            f"MAX_GROUPS = {MAX_GROUPS:,}; lower N or G, or use method='enumeration' (one response at a "
            f"time, exact for estimators linear in A for each sign)"
        )
    return _listed(next_multisets, prob, np.zeros(group_size, dtype=np.int64), count, chunk)


def ordered_groups(
    prob: Float64[np.ndarray, " N"], group_size: int, chunk: int
) -> Iterator[tuple[Int64[np.ndarray, "M G"], Float64[np.ndarray, " M"]]]:
    """(members, probability) of all N^G ordered groups; refused above MAX_GROUPS, before allocating."""
    N = prob.size
    count = N**group_size
    if count > MAX_GROUPS:
        raise ValueError(
            f"(N, G) = ({N}, {group_size}) has N**G = {count:,} ordered groups, more than MAX_GROUPS = "
            f"{MAX_GROUPS:,}; lower N or G, or use an estimator that treats the responses of a group alike: "
            f"its multisets are {math.comb(N + group_size - 1, group_size):,}"
        )
    return _listed(next_ordered, prob, np.zeros(group_size, dtype=np.int64), count, chunk)


def _listed(fill, prob, state, count, chunk):
    for first in range(0, count, chunk):
        size = min(chunk, count - first)
        members, weight = np.empty((size, state.size), dtype=np.int64), np.empty(size)
        fill(state, np.ascontiguousarray(prob), members, weight)
        yield members, weight


@kernel
def next_multisets(state, prob, members, weight):
    """Rows of the next multisets from `state` on, which is left at the one after the last row."""
    G, N = state.size, prob.size
    for row in range(weight.size):
        P, run = 1.0, 0
        for i in range(G):
            n = state[i]
            members[row, i] = n
            run = run + 1 if i > 0 and n == state[i - 1] else 1
            # G! / prod n! = prod (i+1) / run: every factor leaves the probability of the first i+1 members.
            P *= (i + 1) / run * prob[n]
        weight[row] = P
        i = G - 1
        while i > 0 and state[i] == N - 1:
            i -= 1
        state[i:] = state[i] + 1


@kernel
def next_ordered(state, prob, members, weight):
    """As `next_multisets`, for ordered groups."""
    G, N = state.size, prob.size
    for row in range(weight.size):
        P = 1.0
        for i in range(G):
            members[row, i] = state[i]
            P *= prob[state[i]]
        weight[row] = P
        i = G - 1
        while i > 0 and state[i] == N - 1:
            state[i] = 0
            i -= 1
        state[i] += 1


def expected_token_weights(
    estimator: HasTokenWeights,
    mask: Bool[Tensor, "N T"],
    logp: Float[Tensor, "N T"],
    logp_old: Float[Tensor, "N T"],
    reward: Float[Tensor, " N"],
    prob_old: Float[Tensor, " N"],
    group_size: int,
    horizon: int,
    logp_ref: Float[Tensor, "N T"] | None = None,
    *,
    ordered: bool = False,
) -> Float[Tensor, "N T"]:
    """C[n,t] = sum over groups of P(group) sum of c[i,t] over members i that are n.

    E[g_hat] = sum_nt C[n,t] grad log pi. `estimator` is an Estimator or a wrapped callable (Objective,
    from_loss). Responses of probability 0 are left out and get 0. Groups are ordered where `ordered`, or
    where a reordered group has other weights.

    Raises ValueError for too many groups, and for a callable that answers differently when asked twice.
    """
    possible = prob_old > 0

    def padded(table: Tensor) -> Tensor:
        return table[possible].double().where(mask[possible], 0.0)

    responses = Responses(
        estimator,
        padded(logp),
        padded(logp_old),
        None if logp_ref is None else padded(logp_ref),
        reward[possible].double(),
        mask[possible],
        horizon,
    )
    prob = prob_old[possible].double().numpy()
    N, T = len(prob), mask.shape[1]
    if group_size < 1:
        raise ValueError(f"group_size = {group_size}: a group has a whole number >= 1 of responses")
    listing = groups if not ordered and responses.symmetric(group_size) else ordered_groups
    every = listing(prob, group_size, max(1, CHUNK // (group_size * T)))
    if not isinstance(estimator, Estimator):
        check_single(N, group_size, listing is ordered_groups)
    C = np.zeros((N, T))
    for members, weight in every:
        c = responses.token_weights(torch.from_numpy(members))
        scatter_groups(members, weight, c.contiguous().numpy(), C)
    full = torch.zeros(mask.shape, dtype=torch.float64)
    full[possible] = torch.from_numpy(C)
    return full


def check_single(N: int, group_size: int, ordered: bool) -> None:
    """Raise ValueError where a callable, which sees one group at a time, would be called too often."""
    count = N**group_size if ordered else math.comb(N + group_size - 1, group_size)
    if count > MAX_SINGLE_GROUPS:
        raise ValueError(
            f"(N, G) = ({N}, {group_size}) asks for {count:,} calls of the objective, one for each group, "
            f"more than MAX_SINGLE_GROUPS = {MAX_SINGLE_GROUPS:,}; lower N or G, or write the estimator as "
            f"an Estimator, whose groups are evaluated in batches"
        )


@dataclass(frozen=True, eq=False)
class Responses:
    """The N responses that groups are made of, and the estimator that weighs them."""

    estimator: HasTokenWeights
    logp: Float[Tensor, "N T"]
    logp_old: Float[Tensor, "N T"]
    logp_ref: Float[Tensor, "N T"] | None
    reward: Float[Tensor, " N"]
    mask: Bool[Tensor, "N T"]
    horizon: int

    def token_weights(self, members: Int64[Tensor, "M G"]) -> Float[Tensor, "M G T"]:
        """c[i,t] of every group."""
        batch = Batch(
            self.logp[members],
            self.logp_old[members],
            self.reward[members],
            self.mask[members],
            None if self.logp_ref is None else self.logp_ref[members],
            self.horizon,
        )
        return self.estimator.token_weights(batch)

    def symmetric(self, group_size: int) -> bool:
        """Whether reordering a group reorders its token weights and changes nothing else, on a few groups.

        Raises ValueError where the same group gets different weights when asked twice.
        """
        if group_size == 1:
            return True
        generator = np.random.default_rng(0)
        members = torch.from_numpy(generator.integers(0, len(self.reward), (PROBES, group_size)))
        c = self.token_weights(members)
        tolerance = SYMMETRY_TOLERANCE * float(c.abs().max())
        if float((self.token_weights(members) - c).abs().max()) > tolerance:
            raise ValueError(
                "the objective gives other token weights when asked again about the same group, so that "
                "groups do not determine its expectation; switch off dropout and other randomness inside it"
            )
        for permutation in (np.arange(group_size)[::-1].copy(), generator.permutation(group_size)):
            reordered = self.token_weights(members[:, permutation])
            if float((reordered - c[:, permutation]).abs().max()) > tolerance:
                return False
        return True


PROBES = 8
"""Groups on which the symmetry is tested."""


@kernel
def scatter_groups(members, weight, c, C):
    """C[members[g, i], t] += weight[g] c[g, i, t], in order of g and i."""
    for g in range(weight.size):
        for i in range(members.shape[1]):
            n = members[g, i]
            for t in range(C.shape[1]):
                C[n, t] += weight[g] * c[g, i, t]
