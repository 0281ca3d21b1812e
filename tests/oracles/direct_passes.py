"""Token weights summed over responses one at a time, as their definitions read.

f(r, length) stands for the expected positive or negative part of an advantage given a response; M[s][a] adds
up the weights of token a at row s. Plain Python on the oracle's worlds: no NumPy, no graph, no compiled code.
"""

import math
from collections.abc import Callable

from tests.oracles.definitions import Matrix, World, token_logps, zeros

Signed = Callable[[float, int], float]
Pool = Callable[[list[float], int], float]
Bounds = tuple[float, float, float, float]
BoundsAt = Callable[[int], Bounds]


def token(log_ratio: list[float], t: int) -> float:
    return log_ratio[t]


def prefix(log_ratio: list[float], t: int) -> float:
    return sum(log_ratio[: t + 1])


def trajectory(log_ratio: list[float], t: int) -> float:
    return sum(log_ratio)


def geometric_mean(log_ratio: list[float], t: int) -> float:
    return sum(log_ratio) / len(log_ratio)


def switched_off(logp_old: float, v: float, lo: float, hi: float) -> float:
    """P_old exp(v) 1{lo <= v <= hi}, formed in log space."""
    return math.exp(logp_old + v) if lo <= v <= hi else 0.0


def held(logp_old: float, v: float, lo: float, hi: float) -> float:
    """P_old exp(min(max(v, lo), hi)), formed in log space."""
    return math.exp(logp_old + min(max(v, lo), hi))


def weights(
    world: World,
    theta: Matrix,
    theta_old: Matrix,
    f_plus: Signed,
    f_minus: Signed,
    pool: Pool,
    clip: Callable[[float, float, float, float], float],
    bounds: BoundsAt,
) -> Matrix:
    """M[s][a] = sum over responses y and their tokens (s, a): P_old (c+(v) f_plus(y) + c-(v) f_minus(y))."""
    M = zeros(world)
    every = zip(world.responses, token_logps(world, theta), token_logps(world, theta_old), strict=True)
    for (tokens, rows, reward), logp, logp_old in every:
        if -math.inf in logp_old:
            continue
        log_ratio = [x - y for x, y in zip(logp, logp_old, strict=True)]
        lo_plus, hi_plus, lo_minus, hi_minus = bounds(len(tokens))
        for t, (s, a) in enumerate(zip(rows, tokens, strict=True)):
            v = pool(log_ratio, t)
            plus = clip(sum(logp_old), v, lo_plus, hi_plus) * f_plus(reward, len(tokens))
            minus = clip(sum(logp_old), v, lo_minus, hi_minus) * f_minus(reward, len(tokens))
            M[s][a] += plus + minus
    return M


def visits_of_rows(world: World, theta: Matrix) -> list[float]:
    """E[number of times that a response reads row s]."""
    found = [0.0] * world.num_rows
    for (_, rows, _), logp in zip(world.responses, token_logps(world, theta), strict=True):
        for s in rows:
            found[s] += math.exp(sum(logp))
    return found


def outcome_distribution(world: World, theta: Matrix) -> dict[tuple[float, int], float]:
    """Probability of every pair (reward, length)."""
    found: dict[tuple[float, int], float] = {}
    for (tokens, _, reward), logp in zip(world.responses, token_logps(world, theta), strict=True):
        pair = (reward, len(tokens))
        found[pair] = found.get(pair, 0.0) + math.exp(sum(logp))
    return found
