"""The variance of an estimator over the groups of one prompt, and the rounding that it carries."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.moments.one_response import Squares
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.stats.rounding import FULL


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
