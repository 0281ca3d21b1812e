"""Compiled: exact J and grad J of one replicate, whole or only where the groups of a step have been.

    value[x] = the reward where x is the end of a response, else V(x) = sum_a pi(a | x) value[onto[x, a]]
    d J / d theta[s, a] = sum over nodes n of row s of reach(n) pi(a | s) (value[onto[n, a]] - value[n])

with reach(n) the probability of node n, prompts included. Where every row belongs to one node of a tree, an
outer step changes V only at visited nodes, whose parents have been visited too: the array `values` [N +
outcomes] is kept from step to step, and a step costs what its own responses cost.
"""

import math

import numpy as np

from ticgrpo_theory.simulate.passes.sampling import copy_rows
from ticgrpo_theory.worlds.compiling import inner, kernel

# Loops index whole arrays and call nothing: a slice or a call in them costs more than the arithmetic.


@kernel
def softmax_of(logits):
    """[V, S] softmax of every row."""
    S, V = logits.shape
    theta, pi = np.empty((V, S)), np.empty((V, S))
    copy_rows(logits, np.arange(S), 0, S, theta, pi, np.empty(S), np.empty(S))
    return pi


@kernel
def expect(graphs, pi, values):
    """Fills values[n] of all nodes."""
    onto, row = graphs.onto, graphs.row
    for n in range(row.size - 1, -1, -1):
        s, value = row[n], 0.0
        for a in range(pi.shape[0]):
            value += pi[a, s] * values[np.uintp(onto[n, a])]
        values[n] = value


@kernel
def reach_of(graphs, pi, starting):
    """Probability of all nodes, then of all outcomes, if the root of prompt q has probability starting[q]."""
    onto, row = graphs.onto, graphs.row
    reach = np.zeros(row.size + graphs.reward.size)
    for q in range(starting.size):
        reach[graphs.root[q]] = starting[q]
    for n in range(row.size):
        s, arriving = row[n], reach[n]
        if arriving != 0.0:
            for a in range(pi.shape[0]):
                reach[np.uintp(onto[n, a])] += arriving * pi[a, s]
    return reach


@kernel
def root_return(graphs, values):
    """J = sum_q weight_q V(root of q)."""
    J = 0.0
    for q in range(graphs.weight.size):
        J += graphs.weight[q] * values[graphs.root[q]]
    return J


@kernel
def whole_gradient(graphs, logits, values, gradient):
    """J; fills `values` at all nodes, and `gradient` [S, V] with grad J."""
    onto, row = graphs.onto, graphs.row
    pi = softmax_of(logits)
    expect(graphs, pi, values)
    reach = reach_of(graphs, pi, graphs.weight)
    gradient[:] = 0.0
    for n in range(row.size):
        s, arriving, value = row[n], reach[n], values[n]
        for a in range(pi.shape[0]):
            gradient[s, a] += arriving * pi[a, s] * (values[np.uintp(onto[n, a])] - value)
    return root_return(graphs, values)


@inner
def tree_slopes(graphs, tree, values, work, r):
    """work.slope[r] = grad J(theta_{n,0}) at the slots, from the values that are kept."""
    row, slot_of, pi, slope = work.row[r], work.slot_of[r], work.pi_start[r], work.slope[r]
    onto, weight, parents, tokens, node = graphs.onto, graphs.weight, tree.parent, tree.token, tree.node
    count, V = work.in_use[r], pi.shape[0]
    reach = np.empty(count)
    for u in range(count):
        s = row[u]
        parent = parents[s]
        if parent < 0:
            reach[u] = 1.0
        else:
            # Slots are taken from the root downwards, so the parent has an earlier one.
            before = slot_of[parent]
            reach[u] = reach[before] * pi[tokens[s], before]
        for a in range(V):
            slope[a, u] = 0.0
        for q in range(weight.size):
            n = node[q, s]
            if n >= 0:
                arriving, value = weight[q] * reach[u], values[n]
                for a in range(V):
                    slope[a, u] += arriving * pi[a, u] * (values[np.uintp(onto[n, a])] - value)


@inner
def refresh(graphs, tree, values, work, r):
    """V at the visited nodes after an outer step, children before parents; work.pi must be up to date."""
    row, pi, onto, node = work.row[r], work.pi[r], graphs.onto, tree.node
    for u in range(work.in_use[r] - 1, -1, -1):
        for q in range(node.shape[0]):
            n = node[q, row[u]]
            if n >= 0:
                value = 0.0
                for a in range(pi.shape[0]):
                    value += pi[a, u] * values[np.uintp(onto[n, a])]
                values[n] = value


@inner
def all_slopes(graphs, logits, values, work, r):
    """work.slope[r] at the slots from the whole gradient, where rows are shared."""
    gradient = np.empty(logits.shape)
    whole_gradient(graphs, logits, values, gradient)
    row, slope = work.row[r], work.slope[r]
    for u in range(work.in_use[r]):
        for a in range(logits.shape[1]):
            slope[a, u] = gradient[row[u], a]


@kernel
def outcome_moments(graphs, logits, mean, std):
    """mean[q], std[q] of the reward of prompt q; where all possible ones are equal, exactly that and 0."""
    pi = softmax_of(logits)
    reward, starting, N = graphs.reward, np.zeros(graphs.weight.size), graphs.row.size
    for q in range(starting.size):
        starting[:] = 0.0
        starting[q] = 1.0
        reach = reach_of(graphs, pi, starting)
        lowest, highest, mu, variance = np.inf, -np.inf, 0.0, 0.0
        for o in range(reward.size):
            if reach[N + o] > 0.0:
                lowest, highest = min(lowest, reward[o]), max(highest, reward[o])
                mu += reach[N + o] * reward[o]
        if lowest == highest:
            mu = lowest
        for o in range(reward.size):
            variance += reach[N + o] * (reward[o] - mu) ** 2
        mean[q], std[q] = mu, math.sqrt(variance)
