"""Compiled forward and backward passes over the layers of a graph.

Between two depths all values sit in one array `onward`: entry width + j belongs to successor j >= 0, and entry
width + j to the ended outcome j < 0 as well, so that the loops over tokens never branch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.exact.kernels import gated, held, kernel, softmax
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
    width = np.zeros(graph.horizon, dtype=np.int64)
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
def room(layers, outcomes):
    """Largest size that `onward` takes."""
    T = layers.width.size
    size = outcomes - layers.final_start + layers.width[T - 1]
    for t in range(1, T):
        size = max(size, layers.node_start[t + 1] - layers.node_start[t] + layers.width[t - 1])
    return size


@kernel
def forward(layers, pi, visits, law):
    """visits[n] = sum over (m, a) leading to n of visits[m] pi(a | m); law[o] the same for outcomes."""
    T, V = layers.width.size, pi.shape[1]
    onward = np.empty(room(layers, law.size))
    visits[:] = 0.0
    visits[layers.start] = 1.0
    for t in range(T):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = layers.node_start[t + 2] - end if t + 1 < T else law.size - layers.final_start
        onward[: width + following] = 0.0
        for n in range(begin, end):
            d, s, k = visits[n], layers.row[n], layers.successor_start[t] + n - begin
            if d != 0.0:
                for a in range(V):
                    onward[width + layers.successor[k, a]] += d * pi[s, a]
        for i in range(width):
            law[layers.ended_start[t] + i] += onward[width - 1 - i]
        if t + 1 < T:
            visits[end : end + following] = onward[width : width + following]
        else:
            law[layers.final_start :] += onward[width : width + following]


@kernel
def backward(layers, pi, visits, value, C):
    """C[s, a] = sum over nodes n of row s of visits[n] U(n, a), U(n, a) = E[value | node n, token a] under pi."""
    T, V = layers.width.size, pi.shape[1]
    onward = np.empty(room(layers, value.size))
    expected = np.empty_like(onward)
    expected[: value.size - layers.final_start] = value[layers.final_start :]
    C[:] = 0.0
    for t in range(T - 1, -1, -1):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = layers.node_start[t + 2] - end if t + 1 < T else value.size - layers.final_start
        for i in range(width):
            onward[width - 1 - i] = value[layers.ended_start[t] + i]
        onward[width : width + following] = expected[:following]
        for n in range(begin, end):
            d, s, k = visits[n], layers.row[n], layers.successor_start[t] + n - begin
            u = 0.0
            for a in range(V):
                x = onward[width + layers.successor[k, a]]
                C[s, a] += d * x
                u += pi[s, a] * x
            expected[n - begin] = u


@kernel
def gated_weights(theta, pi_old, bounds, C_plus, C_minus):
    """C_plus[s, a] = sum over signs of pi_old w 1{lo <= log w <= hi} C, written over C_plus."""
    S, V = theta.shape
    pi = np.empty((1, V))
    for s in range(S):
        softmax(theta[s : s + 1], pi)
        for a in range(V):
            p, q = pi[0, a], pi_old[s, a]
            C_plus[s, a] = (
                gated(p, q, bounds[0], bounds[1]) * C_plus[s, a]
                + gated(p, q, bounds[2], bounds[3]) * C_minus[s, a]
            )


@kernel
def held_weights(theta, pi_old, bounds, C_plus, C_minus):
    """C_plus[s, a] = sum over signs of pi_old exp(clamp(log w, lo, hi)) C, written over C_plus."""
    S, V = theta.shape
    pi = np.empty((1, V))
    for s in range(S):
        softmax(theta[s : s + 1], pi)
        for a in range(V):
            p, q = pi[0, a], pi_old[s, a]
            C_plus[s, a] = (
                held(p, q, bounds[0], bounds[1]) * C_plus[s, a]
                + held(p, q, bounds[2], bounds[3]) * C_minus[s, a]
            )
