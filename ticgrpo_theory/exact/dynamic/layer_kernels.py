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

from ticgrpo_theory.worlds.compiling import kernel, reduction
from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.kernels import BLOCK, clipped, softmax
from ticgrpo_theory.worlds.pull_back import nearly_certain, pull_back_row


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


class Sums(NamedTuple):
    """What `assemble` multiplies: logits [S, V], visits [n], and by sign of A values [O, 2] and U [n, 2].

    n nodes, O outcomes. clips: (lowest, highest, below, above) of the weight, for A >= 0 and for A < 0.
    sampler: logits of the policy that draws, [0, V] where that is theta_old; corrections [C, 5]: the numbers
    of its corrections of single tokens.
    """

    theta: NDArray[np.float64]
    theta_old: NDArray[np.float64]
    visits: NDArray[np.float64]
    values: NDArray[np.float64]
    U: NDArray[np.float64]
    clips: tuple[tuple[float, float, float, float], tuple[float, float, float, float]]
    sampler: NDArray[np.float64]
    corrections: NDArray[np.float64]


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
def forward(layers, logits, visits, prob):
    """visits[n] = sum over (m, a) leading to n of visits[m] pi(a | m); prob[o] the same for outcomes o."""
    T, V = layers.width.size, logits.shape[1]
    step = max(1, BLOCK // V)
    pi, held = np.empty((step, V)), layers.row[:0]
    onward = np.empty(room(layers, prob.size))
    prob[:] = 0.0
    visits[:] = 0.0
    visits[layers.start] = 1.0
    for t in range(T):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, prob.size, t + 1)
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
            prob[layers.ended_start[t] + i] += onward[width - 1 - i]
        for i in range(following):
            if t + 1 < T:
                visits[end + i] = onward[width + i]
            else:
                prob[layers.final_start + i] += onward[width + i]


@kernel
def spread_out(layers, t, values, U, onward):
    """onward: values of what depth t leads to, U of the nodes of depth t + 1 and values of outcomes."""
    width, end = layers.width[t], layers.node_start[t + 1]
    for sign in range(2):
        for i in range(width):
            onward[width - 1 - i, sign] = values[layers.ended_start[t] + i, sign]
        for i in range(nodes(layers, len(values), t + 1)):
            if t + 1 < layers.width.size:
                onward[width + i, sign] = U[end + i, sign]
            else:
                onward[width + i, sign] = values[layers.final_start + i, sign]
    return width


@reduction
def expectations(successor, width, onward, pi):
    """(sum_a pi[a] onward[successor[a], +], the same for -)."""
    u_plus, u_minus = 0.0, 0.0
    for a in range(pi.size):
        j = np.uintp(width + successor[a])
        u_plus += pi[a] * onward[j, 0]
        u_minus += pi[a] * onward[j, 1]
    return u_plus, u_minus


