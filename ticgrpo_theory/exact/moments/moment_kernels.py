"""Compiled passes behind second moments, for tables that multiply along a response and need not be policies.

`edge` tables [S, V] take the place of pi(a | s): squares of ratios, gated ratios, products of both, as in
dynamic/table_kernels.py. The layout of `onward` is that of layer_kernels.py: entry width + j belongs to
successor j, negative where a response ends. Inner products of scores are those of scores.py.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.exact.dynamic.layer_kernels import clip_both, equal, nodes, room
from ticgrpo_theory.exact.moments.scores import row_norms
from ticgrpo_theory.worlds.compiling import kernel, reduction
from ticgrpo_theory.worlds.kernels import BLOCK, softmax, total
from ticgrpo_theory.worlds.pull_back import nearly_certain, pull_back_row


class RatioTables(NamedTuple):
    """Logits [S, V] of the ratio, of theta_old and of the score."""

    ratio: NDArray[np.float64]
    old: NDArray[np.float64]
    score: NDArray[np.float64]


class Weighed(NamedTuple):
    """C channels: sign and kind [C], the kind of every outcome [O], one of K or -1; what each counts [C]."""

    sign: NDArray[np.int64]
    kind: NDArray[np.int64]
    kind_of: NDArray[np.int64]
    K: int
    square: NDArray[np.float64]
    alpha: NDArray[np.float64]


@reduction
def dot(x, y):
    """sum_a x[a] y[a]."""
    s = 0.0
    for a in range(x.size):
        s += x[a] * y[a]
    return s


@kernel
def squared_ratio(first, p_old):
    """first^2 / p_old, which is p_old u^2 where first = p_old u; inf where p_old alone underflowed to 0."""
    if p_old > 0.0:
        return first / p_old * first
    return 0.0 if first == 0.0 else np.inf


@kernel
def squared_ratios(first, pi_old, out):
    """out[s, a] = first[s, a]^2 / pi_old[s, a]."""
    for s in range(first.shape[0]):
        for a in range(first.shape[1]):
            out[s, a] = squared_ratio(first[s, a], pi_old[s, a])


@kernel
def squared_ratio_sum(layers, theta, theta_old, outcomes):
    """sum over responses of prod_t pi_theta^2 / pi_old, which is E_old[w'^2]."""
    T, V = layers.width.size, theta.shape[1]
    step = max(1, BLOCK // V)
    pi, pi_old, square = np.empty((step, V)), np.empty((step, V)), np.empty((step, V))
    held = layers.row[:0]
    # An ended response and one that was cut both count 1.
    onward, expected = np.ones(room(layers, outcomes)), np.empty(room(layers, outcomes))
    for t in range(T - 1, -1, -1):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        onward[:width] = 1.0
        for block in range(begin, end, step):
            rows = layers.row[block : min(block + step, end)]
            if not equal(rows, held):
                softmax(theta, rows, pi)
                softmax(theta_old, rows, pi_old)
                squared_ratios(pi[: rows.size], pi_old[: rows.size], square[: rows.size])
                held = rows
            for i in range(rows.size):
                k, u = layers.successor_start[t] + block + i - begin, 0.0
                for a in range(V):
                    # A masked token leads nowhere, also where what follows overflows: 0 * inf is NaN.
                    if square[i, a] != 0.0:
                        u += square[i, a] * onward[np.uintp(width + layers.successor[k, a])]
                expected[block + i - begin] = u
        if t > 0:
            before = layers.width[t - 1]
            onward[before : before + end - begin] = expected[: end - begin]
    return expected[layers.start]


@kernel
def pairs(layers, visits, first, between, second, after, value, out):
    """out[s, a, r, b] += expected weight of token a of row s and, at any later depth, token b of row r.

    A response counts visits(n) first(n, a) prod(between) second(n', b) U(n', b), U as in
    `table_kernels.backward` for the edges `after`. Backward over depths: below(n)[r, b] is the part from node
    n on. `out` is [S, V, S, V], or [S, V, 1, V] for r = s alone.
    """
    T, (S, V) = layers.width.size, first.shape
    onward = np.empty(room(layers, value.size))
    expected = np.empty_like(onward)
    expected[: nodes(layers, value.size, T)] = value[layers.final_start :]
    below = np.zeros((1, S, V))
    for t in range(T - 1, -1, -1):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, value.size, t + 1)
        for i in range(width):
            onward[width - 1 - i] = value[layers.ended_start[t] + i]
        onward[width : width + following] = expected[:following]
        here = np.zeros((end - begin, S, V))
        for n in range(begin, end):
            d, s, k = visits[n], layers.row[n], layers.successor_start[t] + n - begin
            r = s if out.shape[2] < S else 0
            u = 0.0
            for a in range(V):
                j = layers.successor[k, a]
                x = onward[width + j]
                # Nothing follows an ended response or the last depth.
                if j >= 0 and t + 1 < T:
                    add(d * first[s, a], below[j, r : r + out.shape[2]], out[s, a])
                    add(between[s, a], below[j], here[n - begin])
                here[n - begin, s, a] += second[s, a] * x
                u += after[s, a] * x
            expected[n - begin] = u
        below = here


@kernel
def add(factor, source, target):
    """target += factor source."""
    if factor != 0.0:
        for s in range(source.shape[0]):
            for a in range(source.shape[1]):
                target[s, a] += factor * source[s, a]


@kernel
def local_sweep(layers, visits, policies, clip_plus, clip_minus, channels, gram, out):
    """Every moment of a token-level estimator in one backward sweep, where each row of logits has one node.

    Channel c is a sign of A and one of K kinds of outcomes: Phi_c = 1{kind = kind[c]} sum_t u_t psi_t with
    the weights u of sign[c], ratios pi_ratio / pi_old. Adds <E Phi_b, E Phi_c>, b <= c, to gram[c, b] and
    writes sum_c alpha[c] E Phi_c to out; returns the sums over c of square[c] times E||Phi_c||^2,
    E[1{kind} sum_t u_t] and E[1{kind} sum_t u_t^2].
    """
    ratio, old, score = policies
    sign, kind, kind_of, K, square, alpha = channels
    T, V, C = layers.width.size, old.shape[1], sign.size
    step = max(1, BLOCK // V)
    pi, pi_old, psi = np.empty((step, V)), np.empty((step, V)), np.empty((step, V))
    first, second = np.empty((2, step, V)), np.empty((2, step, V))
    w, norms, top = np.empty((C, V)), np.empty(V), np.empty(step, dtype=np.int64)
    onward = np.empty((room(layers, kind_of.size), K))
    expected = np.empty_like(onward)
    for o in range(layers.final_start, kind_of.size):
        mark(kind_of[o], expected[o - layers.final_start])
    norm_sum, weight_sum, square_sum = 0.0, 0.0, 0.0
    for t in range(T - 1, -1, -1):
        begin, end, width = layers.node_start[t], layers.node_start[t + 1], layers.width[t]
        following = nodes(layers, kind_of.size, t + 1)
        for i in range(width):
            mark(kind_of[layers.ended_start[t] + i], onward[width - 1 - i])
        onward[width : width + following] = expected[:following]
        for block in range(begin, end, step):
            rows = layers.row[block : min(block + step, end)]
            size = rows.size
            softmax(ratio, rows, pi)
            softmax(old, rows, pi_old)
            softmax(score, rows, psi)
            clip_both(pi[:size], pi_old[:size], clip_plus, clip_minus, first[0, :size], first[1, :size])
            nearly_certain(psi, top[:size])
            for i in range(2):
                squared_ratios(first[i, :size], pi_old[:size], second[i, :size])
            for i in range(size):
                n, s = block + i, rows[i]
                d, expected[n - begin] = visits[n], 0.0
                row_norms(psi[i], top[i], norms)
                for a in range(V):
                    j = np.uintp(width + layers.successor[layers.successor_start[t] + n - begin, a])
                    again = 0.0
                    for k in range(K):
                        expected[n - begin, k] += pi_old[i, a] * onward[j, k]
                    for c in range(C):
                        reach = d * onward[j, kind[c]]
                        w[c, a] = reach * first[sign[c], i, a]
                        if reach != 0.0:
                            again += square[c] * reach * second[sign[c], i, a]
                        weight_sum += square[c] * w[c, a]
                    square_sum += again
                    norm_sum += again * norms[a]
                out[s] = 0.0
                for c in range(C):
                    # From here on w[c] is E Phi_c in this row.
                    pull_back_row(w[c], psi[i], total(w[c]), 1.0, top[i])
                    for a in range(V):
                        out[s, a] += alpha[c] * w[c, a]
                    for b in range(c + 1):
                        gram[c, b] += dot(w[b], w[c])
    return norm_sum, weight_sum, square_sum


@kernel
def mark(kind, out):
    """out = the unit vector of `kind`; 0 where it is -1, an outcome of no kind."""
    out[:] = 0.0
    if kind >= 0:
        out[kind] = 1.0
