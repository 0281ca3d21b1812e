"""Sums over all responses of a layered graph, without expanding one: forward and backward over its layers.

    d(n)       probability of visiting node n                                        forward
    U(n, a)    E[value | node n, token a]                                            backward
    M[s, a]    sum over the nodes n of row s of d(n) times the expected weight of token a at n

`policy.pull_back` turns M into the gradient sum_{s,a} M[s, a] grad log pi(a | s). Cost is linear in the
number of (node, token) pairs, memory beyond the result linear in the number of nodes. Tables are float64
[S, V] that `policy.logits` has checked; -inf masks a token, whose weight is then 0. Nothing overflows,
because a ratio enters only multiplied by the probability under theta_old. The sum over responses is that of
arXiv:2508.02833 v2, Eq. 6, taken in another order.
"""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ticgrpo_theory.estimators.clip_table import OPEN, ClipTable
from ticgrpo_theory.exact.dynamic import layer_kernels as kernels
from ticgrpo_theory.worlds.graph import Graph

Floats = NDArray[np.float64]
Clip = tuple[tuple[float, float, float, float], tuple[float, float, float, float]]

LOG_MAX = math.log(np.finfo(np.float64).max)
WORTH_THREADS = 2**18
"""Logits below which starting a thread takes longer than it saves."""


class Drawn(NamedTuple):
    """A policy that draws in the place of theta_old, and the numbers of its corrections of single tokens."""

    sampler: Floats
    corrections: Floats


class Forward(NamedTuple):
    """What a policy visits: d(n) of every node, in the order of graph.row, and P(o) of every outcome."""

    visits: Floats
    outcome_prob: Floats


def forward(graph: Graph, logits: Floats) -> Forward:
    """d(n) of every node and P(o) of every outcome under softmax(logits)."""
    found = Forward(np.empty(graph.row.size), np.empty(graph.reward.size))
    kernels.forward(kernels.layers_of(graph), checked(graph, logits, "logits"), *found)
    return found


def outcome_distribution(graph: Graph, logits: Floats) -> Floats:
    """P(o), the probability of every outcome under softmax(logits)."""
    return forward(graph, logits).outcome_prob


def visits(graph: Graph, logits: Floats) -> Floats:
    """d(n), the probability of visiting each node under softmax(logits)."""
    return forward(graph, logits).visits


def value_weights(graph: Graph, logits: Floats, value: Floats) -> Floats:
    """M[s, a] = sum_n d(n) pi(a | s) E[value | n, a]; its pull-back is grad E[value]."""
    return prefix_weights(graph, logits, logits, value)


def value_gradient(graph: Graph, logits: Floats, value: Floats) -> Floats:
    """grad E[value] = sum_{s,a} M[s, a] grad log pi(a | s), M of `value_weights`, in one pass over memory."""
    d, clip = visits(graph, logits), token_clip(OPEN)
    return backward(graph, logits, logits, d, value, np.zeros(value.shape), clip, share_of_mean=1.0)


def prefix_weights(graph: Graph, theta: Floats, theta_old: Floats, value: Floats) -> Floats:
    """M[s, a] = sum_n d(n) pi_theta(a | s) E_old[value | n, a], d(n) the visits under theta.

    The token weight is w(prefix up to the token) value(response): the ratio turns the probability of the
    prefix into that under theta, while what follows stays with theta_old.
    """
    d, clip = visits(graph, theta), token_clip(OPEN)
    return backward(graph, theta, theta_old, d, value, np.zeros(value.shape), clip, share_of_mean=0.0)


def token_weights(
    graph: Graph,
    theta: Floats,
    theta_old: Floats,
    f_plus: Floats,
    f_minus: Floats,
    table: ClipTable,
    *,
    visits_old: Floats | None = None,
    drawn: Drawn | None = None,
) -> Floats:
    """M[s, a] = sum_n d_old(n) pi_old(a | s) (c+(w) E_old[f_plus | n, a] + c-(w) E_old[f_minus | n, a]).

    w = pi_theta / pi_old of the token, c+ and c- the weights that `table` lists: the same at every length, or
    ValueError. f_plus and f_minus are the expected positive and negative parts of the advantage, times the
    scale, given the outcome. `visits_old`: d_old, where `forward` has found it already. Where `drawn` says
    who draws, d_old pi_old and E_old become d_mu mu phi and E_mu.
    """
    clip = token_clip(table)
    d = visits(graph, theta_old if drawn is None else drawn.sampler) if visits_old is None else visits_old
    return backward(graph, theta, theta_old, d, f_plus, f_minus, clip, share_of_mean=0.0, drawn=drawn)


