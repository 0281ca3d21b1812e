"""The variance of an estimator over the groups of one prompt, and the rounding that it carries."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.moments.one_response import Squares
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.stats.rounding import FULL


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of g_hat over groups drawn from the sampler; ||.|| is over all S V logits."""

    mean: Float[Tensor, "S V"]
    """E[g_hat]."""
    second_moment: float
    """E||g_hat||^2."""
    variance: float
    """E||g_hat - E g_hat||^2, the trace of the covariance; where it is below `variance_rounding`, of which no
    digit is known, it may come out negative."""
    variance_rounding: float
    """Size of the rounding that the variance carries: units in the last place of what was subtracted."""
    mse: float
    """E||g_hat - grad J(theta)||^2."""
    scale: float
    """c, the multiple of grad J that is estimated where theta = theta_old; see `known_scale`."""
    scale_kind: str
    """"known", "least_squares" or "none"."""
    mse_scaled: float
    """E||g_hat - c grad J(theta)||^2."""
    ratio_second_moment: float
    """E_old[w'^2], w' = prod_t pi_theta / pi_old, whatever the estimator's own ratio; inf where too large."""
    effective_sample_size: float | None
    """G E[sum_t a^2 u]^2 / (E[sum_t a^2] E[sum_t a^2 u^2]) over one response, a = A scale, u the importance
    weights that the clip leaves: (sum u)^2 / sum u^2 in expectation (Owen, Monte Carlo theory, methods and
    examples, 2013, Sec. 9.3), tokens counted by the square of what multiplies u. At most G, and G where all u
    are equal; 0 where no token has a weight; None where every group was listed, or G is infinite."""
    signal_to_noise: float
    """||E g_hat||^2 / variance; 0 where the mean is 0, else inf where no two groups differ because they are
    infinite, and nan where the variance is below its rounding."""
    method: str
    """What computed it; several, joined by ', ', where prompts differ."""
    assumed: str = ""
    """What it rests on besides declarations of the catalogue, and on how many groups that was checked."""


class Spread(NamedTuple):
    """E[g_hat] and its variance over the groups of one prompt."""

    mean: Float[Tensor, "S V"]
    variance: float
    rounding: float
    """Size of the rounding that the variance carries."""
    squares: Squares | None
    """The squares of one response, where it has any of its own."""


def spread(
    problem: PromptProblem, mean: Tensor, covariance: float, squares: Squares, subtracted: bool
) -> Spread:
    """E||g - E g||^2 = (1/G) (E||x_1||^2 - ||E x_1||^2) + (1 - 1/G) Cov(x_1, x_2).

    Where the covariance is a difference too, it has the rounding of E<x_1, x_2>, at most E||x_1||^2, for any
    G.
    """
    square, G = float(mean.square().sum()), problem.group_size
    variance = (squares.norm - square) / G + (1 - 1 / G) * covariance
    size = (squares.norm + square) * (1 if subtracted and G > 1 else 1 / G)
    return Spread(mean, variance, rounding(problem, size), squares)


def rounding(problem: PromptProblem, size: float) -> float:
    """What rounding leaves of a difference of two sums of `size`."""
    return UNIT * operations(problem.mdp.graph, *problem.policies.drawn) * size


def signal_to_noise(square: float, variance: float, rounding: float) -> float:
    """||E g_hat||^2 / variance; nan where no digit of the variance is known."""
    if square == 0:
        return 0.0
    if variance == rounding == 0:
        return math.inf
    return square / variance if variance > rounding else math.nan


def refuse_lost_squares(problem: CheckedProblem, second: float, mean: Tensor) -> None:
    """Raise ValueError where squares of g_hat fall below the range in which float64 has all its digits."""
    tiny = any(0 < part.reward_std < FULL**0.5 for _, part in problem.parts)
    if 0 < second < FULL or (second == 0 and (tiny or bool(mean.any()))):
        raise ValueError(
            f"E||g_hat||^2 of the estimator {name_of(problem.one.given)} comes out as {second:.3g}, below "
            f"{FULL:.2g}, where float64 loses digits: multiply the rewards by a constant"
        )
