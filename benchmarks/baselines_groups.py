"""What the benchmarks of groups are compared with: sums over groups as one would write them at first.

The formula of the standardised advantage is written out here a second time, on purpose: a baseline shares
nothing with the package that is measured.
"""

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator


@numba.njit(cache=True)
def enumerated_advantages(reward, prob, group_size, delta):
    """[2, m]: E[max(A_1, 0) | value j] and E[min(A_1, 0) | value j], A = (r - mean) / (std + delta).

    Every vector of counts of the other G - 1 responses, its weight by multiplication from tables of p^n / n!,
    one square root for each own value.
    """
    m, n = reward.size, group_size - 1
    table = np.zeros((m, n + 1))
    for j in range(m):
        # G - 1 draws: scaled by exp(-n p) so that neither n! nor p^n leaves the range of float64.
        table[j, 0] = math.exp(-n * prob[j])
        for k in range(1, n + 1):
            table[j, k] = table[j, k - 1] * (n * prob[j]) / k
    norm = math.exp(n * math.log(n) - n - math.lgamma(n + 1.0)) if n > 0 else 1.0
    out, counts = np.zeros((2, m)), np.zeros(m, dtype=np.int64)
    counts[m - 1] = n
    while True:
        weight, total, squares = 1.0 / norm, 0.0, 0.0
        for j in range(m):
            weight *= table[j, counts[j]]
            total += counts[j] * reward[j]
            squares += counts[j] * reward[j] * reward[j]
        for j in range(m):
            mean = (total + reward[j]) / group_size
            variance = (squares + reward[j] * reward[j]) / group_size - mean * mean
            if counts[j] < n:
                A = (reward[j] - mean) / (math.sqrt(max(variance, 0.0)) + delta)
                if A > 0:
                    out[0, j] += weight * A
                else:
                    out[1, j] += weight * A
        i = m - 1
        while i > 0 and counts[i] == 0:
            i -= 1
        if i == 0:
            return out
        moved = counts[i]
        counts[i] = 0
        counts[i - 1] += 1
        counts[m - 1] = moved - 1


def multisets_one_by_one(
    estimator: Estimator,
    logp: Tensor,
    logp_old: Tensor,
    reward: Tensor,
    mask: Tensor,
    prob: NDArray[np.float64],
    members: Iterator[tuple[int, ...]],
) -> tuple[Tensor, int]:
    """Sum over the given groups of probability x token weights, one call for each group; and their number."""
    total, count = torch.zeros_like(logp), 0
    for group in members:
        index = torch.tensor(group)
        weight = float(math.factorial(len(group)))
        for n in set(group):
            weight *= prob[n] ** group.count(n) / math.factorial(group.count(n))
        c = estimator.token_weights(Batch(logp[index], logp_old[index], reward[index], mask[index]))
        total.index_add_(0, index, weight * c)
        count += 1
    return total, count


def some_multisets(N: int, group_size: int, stride: int) -> Iterator[tuple[int, ...]]:
    """Every stride-th multiset of `group_size` responses out of N."""
    for i, group in enumerate(combinations_with_replacement(range(N), group_size)):
        if i % stride == 0:
            yield group