def token_gradient(
    graph: Graph,
    theta: Floats,
    theta_old: Floats,
    f_plus: Floats,
    f_minus: Floats,
    table: ClipTable,
    *,
    visits_old: Floats | None = None,
    drawn: Drawn | None = None,
) -> Floats:
    """sum_{s,a} M[s, a] grad_theta log pi_theta(a | s), M of `token_weights`, in one pass over memory."""
    clip = token_clip(table)
    d = visits(graph, theta_old if drawn is None else drawn.sampler) if visits_old is None else visits_old
    return backward(graph, theta, theta_old, d, f_plus, f_minus, clip, share_of_mean=1.0, drawn=drawn)


def token_clip(table: ClipTable) -> Clip:
    """(lowest, highest, below, above) of the weight, for A >= 0 and for A < 0, as kernels take them."""
    lo_plus, hi_plus, lo_minus, hi_minus, *beyond = map(exponential, table.at_every_length())
    below_plus, above_plus, below_minus, above_minus = beyond
    return (lo_plus, hi_plus, below_plus, above_plus), (lo_minus, hi_minus, below_minus, above_minus)


def exponential(bound: float) -> float:
    """exp(bound); inf, which is no bound at all, beyond the largest float64."""
    return math.exp(bound) if bound < LOG_MAX else math.inf


def backward(
    graph: Graph,
    theta: Floats,
    theta_old: Floats,
    visits: Floats,
    f_plus: Floats,
    f_minus: Floats,
    clip: Clip,
    *,
    share_of_mean: float,
    drawn: Drawn | None = None,
) -> Floats:
    """The compiled backward pass on checked arrays: M at share_of_mean = 0, at 1 its pull-back at theta."""
    theta, theta_old = checked(graph, theta, "theta"), checked(graph, theta_old, "theta_old")
    if theta.shape != theta_old.shape:
        raise ValueError(f"theta has shape {theta.shape}, theta_old {theta_old.shape}: give both as [S, V]")
    for name, numbers, size in (
        ("visits_old", visits, graph.row.size),
        ("f_plus", f_plus, graph.reward.size),
        ("f_minus", f_minus, graph.reward.size),
    ):
        if numbers.shape != (size,):
            raise ValueError(
                f"{name} has shape {numbers.shape}; this graph has {graph.row.size:,} nodes and "
                f"{graph.reward.size:,} outcomes: give one number for each, ({size},)"
            )
    layers, visits = kernels.layers_of(graph), np.ascontiguousarray(visits, dtype=np.float64)
    values = np.stack([f_plus, f_minus], axis=1).astype(np.float64, copy=False)
    U = np.empty((graph.row.size, 2))
    if drawn is None:
        drawn = Drawn(theta_old, np.empty((0, 5)))
    kernels.backward(layers, checked(graph, drawn.sampler, "theta_sampler"), values, U)
    third = drawn.sampler if drawn.sampler is not theta_old else theta_old[:0]
    sums = kernels.Sums(theta, theta_old, visits, values, U, clip, third, drawn.corrections)
    M, written = np.empty(theta.shape), np.zeros(len(theta), dtype=np.bool_)

    def assemble(first: int, last: int) -> None:
        kernels.assemble(layers, first, last, sums, share_of_mean, written, M)

    parts = independent_depths(graph, theta.size)
    if len(parts) == 1:
        assemble(*parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(assemble, *zip(*parts, strict=True)))
    if not written.all():
        M[~written] = 0.0
    return M


def independent_depths(graph: Graph, size: int) -> list[tuple[int, int]]:
    """Ranges of depths that share no logits row, one for each thread that torch may use."""
    threads = min(torch.get_num_threads(), graph.horizon)
    if threads == 1 or size < WORTH_THREADS or np.bincount(graph.row).max() > 1:
        return [(0, graph.horizon)]
    # Equal numbers of nodes: their rows are what takes the time.
    shares = np.searchsorted(graph.node_start, np.linspace(0, graph.row.size, threads + 1)[1:-1])
    ends = [0, *shares.tolist(), graph.horizon]
    return list(itertools.pairwise(ends))


def checked(graph: Graph, logits: Floats, name: str) -> Floats:
    """`logits` as kernels read them: float64 [S, V], C-contiguous, with every row that the graph reads."""
    rows = int(graph.row.max()) + 1
    if logits.ndim != 2 or logits.shape[0] < rows or logits.shape[1] != graph.vocab_size:
        raise ValueError(
            f"{name} has shape {logits.shape}; this graph reads {rows} rows of {graph.vocab_size} logits: "
            f"give a table [S, V] with S >= {rows}, V = {graph.vocab_size}"
        )
    return np.ascontiguousarray(logits, dtype=np.float64)
