"""Compiled passes over the states (alpha, beta) of a group, kept row by row.

Row alpha of a Band holds the states beta = low..high from index `start` of an array on; low > high where a
row is empty. Steps have alpha[0] = beta[0] = 0 and increasing alpha, so that rows can be updated in place
from the last to the first, and a row only grows with the number of draws.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from ticgrpo_theory.stats.rounding import SMALLEST
from ticgrpo_theory.worlds.compiling import kernel

EMPTY = 2**40
"""low of an empty row, and minus its high: beyond every sum of steps that fits in memory."""


class Steps(NamedTuple):
    """What a response with each of m reward values adds to the state of its group."""

    alpha: Int64[np.ndarray, " m"]
    beta: Int64[np.ndarray, " m"]


class Band(NamedTuple):
    """Bounds of every row, and where it is stored."""

    low: Int64[np.ndarray, " rows"]
    high: Int64[np.ndarray, " rows"]
    start: Int64[np.ndarray, " rows"]
    size: int


@kernel
def widen(low, high, steps, a):
    """Bounds of row `a` after one more draw, and whether every step comes from a row that is not empty."""
    alpha, beta = steps
    first, last, complete = low[a], high[a], low[a] <= high[a]
    for j in range(1, alpha.size):
        s = a - alpha[j]
        if s >= 0 and low[s] <= high[s]:
            first, last = min(first, low[s] + beta[j]), max(last, high[s] + beta[j])
        else:
            complete = False
    return first, last, complete


@kernel
def no_draws(rows):
    """Bounds of `rows` rows before any draw: the state (0, 0) alone."""
    low, high = np.full(rows, EMPTY), np.full(rows, -EMPTY)
    low[0], high[0] = 0, 0
    return low, high


@kernel
def widen_rows(steps, first_draw, last_draw, low, high, gap):
    """Bounds after these draws, and the gap that they need, if it was `gap` before them.

    Row alpha - alpha[j], moved by beta[j], ends short of the row alpha that it adds to by the gap at most.
    """
    alpha, beta = steps
    for t in range(first_draw, last_draw + 1):
        for a in range(t * alpha[-1], -1, -1):
            first, last, _ = widen(low, high, steps, a)
            for j in range(alpha.size):
                s = a - alpha[j]
                if s >= 0 and low[s] <= high[s]:
                    gap = max(gap, low[s] + beta[j] - first, last - high[s] - beta[j])
            low[a], high[a] = first, last
    return gap


@kernel
def padded(low, high, gap):
    """The Band of these rows, stored with gaps between them."""
    rows = low.size
    start, size = np.empty(rows, dtype=np.int64), gap
    for a in range(rows):
        start[a] = size
        if low[a] <= high[a]:
            size += high[a] - low[a] + 1 + gap
    return Band(low, high, start, size)


@kernel
def one_more(steps, rest):
    """Band after one more draw, stored without gaps."""
    rows = rest.low.size + steps.alpha[-1]
    low, high = np.full(rows, EMPTY), np.full(rows, -EMPTY)
    low[: rest.low.size], high[: rest.low.size] = rest.low, rest.high
    start, size = np.empty(rows, dtype=np.int64), 0
    for a in range(rows - 1, -1, -1):
        low[a], high[a], _ = widen(low, high, steps, a)
    for a in range(rows):
        start[a] = size
        size += max(high[a] - low[a] + 1, 0)
    return Band(low, high, start, size)


@kernel
def add_four(target, p0, p, s1, s2, s3, s4):
    """Four steps in one pass over the row, which would otherwise be loaded and stored four times."""
    p1, p2, p3, p4 = p[0], p[1], p[2], p[3]
    for b in range(target.size):
        target[b] = p0 * target[b] + p1 * s1[b] + p2 * s2[b] + p3 * s3[b] + p4 * s4[b]


@kernel
def add_one(target, p, source):
    for b in range(target.size):
        target[b] += p * source[b]


@kernel
def add_row(chance, origin, steps, prob, a, first, last):
    """One draw into row `a`: chance[a, b] = p_0 chance[a, b] + sum_j p_j chance[a - alpha_j, b - beta_j].

    Reads beyond the ends of a row fall into the gaps, which hold zeros.
    """
    alpha, beta = steps
    target, n = chance[origin[a] + first : origin[a] + last + 1], last - first + 1
    p0, j = prob[0], 1
    while j + 4 <= alpha.size:
        i1, i2 = (
            origin[a - alpha[j]] + first - beta[j],
            origin[a - alpha[j + 1]] + first - beta[j + 1],
        )
        i3, i4 = (
            origin[a - alpha[j + 2]] + first - beta[j + 2],
            origin[a - alpha[j + 3]] + first - beta[j + 3],
        )
        s1, s2, s3, s4 = chance[i1 : i1 + n], chance[i2 : i2 + n], chance[i3 : i3 + n], chance[i4 : i4 + n]
        add_four(target, p0, prob[j : j + 4], s1, s2, s3, s4)
        p0, j = 1.0, j + 4
    if p0 != 1.0:
        target *= p0
    for i in range(j, alpha.size):
        source = origin[a - alpha[i]] + first - beta[i]
        add_one(target, prob[i], chance[source : source + n])


@kernel
def convolve(steps, prob, first_draw, last_draw, origin, low, high, chance):
    """Probability of every state after these draws, where row a begins at origin[a]; low, high its bounds."""
    alpha, beta = steps
    for t in range(first_draw, last_draw + 1):
        for a in range(t * alpha[-1], -1, -1):
            first, last, complete = widen(low, high, steps, a)
            if first > last:
                continue
            if complete:
                add_row(chance, origin, steps, prob, a, first, last)
            else:
                for b in range(origin[a] + low[a], origin[a] + high[a] + 1):
                    chance[b] *= prob[0]
                for j in range(1, alpha.size):
                    s = a - alpha[j]
                    if s >= 0 and low[s] <= high[s]:
                        to, source = origin[a] + low[s] + beta[j], origin[s] + low[s]
                        n = high[s] - low[s] + 1
                        add_one(chance[to : to + n], prob[j], chance[source : source + n])
            low[a], high[a] = first, last


@kernel
def moments(whole, G, r_min, h):
    """Mean r_min + h sum k / G and variance (G sum k^2 - (sum k)^2) (h/G)^2 of every state.

    sum k = alpha, sum k^2 = 2 beta + alpha.
    """
    out = np.empty((2, whole.size))
    for a in range(whole.low.size):
        for b in range(whole.low[a], whole.high[a] + 1):
            i = whole.start[a] + b - whole.low[a]
            out[0, i] = r_min + h * (a / G)
            spread = G * (2 * b + a) - a * a
            # A variance of 0 says that all are equal, and the square of a step below 1e-162 is 0.
            out[1, i] = max(spread * ((h / G) * (h / G)), SMALLEST) if spread > 0 else 0.0
    return out


@kernel
def signed_sums(rest, chance, values, whole, steps, out):
    """out[0, j], out[1, j] = sum over the others' states of P max(values, 0), P min(values, 0)."""
    alpha, beta = steps
    for j in range(alpha.size):
        plus, minus = 0.0, 0.0
        for a in range(rest.low.size):
            all_ = a + alpha[j]
            shift = whole.start[all_] + rest.low[a] + beta[j] - whole.low[all_]
            row_plus, row_minus = 0.0, 0.0
            for b in range(rest.high[a] - rest.low[a] + 1):
                term = chance[rest.start[a] + b] * values[j, shift + b]
                row_plus += max(term, 0.0)
                row_minus += min(term, 0.0)
            plus += row_plus
            minus += row_minus
        out[0, j], out[1, j] = plus, minus


@kernel
def signed_products(rest, chance, values, whole, steps, i, out):
    """out[s, s', i, j] = sum over the others' states of P A_i^s A_j^s' for j <= i, and the same for j, i."""
    alpha, beta = steps
    for j in range(i + 1):
        total = np.zeros((2, 2))
        for a in range(rest.low.size):
            all_ = a + alpha[i] + alpha[j]
            shift = whole.start[all_] + rest.low[a] + beta[i] + beta[j] - whole.low[all_]
            for b in range(rest.high[a] - rest.low[a] + 1):
                A, B = values[i, shift + b], values[j, shift + b]
                total[int(A < 0), int(B < 0)] += chance[rest.start[a] + b] * A * B
        for s in range(2):
            for r in range(2):
                out[s, r, i, j] = out[r, s, j, i] = total[s, r]