@kernel
def backward(layers, logits, values, U):
    """U[n, +-] = E[values[:, +-] | node n] under softmax(logits)."""
    T, V = layers.width.size, logits.shape[1]
    step = max(1, BLOCK // V)
    pi, held = np.empty((step, V)), layers.row[:0]
    onward = np.empty((room(layers, len(values)), 2))
    for t in range(T - 1, -1, -1):
        begin, end = layers.node_start[t], layers.node_start[t + 1]
        width = spread_out(layers, t, values, U, onward)
        for first in range(begin, end, step):
            rows = layers.row[first : min(first + step, end)]
            if not equal(rows, held):
                softmax(logits, rows, pi)
                held = rows
            for i in range(rows.size):
                n = first + i
                onto = layers.successor[layers.successor_start[t] + n - begin]
                U[n, 0], U[n, 1] = expectations(onto, width, onward, pi[i])


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
def draw_from(mu, p_old, corrections, factor, plus, minus):
    """plus, minus [n, V]: p_old c+-(w) become mu phi(W) c+-(w), W = p_old / mu; 0 where mu never draws.

    phi is the product over the rows (lo, hi, below, above, power) of corrections; factor [n, V] is scratch.
    """
    mu, p_old, factor = mu.reshape(-1), p_old.reshape(-1), factor.reshape(-1)
    plus, minus = plus.reshape(-1), minus.reshape(-1)
    for i in range(mu.size):
        factor[i] = mu[i]
    for c in range(corrections.shape[0]):
        lo, hi, below, above, power = corrections[c]
        for i in range(mu.size):
            inside = p_old[i] if power > 0.0 else mu[i]
            inside = above * mu[i] if p_old[i] > hi * mu[i] else inside
            one = below * mu[i] if p_old[i] < lo * mu[i] else inside
            # The first row needs no division: mu phi(W) = min(p_old, hi mu), for example.
            factor[i] = one if c == 0 else factor[i] * (one / mu[i] if mu[i] > 0.0 else 0.0)
    for i in range(mu.size):
        # A probability that underflowed under theta_old has no ratio; check_support refuses what it would be.
        f = factor[i] / p_old[i] if p_old[i] > 0.0 else 0.0
        plus[i] *= f
        minus[i] *= f


@reduction
def weigh_tokens(successor, width, onward, plus, minus, weight):
    """weight[a] = plus[a] U+(a) + minus[a] U-(a), U = onward[successor]; returns its sum."""
    whole = 0.0
    for a in range(successor.size):
        j = np.uintp(width + successor[a])
        w = plus[a] * onward[j, 0] + minus[a] * onward[j, 1]
        weight[a] = w
        whole += w
    return whole


@kernel
def assemble(layers, first_depth, last_depth, sums, share_of_mean, written, M):
    """M[s, a] = sum over nodes n of row s of visits[n] (x(n, a) - share pi_theta(a | s) sum_b x(n, b)).

    x(n, a) = pi_old (c+(w) U+(n, a) + c-(w) U-(n, a)), w = pi_theta / pi_old of the token, U(n, a) that of
    the node or outcome that a leads to; where a sampler mu draws, mu phi stands for pi_old. share =
    share_of_mean: 0 leaves M, 1 pulls it back at theta. Takes the nodes of depths first_depth .. last_depth
    - 1; `written` says which rows have been begun.
    """
    theta, theta_old, visits, values, U, clips, sampler, corrections = sums
    V = theta.shape[1]
    step = max(1, BLOCK // V)
    pi, pi_old, top = np.empty((step, V)), np.empty((step, V)), np.empty(step, dtype=np.int64)
    plus, minus, weight = np.empty((step, V)), np.empty((step, V)), np.empty(V)
    third = step if sampler.shape[0] > 0 else 0
    mu, factor = np.empty((third, V)), np.empty((third, V))
    held = layers.row[:0]
    onward = np.empty((room(layers, len(values)), 2))
    for t in range(first_depth, last_depth):
        begin, end = layers.node_start[t], layers.node_start[t + 1]
        width = spread_out(layers, t, values, U, onward)
        for first in range(begin, end, step):
            rows = layers.row[first : min(first + step, end)]
            if not equal(rows, held):
                softmax(theta, rows, pi)
                softmax(theta_old, rows, pi_old)
                size = rows.size
                nearly_certain(pi, top[:size])
                clip_both(pi[:size], pi_old[:size], clips[0], clips[1], plus[:size], minus[:size])
                if sampler.shape[0] > 0:
                    softmax(sampler, rows, mu)
                    given = mu[:size], pi_old[:size], corrections, factor[:size]
                    draw_from(*given, plus[:size], minus[:size])
                held = rows
            for i in range(rows.size):
                n, s = first + i, rows[i]
                onto = layers.successor[layers.successor_start[t] + n - begin]
                d = visits[n]
                whole = weigh_tokens(onto, width, onward, plus[i], minus[i], weight)
                pull_back_row(weight, pi[i], whole, share_of_mean, top[i])
                if written[s]:
                    for a in range(V):
                        M[s, a] += d * weight[a]
                else:
                    # A table of zeros would cost a pass over memory of its own.
                    written[s] = True
                    for a in range(V):
                        M[s, a] = d * weight[a]
