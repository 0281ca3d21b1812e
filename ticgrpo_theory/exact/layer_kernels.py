"""Compiled forward and backward passes over the layers of a graph.

Between two depths all numbers sit in one array, `onward`: entry width + j belongs to successor j, to node j
of the next depth where j >= 0 and to an ended outcome where j < 0, so that the loops over tokens never
branch. Nodes are taken in chunks, whose softmax rows are kept while the next chunk reads the same rows: a
table that is shared over time is exponentiated once, a table with rows of its own at every depth is never
copied.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.exact.kernels import BLOCK, clipped, kernel, reduction, softmax
from ticgrpo_theory.graph import Graph


class Layers(NamedTuple):
    """The arrays of a Graph, as kernels take them; `width[t]` ended outcomes can be reached from depth t."""

    node_start: NDArray[np.int64]
    row: NDArray[np.int64]
    successor_start: NDArray[np.int64]
    successor: NDArray[np.int32]
    ended_start: NDArray[np.int64]
    width: NDArray[np.int64]
    final_start: int
    start: int


def layers_of(graph: Graph) -> Layers:
    width = np.empty(graph.horizon, dtype=np.int64)
    ended_widths(graph.node_start, graph.successor_start, graph.successor, width)
    return Layers(
        graph.node_start,
        graph.row,
        graph.successor_start,
        graph.successor,
        graph.ended_start,
        width,
        graph.final_start,
        graph.start,
    )


@kernel
def ended_widths(node_start, successor_start, successor, width):
    """width[t] = the largest -j over the successors j of depth t, 0 where no response ends there."""
    for t in range(width.size):
        first, count = successor_start[t], node_start[t + 1] - node_start[t]
        if t > 0 and first == successor_start[t - 1] and count == node_start[t] - node_start[t - 1]:
            width[t] = width[t - 1]
            continue
        least = 0
        for n in range(first, first + count):
            for a in range(successor.shape[1]):
                least = min(least, successor[n, a])
        width[t] = -least


@kernel
def nodes(layers, outcomes, t):
    """Number of nodes of depth t; at t = T the outcomes that were cut at the horizon."""
    if t == layers.width.size:
        return outcomes - layers.final_start
    return layers.node_start[t + 1] - layers.node_start[t]


@kernel
def room(layers, outcomes):
    """A size that the numbers of every depth fit into, ended outcomes included."""
    size = 0
    for t in range(layers.width.size + 1):
        size = max(size, nodes(layers, outcomes, t))
    widest = 0
    for t in range(layers.width.size):
        widest = max(widest, layers.width[t])
    return size + widest


@kernel
def equal(x, y):
    if x.size != y.size:
        return False
    for i in range(x.size):
        if x[i] != y[i]:
            return False
    return True


@kernel
def forward(layers, logits, visits, law):
    """visits[n] = sum over (m, a) leading to n of visits[m] pi(a | m); law[o] the same for outcomes o."""
    T, V = layers.width.size, logits.shape[1]
    step = max(1, BLOCK // V)
    pi, held = np.empty((step, V)), layers.row[:0]
    onward = np.empty(room(layers, law.size))
    law[:] = 0.0
    visits[:] = 0.0
    visits[layers.start] = 1.0
    for t in range(T):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, law.size, t + 1)
        onward[: width + following] = 0.0
        for first in range(begin, end, step):
            rows = layers.row[first : min(first + step, end)]
            if not equal(rows, held):
                softmax(logits, rows, pi)
                held = rows
            for i in range(rows.size):
                d, k = visits[first + i], layers.successor_start[t] + first + i - begin
                if d != 0.0:
                    for a in range(V):
                        onward[np.uintp(width + layers.successor[k, a])] += d * pi[i, a]
        for i in range(width):
            law[layers.ended_start[t] + i] += onward[width - 1 - i]
        for i in range(following):
            if t + 1 < T:
                visits[end + i] = onward[width + i]
            else:
                law[layers.final_start + i] += onward[width + i]


@reduction
def token_values(successor, width, onward, pi, plus, minus, weight):
    """weight[a] = plus[a] U+(a) + minus[a] U-(a); returns sums over a of pi U+, of pi U-, of weight."""
    u_plus, u_minus, share = 0.0, 0.0, 0.0
    for a in range(pi.size):
        j = np.uintp(width + successor[a])
        x, y = onward[j, 0], onward[j, 1]
        w = plus[a] * x + minus[a] * y
        weight[a] = w
        share += w
        u_plus += pi[a] * x
        u_minus += pi[a] * y
    return u_plus, u_minus, share


@kernel
def clip_both(p, p_old, clip_plus, clip_minus, plus, minus):
    """plus, minus [n, V] = p_old c+-(p / p_old)."""
    lowest_plus, highest_plus, below_plus, above_plus = clip_plus
    lowest_minus, highest_minus, below_minus, above_minus = clip_minus
    p, p_old, plus, minus = p.reshape(-1), p_old.reshape(-1), plus.reshape(-1), minus.reshape(-1)
    for i in range(p.size):
        plus[i] = clipped(p[i], p_old[i], lowest_plus, highest_plus, below_plus, above_plus)
        minus[i] = clipped(p[i], p_old[i], lowest_minus, highest_minus, below_minus, above_minus)


@kernel
def backward(layers, theta, theta_old, visits, values, clip_plus, clip_minus, pulled, M):
    """M[s, a] = sum over nodes n of row s of visits[n] (x(n, a) - pulled pi_theta(a | s) sum_b x(n, b)).

    x(n, a) = pi_old (c+(w) U+(n, a) + c-(w) U-(n, a)), w = pi_theta / pi_old of the token, and
    U+-(n, a) = E_old[values[:, +-] | node n, token a]; pulled = 0 leaves M, pulled = 1 pulls it back at
    theta.
    """
    T, V = layers.width.size, theta.shape[1]
    step = max(1, BLOCK // V)
    pi, pi_old = np.empty((step, V)), np.empty((step, V))
    plus, minus, weight = np.empty((step, V)), np.empty((step, V)), np.empty(V)
    held = layers.row[:0]
    onward = np.empty((room(layers, len(values)), 2))
    expected = np.empty_like(onward)
    for i in range(nodes(layers, len(values), T)):
        for sign in range(2):
            expected[i, sign] = values[layers.final_start + i, sign]
    # The first node that reads a row writes it: a table of zeros would cost a pass over memory of its own.
    written = np.zeros(len(M), dtype=np.bool_)
    for t in range(T - 1, -1, -1):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, len(values), t + 1)
        for i in range(width):
            for sign in range(2):
                onward[width - 1 - i, sign] = values[layers.ended_start[t] + i, sign]
        for i in range(following):
            for sign in range(2):
                onward[width + i, sign] = expected[i, sign]
        for first in range(begin, end, step):
            rows = layers.row[first : min(first + step, end)]
            if not equal(rows, held):
                softmax(theta, rows, pi)
                softmax(theta_old, rows, pi_old)
                size = rows.size
                clip_both(pi[:size], pi_old[:size], clip_plus, clip_minus, plus[:size], minus[:size])
                held = rows
            for i in range(rows.size):
                n, s = first + i, rows[i]
                onto = layers.successor[layers.successor_start[t] + n - begin]
                u_plus, u_minus, share = token_values(
                    onto, width, onward, pi_old[i], plus[i], minus[i], weight
                )
                expected[n - begin, 0], expected[n - begin, 1] = u_plus, u_minus
                d, share = visits[n], share * pulled
                if written[s]:
                    for a in range(V):
                        M[s, a] += d * (weight[a] - share * pi[i, a])
                else:
                    written[s] = True
                    for a in range(V):
                        M[s, a] = d * (weight[a] - share * pi[i, a])
    for s in range(len(M)):
        if not written[s]:
            for a in range(V):
                M[s, a] = 0.0
