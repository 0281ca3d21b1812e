"""Compiled passes over the layers of a graph for tables that multiply along a response.

`edge` tables [S, V] take the place of pi(a | s) and need not be policies: changes of measure, squares of
ratios, gated ratios. The layout of `onward` is that of layer_kernels.py: entry width + j belongs to successor
j, negative where a response ends.
"""

import numpy as np

from ticgrpo_theory.exact.dynamic.layer_kernels import nodes, room
from ticgrpo_theory.worlds.compiling import kernel


@kernel
def forward(layers, edge, visits, prob):
    """visits[n] = sum over (m, a) leading to n of visits[m] edge(m, a); prob[o] the same for outcomes o."""
    T, V = layers.width.size, edge.shape[1]
    onward = np.empty(room(layers, prob.size))
    prob[:] = 0.0
    visits[:] = 0.0
    visits[layers.start] = 1.0
    for t in range(T):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, prob.size, t + 1)
        onward[: width + following] = 0.0
        for n in range(begin, end):
            d, s, k = visits[n], layers.row[n], layers.successor_start[t] + n - begin
            if d != 0.0:
                for a in range(V):
                    if edge[s, a] != 0.0:
                        onward[width + layers.successor[k, a]] += d * edge[s, a]
        for i in range(width):
            prob[layers.ended_start[t] + i] += onward[width - 1 - i]
        if t + 1 < T:
            visits[end : end + following] = onward[width : width + following]
        else:
            prob[layers.final_start :] += onward[width : width + following]


@kernel
def backward(layers, edge, visits, value, C):
    """C[s, a] = sum over nodes n of row s of visits[n] U(n, a), the sum of value prod(edge) after it."""
    T, V = layers.width.size, edge.shape[1]
    onward = np.empty(room(layers, value.size))
    expected = np.empty_like(onward)
    expected[: nodes(layers, value.size, T)] = value[layers.final_start :]
    C[:] = 0.0
    for t in range(T - 1, -1, -1):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, value.size, t + 1)
        for i in range(width):
            onward[width - 1 - i] = value[layers.ended_start[t] + i]
        onward[width : width + following] = expected[:following]
        for n in range(begin, end):
            d, s, k = visits[n], layers.row[n], layers.successor_start[t] + n - begin
            u = 0.0
            for a in range(V):
                x = onward[width + layers.successor[k, a]]
                if x != 0.0:
                    u += edge[s, a] * x
                    if d != 0.0:
                        C[s, a] += d * x
            expected[n - begin] = u


@kernel
def sums(layers, table, nodes_sum, total):
    """Sums of table[s, a] on the way to every node and outcome of a tree, where one way leads to each."""
    T, V = layers.width.size, table.shape[1]
    onward = np.empty(room(layers, total.size))
    nodes_sum[layers.start] = 0.0
    for t in range(T):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, total.size, t + 1)
        for n in range(begin, end):
            s, k = layers.row[n], layers.successor_start[t] + n - begin
            for a in range(V):
                onward[width + layers.successor[k, a]] = nodes_sum[n] + table[s, a]
        for i in range(width):
            total[layers.ended_start[t] + i] = onward[width - 1 - i]
        if t + 1 < T:
            nodes_sum[end : end + following] = onward[width : width + following]
        else:
            total[layers.final_start :] = onward[width : width + following]
