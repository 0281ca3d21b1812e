"""Compiled pull-back of token weights through a softmax: M[s, a] - pi(a | s) sum_b M[s, b]."""

import numpy as np

from ticgrpo_theory.worlds.kernels import BLOCK, kernel, softmax, total


@kernel
def most_likely(pi, top):
    """top[i] = argmax_a pi[i, a]."""
    for i in range(top.size):
        top[i] = 0
        for a in range(1, pi.shape[1]):
            if pi[i, a] > pi[i, top[i]]:
                top[i] = a


@kernel
def pull_back_row(weights, pi, share, top):
    """weights[a] <- weights[a] - share pi[a] sum_b weights[b]: a row that adds to 0 where share is 1.

    Token `top`, the most likely one, then gets what the others leave: where pi is nearly 1 its own difference
    has no digit left, and theirs have all.
    """
    mean, own = share * total(weights), (1.0 - share) * weights[top]
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
        most_likely(pi, top[: rows.size])
        for i in range(rows.size):
            s = rows[i]
            for a in range(V):
                out[s, a] = weights[s, a]
            pull_back_row(out[s], pi[i], 1.0, top[i])
