"""Groups with unequal rewards: how likely they are, and how many of an update are such.

Over values of (perhaps tilted) probability p_1, ..., p_m, with S_j = p_1 + ... + p_j,

    P(mixed) = sum_j [S_j^G - S_(j-1)^G - p_j^G],   X_(g+1) = X_g S_j + S_(j-1)^g p_j + p_j^g S_(j-1),

X_g the bracket for g draws: all terms are positive, so that a probability of 1e-12 has all its digits.
"""

import numpy as np
from jaxtyping import Float64


def mixed(prob: Float64[np.ndarray, "Q m"], group_size: int) -> Float64[np.ndarray, " Q"]:
    """P(max r > min r) of a group, under each row of probabilities, which need not add up to 1."""
    total = np.zeros(len(prob))
    below = np.zeros(len(prob))
    for p in prob.T:
        bracket, own, rest = np.zeros(len(prob)), p.copy(), below.copy()
        for _ in range(group_size - 1):
            bracket = bracket * (below + p) + rest * p + own * below
            own, rest = own * p, rest * below
        total, below = total + bracket, below + p
    return total


def mixed_with(prob: Float64[np.ndarray, "Q m"], group_size: int) -> Float64[np.ndarray, "Q m"]:
    """P(not all of the other G - 1 rewards are v) for every value v of a response: Phi^(G-1) - p_v^(G-1)."""
    whole, found, own = prob.sum(axis=1, keepdims=True), np.zeros_like(prob), np.ones_like(prob)
    others = np.stack([np.delete(prob, v, axis=1).sum(axis=1) for v in range(prob.shape[1])], axis=1)
    for _ in range(group_size - 1):
        found, own = found * whole + own * others, own * prob
    return found


def mean_of_inverse(prob: Float64[np.ndarray, " P"]) -> float:
    """E[1 / (1 + K)], K the number of successes in independent trials of these probabilities."""
    chance = np.ones(1)
    for p in prob:
        chance = np.append(chance * (1 - p), 0.0) + np.append(0.0, chance * p)
    return float(chance @ (1 / np.arange(1.0, chance.size + 1)))
