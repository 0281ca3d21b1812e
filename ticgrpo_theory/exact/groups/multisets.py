"""Every group there is: all multisets of G responses out of N, each with its probability.

    P(i_1 <= ... <= i_G) = G! / (n_1! ... n_N!) prod_i P_old(i)^{n_i}

An estimator that treats the responses of a group alike has the same token weights in every order, so that
C(N+G-1, G) multisets stand for N^G ordered groups. Whether it does is the matter of every_group.py.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ticgrpo_theory.exact.groups import sizes
from ticgrpo_theory.worlds.compiling import kernel

MAX_GROUPS = 2**25
"""Largest number of groups that are listed, about a minute of batched estimators."""

HEADROOM = 2.0**900
"""Probabilities are multiplied above this: two rare members first may take a product below 1e-308, from where
G! / prod n! brings it back without its digits."""

CHUNK = 2**16
"""Numbers (groups x G x T) evaluated at once: enough to amortise torch, few enough to stay in cache."""


def groups(
    prob: Float64[np.ndarray, " N"], group_size: int, chunk: int
) -> Iterator[tuple[Int64[np.ndarray, "M G"], Float64[np.ndarray, " M"]]]:
    """(members, probability) of all multisets, `chunk` at a time; members never decrease along a row.

    Raises ValueError, before allocating, when there are more than MAX_GROUPS.
    """
    N = prob.size
    count = sizes.multisets(N, group_size)
    if count > MAX_GROUPS:
        raise ValueError(
            f"(N, G) = ({N}, {group_size}) has C(N+G-1, G) = {sizes.written(count)} multisets of responses, "
            f"more than MAX_GROUPS = {MAX_GROUPS:,}; lower N or G, or use method='enumeration' (one response "
            f"at a time, exact for estimators linear in A for each sign)"
        )
    return _listed(next_multisets, prob, np.zeros(group_size, dtype=np.int64), int(count), chunk)


def reorderings(first: int, M: int, G: int, repetitions: int) -> Int64[Tensor, "R M G"]:
    """For groups number first, first + 1, ...: other reorderings of each, `repetitions` of them.

    Rotations by 1, ..., G - 1 in turn, and random permutations between them.
    """
    number = (first + np.arange(M)) * repetitions + np.arange(repetitions)[:, None]
    rotated = (np.arange(G) + 1 + (number // 2 % (G - 1))[..., None]) % G
    drawn = np.random.default_rng(first).random((repetitions, M, G)).argsort(axis=-1)
    same = (drawn == np.arange(G)).all(axis=-1)
    return torch.from_numpy(np.where(((number % 2 == 0) | same)[..., None], rotated, drawn))


def ordered_groups(
    prob: Float64[np.ndarray, " N"], group_size: int, chunk: int
) -> Iterator[tuple[Int64[np.ndarray, "M G"], Float64[np.ndarray, " M"]]]:
    """(members, probability) of all N^G ordered groups; refused above MAX_GROUPS, before allocating."""
    N = prob.size
    count = sizes.sequences(N, group_size)
    if count > MAX_GROUPS:
        raise ValueError(
            f"(N, G) = ({N}, {group_size}) has N**G = {sizes.written(count)} ordered groups, "
            f"more than MAX_GROUPS = {MAX_GROUPS:,}; lower N or G, or use an estimator that treats the "
            f"responses of a group alike: its multisets are {sizes.written(sizes.multisets(N, group_size))}"
        )
    return _listed(next_ordered, prob, np.zeros(group_size, dtype=np.int64), int(count), chunk)


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
        P, run = HEADROOM, 0
        for i in range(G):
            n = state[i]
            members[row, i] = n
            run = run + 1 if i > 0 and n == state[i - 1] else 1
            # G! / prod n! = prod (i+1) / run: every factor leaves the probability of the first i+1 members.
            P *= (i + 1) / run * prob[n]
        weight[row] = P / HEADROOM
        i = G - 1
        while i > 0 and state[i] == N - 1:
            i -= 1
        state[i:] = state[i] + 1


@kernel
def next_ordered(state, prob, members, weight):
    """As `next_multisets`, for ordered groups."""
    G, N = state.size, prob.size
    for row in range(weight.size):
        P = HEADROOM
        for i in range(G):
            members[row, i] = state[i]
            P *= prob[state[i]]
        weight[row] = P / HEADROOM
        i = G - 1
        while i > 0 and state[i] == N - 1:
            state[i] = 0
            i -= 1
        state[i] += 1


@kernel
def scatter_groups(members, weight, c, C):
    """C[members[g, i], t] += weight[g] c[g, i, t], in order of g and i."""
    for g in range(weight.size):
        for i in range(members.shape[1]):
            n = members[g, i]
            for t in range(C.shape[1]):
                C[n, t] += weight[g] * c[g, i, t]
