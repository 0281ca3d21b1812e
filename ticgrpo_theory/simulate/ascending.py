"""Compiled: from token weights to the next logits of one replicate, and what that adds to the sums of the
trace.

g_hat[s, a] = sum of c[m,t] over tokens a drawn from row s  -  pi(a | s) sum of c[m,t] over all tokens of row
s
"""

import math

import numpy as np

from ticgrpo_theory.exact.kernels import kernel
from ticgrpo_theory.simulate.drawing import gather, log_softmax
from ticgrpo_theory.simulate.settings import largest_logit

LARGEST = largest_logit(np.float64)


@kernel
def scatter(weights, slot, token, slots, score, gradient):
    """gradient = g_hat at `slots`, those that the tokens were drawn from; score[u] = softmax of a slot."""
    V = score.shape[1]
    for u in slots:
        for a in range(V):
            gradient[u, a] = 0.0
    P, T, G = slot.shape
    for p in range(P):
        for t in range(T):
            for i in range(G):
                u = slot[p, t, i]
                if u >= 0:
                    gradient[u, token[p, t, i]] += weights[p, t, i]
    for u in slots:
        share = 0.0
        for a in range(V):
            share += gradient[u, a]
        for a in range(V):
            gradient[u, a] -= score[u, a] * share


@kernel
def ascend(theta, gradient, slots, learning_rate):
    """theta += eta g_hat; False where a logit is no number, or too large."""
    whole = True
    for u in slots:
        for a in range(theta.shape[1]):
            before = theta[u, a]
            after = before + learning_rate * gradient[u, a]
            # A masked token stays at -inf.
            whole &= (abs(after) < LARGEST) | (after == before)
            theta[u, a] = after
    return whole


@kernel
def ascend_adam(theta, gradient, slots, row, learning_rate, adam, first, second, count):
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, theta += eta m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) +
    eps).

    n = count; slot u holds row[u], and every row has one; the gradient is 0 but at `slots`. Source:
    arXiv:1412.6980 v9, Algorithm 1, ascending.
    """
    beta1, beta2, epsilon = adam
    S, V = theta.shape
    for s in range(S):
        for a in range(V):
            first[s, a] *= beta1
            second[s, a] *= beta2
    for u in slots:
        for a in range(V):
            g = gradient[u, a]
            first[row[u], a] += (1.0 - beta1) * g
            second[row[u], a] += (1.0 - beta2) * g * g
    scale, root = learning_rate / (1.0 - beta1**count), 1.0 / math.sqrt(1.0 - beta2**count)
    whole = True
    for u in range(S):
        s = row[u]
        for a in range(V):
            before = theta[u, a]
            after = before + scale * first[s, a] / (math.sqrt(second[s, a]) * root + epsilon)
            whole &= (abs(after) < LARGEST) | (after == before)
            theta[u, a] = after
    return whole


@kernel
def inner_step(work, r, k, weights, score_at_start, learning_rate, adam, moments, count, sums):
    """Inner step k of replicate r, and log pi for the next one; False where the replicate leaves the numbers.

    The first one also sets sums[2] = <grad J, g_hat> and sums[3] = ||g_hat||^2.
    """
    B = work.slot.shape[1]
    b = k if B > 1 else 0
    theta, pi, gradient, slope = work.theta[r], work.pi[r], work.gradient[r], work.slope[r]
    slots = work.used[r, b, : work.used_count[r, b]]
    score = work.pi_start[r] if score_at_start else pi
    scatter(weights, work.slot[r, b], work.token[r, b], slots, score, gradient)
    if k == 0:
        dot, square = 0.0, 0.0
        for u in slots:
            for a in range(theta.shape[1]):
                dot += slope[u, a] * gradient[u, a]
                square += gradient[u, a] * gradient[u, a]
        sums[2], sums[3] = dot, square
    if moments.shape[1] == 0:
        whole = ascend(theta, gradient, slots, learning_rate)
    else:
        first, second = moments[0, r], moments[1, r]
        whole = ascend_adam(theta, gradient, slots, work.row[r], learning_rate, adam, first, second, count)
        slots = np.arange(theta.shape[0]).astype(np.int32)
    if whole:
        log_softmax(theta, slots, pi, work.log_total[r], work.scratch[r])
        b = min(b + 1, B - 1)
        gather(theta, work.log_total[r], work.slot[r, b], work.token[r, b], work.logp[r])
    return whole


@kernel
def settle(work, r, table, sums):
    """Writes theta_{n,K} back; sums[0] = <grad J(theta_{n,0}), Delta>, sums[1] = ||Delta||^2."""
    theta, start, slope, row = work.theta[r], work.start[r], work.slope[r], work.row[r]
    dot, square = 0.0, 0.0
    for u in range(work.in_use[r]):
        for a in range(table.shape[1]):
            after, before = theta[u, a], start[u, a]
            if after != before:  # a masked token has not moved: -inf - -inf is no number
                dot += slope[u, a] * (after - before)
                square += (after - before) * (after - before)
                table[row[u], a] = after
    sums[0], sums[1] = dot, square
