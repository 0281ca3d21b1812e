"""Compiled pull-back of token weights through a softmax: M[s, a] - pi(a | s) sum_b M[s, b]."""

import numpy as np

from ticgrpo_theory.worlds.compiling import kernel, reduction
from ticgrpo_theory.worlds.kernels import BLOCK, softmax, total


@reduction
def largest(x):
    """max_a x[a] of numbers >= 0."""
    m = 0.0
    for a in range(x.size):
        m = max(m, x[a])
    return m


@kernel
def nearly_certain(pi, top):
    """top[i]: the token with pi[i, a] > 1/2, whose own difference may lose digits; -1 where there is none."""
    for i in range(top.size):
        top[i] = -1
        if largest(pi[i]) > 0.5:
            for a in range(pi.shape[1]):
                if pi[i, a] > 0.5:
                    top[i] = a


@kernel
def pull_back_row(weights, pi, whole, share, top):
    """weights[a] <- weights[a] - share pi[a] whole, whole = sum_b weights[b]: adds to 0 where share is 1.

    Token `top`, where there is one, then gets what the others leave: where pi is nearly 1 its own difference
    has no digit left, and theirs have all.
    """
    mean = share * whole
    if top < 0:
        for a in range(pi.size):
            weights[a] -= mean * pi[a]
        return
    own = (1.0 - share) * weights[top]
    for a in range(pi.size):
        weights[a] -= mean * pi[a]
    weights[top] = 0.0
    weights[top] = own - share * total(weights)


@kernel
def pull_back(weights, logits, out):
    """out[s, a] = M[s, a] - pi(a | s) sum_b M[s, b], pi = softmax(logits); `out` may be `weights` itself."""
    S, V = logits.shape
    step = max(1, BLOCK // V)
    pi, top = np.empty((step, V)), np.empty(step, dtype=np.int64)
    for first in range(0, S, step):
        rows = np.arange(first, min(first + step, S))
        softmax(logits, rows, pi)
        nearly_certain(pi, top[: rows.size])
        for i in range(rows.size):
            s = rows[i]
            for a in range(V):
                out[s, a] = weights[s, a]
            pull_back_row(out[s], pi[i], total(out[s]), 1.0, top[i])
