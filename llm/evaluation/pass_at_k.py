"""avg@k and pass@k from n draws for each problem, and how far they can be trusted.

    avg@n   = mean over problems of c / n                           c right of n draws
    pass@k  = mean over problems of 1 - C(n - c, k) / C(n, k)       unbiased for 1 - (1 - p)^k

Draws for one problem say nothing about other problems, so that intervals are over problems: 30 problems with
64 draws each are 30 observations that are each known well, not 1,920.
"""

import math
from collections.abc import Sequence

from scipy import stats

CONFIDENCE = 0.95
"""Share of intervals that hold the true value."""


def pass_at_k(right: int, drawn: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), the share of k-subsets of the n draws with a right one among them.

    Source: arXiv:2107.03374 v2 (Chen et al. 2021), Eq. 1.
    """
    if not 0 <= right <= drawn or not 1 <= k <= drawn:
        raise ValueError(
            f"right = {right}, drawn = {drawn}, k = {k}: needs 0 <= right <= drawn and 1 <= k <= drawn; draw "
            f"at least k responses to each problem"
        )
    return 1.0 - math.comb(drawn - right, k) / math.comb(drawn, k)


def scored(share: float, trials: int | float, z: float) -> tuple[float, float]:
    """The p with |share - p| <= z sqrt(p (1 - p) / trials), for a proportion of independent trials.

    Within [0, 1], and not of length 0 where all or none are right. Raises ValueError for no trials.
    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if not 0 <= share <= 1 or not trials > 0:
        raise ValueError(f"share = {share}, trials = {trials}: needs a share in [0, 1] of trials > 0")
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    # At share 0 and 1 the ends are 0 and 1, up to rounding.
    low = 0.0 if share == 0 else max(0.0, middle - half)
    return low, 1.0 if share == 1 else min(1.0, middle + half)


def clustered(
    shares: Sequence[float], independent: int | float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Wilson's interval at the number of trials that has the variance seen between problems.

        trials = m (1 - m) / (s^2 / P),   m the mean and s^2 the variance (1/P) of the shares of P problems

    with Student's quantile (P - 1 degrees of freedom) for z. `independent` is the number of trials within one
    problem: there are never more than P * independent in all, and P where every share is 0 or every one 1.
    For shares of 0 and 1 this is Wilson's interval of P trials, up to that quantile. One problem alone gives
    0 to 1: it says nothing about others.
    """
    P = len(shares)
    if P == 0 or not independent > 0 or not all(0 <= share <= 1 for share in shares):
        raise ValueError(
            f"{P} shares, independent = {independent}: needs at least one share, all in [0, 1], and "
            f"independent > 0"
        )
    if P == 1:
        return 0.0, 1.0
    mean = min(1.0, math.fsum(shares) / P)
    variance = math.fsum((share - mean) ** 2 for share in shares) / P
    most = P * independent
    trials = P if mean in (0.0, 1.0) else min(most, P * mean * (1 - mean) / variance) if variance else most
    return scored(mean, trials, float(stats.t.ppf((1 + confidence) / 2, P - 1)))


def average(right: Sequence[int], drawn: int) -> tuple[float, float, float]:
    """avg@n over the problems, with its interval: (value, low, high)."""
    shares = [pass_at_k(c, drawn, 1) for c in right]
    return math.fsum(shares) / len(shares), *clustered(shares, drawn)


def solved(right: Sequence[int], drawn: int, k: int) -> tuple[float, float, float]:
    """pass@k over the problems, with its interval: (value, low, high)."""
    shares = [pass_at_k(c, drawn, k) for c in right]
    return math.fsum(shares) / len(shares), *clustered(shares, drawn / k)
