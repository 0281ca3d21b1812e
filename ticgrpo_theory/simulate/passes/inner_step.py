"""Compiled: from token weights to the next logits of one replicate, and what that adds to the sums.

g_hat[s, a] = sum of c[i,t] over tokens a drawn from row s  -  pi(a | s) sum of c[i,t] over all from row s
"""

import math

import numpy as np

from ticgrpo_theory.simulate.passes.sampling import gather, lay_out
from ticgrpo_theory.simulate.passes.softmax import log_softmax
from ticgrpo_theory.simulate.settings import largest_logit
from ticgrpo_theory.worlds.compiling import inner, kernel

LARGEST = largest_logit(np.float64)


@kernel
def scatter(weights, slot, token, score, gradient, scratch, columns):
    """gradient[:, :columns] = g_hat; score[:, u] = softmax of the row in column u."""
    V = score.shape[0]
    P, T, G = slot.shape
    for a in range(V):
        for u in range(columns):
            gradient[a, u] = 0.0
    for p in range(P):
        for t in range(T):
            for i in range(G):
                u = slot[p, t, i]
                if u >= 0:
                    gradient[token[p, t, i], u] += weights[p, t, i]
    for u in range(columns):
        scratch[u] = 0.0
    for a in range(V):
        for u in range(columns):
            scratch[u] += gradient[a, u]
    for a in range(V):
        for u in range(columns):
            gradient[a, u] -= score[a, u] * scratch[u]


@kernel
def ascend(theta, gradient, learning_rate, columns):
    """theta += eta g_hat; how many logits are no numbers afterwards, or too large."""
    lost = 0
    for a in range(theta.shape[0]):
        for u in range(columns):
            before = theta[a, u]
            after = before + learning_rate * gradient[a, u]
            # A masked token stays at -inf.
            lost += not ((abs(after) < LARGEST) | (after == before))
            theta[a, u] = after
    return lost


@kernel
def ascend_adam(theta, gradient, row, learning_rate, adam, first, second, count):
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, theta += eta (m / d1) / (sqrt(v / d2) + eps).

    d1 = 1 - b1^count, d2 = 1 - b2^count. `row` [U] has every row that a response can read; other rows, whose
    gradient is always 0, have no slot. Source: arXiv:1412.6980 v9, Alg. 1.
    """
    beta1, beta2, epsilon = adam
    scale, root = learning_rate / (1.0 - beta1**count), 1.0 / math.sqrt(1.0 - beta2**count)
    lost = 0
    for a in range(theta.shape[0]):
        for u in range(row.size):
            s, g, before = row[u], gradient[a, u], theta[a, u]
            first[s, a] = beta1 * first[s, a] + (1.0 - beta1) * g
            second[s, a] = beta2 * second[s, a] + (1.0 - beta2) * g * g
            after = before + scale * first[s, a] / (math.sqrt(second[s, a]) * root + epsilon)
            lost += not ((abs(after) < LARGEST) | (after == before))
            theta[a, u] = after
    return lost


@inner
def first_sums(work, r, b, apart, sums):
    """sums[2] = <grad J, g_hat>, sums[3] = ||g_hat||^2 of the first inner step."""
    slope, gradient, used = work.slope[r], work.gradient[r], work.used[r, b]
    dot, square = 0.0, 0.0
    for a in range(slope.shape[0]):
        for d in range(work.used_count[r, b] if apart else work.in_use[r]):
            g = gradient[a, d]
            dot += slope[a, used[d] if apart else d] * g
            square += g * g
    sums[2], sums[3] = dot, square


@inner
def prepare(work, r, k, apart):
    """Log pi for inner step k; for the first one the softmax is that of the draw."""
    b = k if work.slot.shape[1] > 1 else 0
    if apart:
        lay_out(work, r, b)
    elif k > 0:
        log_softmax(work.theta[r], work.pi[r], work.log_total[r], work.scratch[r], 0, work.in_use[r])
    gather(work, r, b)


@inner
def inner_step(plan, replicates, work, r, n, k, weights):
    """theta_{n,k+1} = theta_{n,k} + eta_n g_hat of replicate r, or Adam's step, along weights [P, T, G].

    Moves work.desk_theta[r] [V, D], and work.theta[r] [V, U] with it; False where that became non-finite.
    """
    b, apart = k if work.slot.shape[1] > 1 else 0, plan.apart
    theta, gradient, moments = work.desk_theta[r], work.gradient[r], replicates.moments
    columns = work.used_count[r, b] if apart else work.in_use[r]
    score = work.desk_pi_start[r] if plan.score_at_start else work.desk_pi[r]
    scatter(weights, work.slot[r, b], work.token[r, b], score, gradient, work.scratch[r], columns)
    if k == 0:
        first_sums(work, r, b, apart, replicates.sums[r])
    if moments.shape[1] == 0:
        lost = ascend(theta, gradient, plan.rates[n], columns)
    else:
        first, second, count = moments[0, r], moments[1, r], n * plan.inner_steps + k + 1
        adam = plan.beta1, plan.beta2, plan.epsilon
        lost = ascend_adam(theta, gradient, work.row[r, :columns], plan.rates[n], adam, first, second, count)
    if apart:
        used, all_theta = work.used[r, b], work.theta[r]
        for a in range(theta.shape[0]):
            for d in range(columns):
                all_theta[a, used[d]] = theta[a, d]
    return lost == 0


@inner
def write_back(work, r, logits, sums):
    """Writes theta_{n,K} back; sums[0] = <grad J(theta_{n,0}), Delta>, sums[1] = ||Delta||^2."""
    theta, start, slope, row = work.theta[r], work.start[r], work.slope[r], work.row[r]
    dot, square = 0.0, 0.0
    for u in range(work.in_use[r]):
        for a in range(logits.shape[1]):
            after, before = theta[a, u], start[a, u]
            if after != before:  # a masked token has not moved: -inf - -inf is no number
                dot += slope[a, u] * (after - before)
                square += (after - before) * (after - before)
                logits[row[u], a] = after
    sums[0], sums[1] = dot, square
