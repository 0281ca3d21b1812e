"""Floors: the E||grad J||^2 that small constant steps on fresh groups leave, exactly to first order.

For worlds with one row of two logits, whose policy is one coordinate x = (theta[0] - theta[1]) / sqrt 2.
Along it g = dJ/dx, m = E[g_hat] and D = tr Cov g_hat at theta_old = theta, all exact. An outer step of total
length h = eta K moves x by h (m + noise). About a fixed point x* (m = 0, dm/dx = -a < 0) a stationary x has,
to first order in h,

    E m = 0,  E x m + h D / 2 = 0    =>    E (x - x*)^2 = h D / (2 a),  E (x - x*) = m'' / (2 a) E (x - x*)^2
    E||grad J||^2 = g^2 + (2 g g' m'' / (2 a) + g'^2 + g g'') D / (2 a) h         all at x*

and forgets where it was after 1 / (a h) outer steps. Where g(x*) = 0, with |g'| = lambda and a = c lambda,
the floor is lambda D / (2 c) h: proportional to eta K / G, because D is to 1/G.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Chebyshev

from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.fixed_points import fixed_point, mean_step, policy
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.worlds.mdp import TokenMDP

DEGREE = 24
"""Of the polynomials through exact values of m and g, whose nearest singularity is x = +- i pi / sqrt 2."""

INTERPOLATION = 1e-9
"""Largest error of such a polynomial, relative to the largest value."""


def probability(x: float) -> float:
    """pi(0) = 1 / (1 + exp(-sqrt(2) x))."""
    return 1 / (1 + math.exp(-math.sqrt(2) * x))


def interpolated(function: Callable[[float], float], low: float, high: float) -> Chebyshev:
    """The polynomial through `function` at the Chebyshev points of [low, high].

    Raises ValueError where it misses the function between them: the interval is then too wide.
    """
    found = Chebyshev.interpolate(np.vectorize(function, otypes=[float]), DEGREE, domain=[low, high])
    between = low + (high - low) * np.array([0.013, 0.29, 0.61, 0.987])
    exact = np.array([function(x) for x in between])
    miss = float(np.abs(found(between) - exact).max())
    if miss > INTERPOLATION * max(1e-3, float(np.abs(exact).max())):
        raise ValueError(
            f"a polynomial of degree {DEGREE} misses exact values for x in [{low:.3g}, {high:.3g}] by "
            f"{miss:.1e}: the runs spread too far from their fixed point; take a smaller eta K or a larger G"
        )
    return found


@dataclass(frozen=True)
class Fields:
    """m = E[g_hat] and g = grad J along x, as polynomials on an interval."""

    mean: Chebyshev
    gradient: Chebyshev


def fields(mdp: TokenMDP, estimator: EstimatorLike, group_size: int, low: float, high: float) -> Fields:
    """m and g on [low, high], exact at theta_old = theta."""

    def mean(x: float) -> float:
        return math.sqrt(2) * mean_step(mdp, probability(x), estimator, group_size)

    def gradient(x: float) -> float:
        return math.sqrt(2) * float(policy_gradient(mdp, policy(mdp, probability(x)))[0, 0])

    return Fields(interpolated(mean, low, high), interpolated(gradient, low, high))


@dataclass(frozen=True)
class FixedPoint:
    """Where small steps stay on average, and what is left there: E||grad J||^2 = root + noise h + O(h^2)."""

    point: float
    """Probability of token 0 at the fixed point."""
    rate: float
    """a = -dm/dx: 1 / (a h) outer steps is the relaxation time."""
    root: float
    """||grad J||^2 at the fixed point, the floor of eta K -> 0."""
    noise: float
    """dE||grad J||^2 / dh at h = 0."""


def floor_at_fixed_point(
    mdp: TokenMDP, estimator: EstimatorLike, group_size: int, groups: int = 1
) -> FixedPoint:
    """The fixed point of small steps, each on the average of `groups` independent groups.

    Drift between the K inner steps of an outer step is left out: it moves the floor by O((eta K)^2) where
    g = 0 at the fixed point, and by O(eta K) where it is not.
    """
    p = fixed_point(mdp, estimator, group_size)
    x = math.log(p / (1 - p)) / math.sqrt(2)
    near = fields(mdp, estimator, group_size, x - 0.2, x + 0.2)
    m, g = near.mean, near.gradient
    theta = policy(mdp, p)
    variance = gradient_moments(mdp, theta, theta, estimator, group_size).variance / groups
    return FixedPoint(p, -float(m.deriv(1)(x)), *first_order(m, g, x, variance))


def first_order(m: Chebyshev, g: Chebyshev, x: float, variance: float) -> tuple[float, float]:
    """g^2 and (2 g g' m'' / (2 a) + g'^2 + g g'') D / (2 a) at a root x of m, dm/dx = -a, D = variance."""
    rate = -float(m.deriv(1)(x))
    shift = float(m.deriv(2)(x)) / (2 * rate)
    g0, g1, g2 = (float(part(x)) for part in (g, g.deriv(1), g.deriv(2)))
    return g0**2, (2 * g0 * g1 * shift + g1**2 + g0 * g2) * variance / (2 * rate)
