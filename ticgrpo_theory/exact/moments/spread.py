"""The variance of an estimator over the groups of one prompt, and the rounding that it carries."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.exact.mean.rounding import UNIT
from ticgrpo_theory.exact.moments.one_response import Squares
from ticgrpo_theory.exact.problem import PromptProblem


class Spread(NamedTuple):
    """E[g_hat] and its variance over the groups of one prompt."""

    mean: Float[Tensor, "S V"]
    variance: float
    rounding: float
    """Size of the rounding that the variance carries."""
    squares: Squares | None
    """The squares of one response, where it has any of its own."""


def spread(problem: PromptProblem, mean: Tensor, covariance: float, squares: Squares) -> Spread:
    """E||g - E g||^2 = (1/G) (E||x_1||^2 - ||E x_1||^2) + (1 - 1/G) Cov(x_1, x_2)."""
    square, G = float(mean.square().sum()), problem.group_size
    variance = (squares.norm - square) / G + (1 - 1 / G) * covariance
    return Spread(mean, variance, rounding(problem, (squares.norm + square) / G), squares)


def rounding(problem: PromptProblem, size: float) -> float:
    """What rounding leaves of a difference of two sums of `size`, over T tokens of a vocabulary of V each."""
    return UNIT * (problem.mdp.horizon * (problem.mdp.vocab_size + 8) + 32) * size


def signal_to_noise(square: float, variance: float, rounding: float) -> float:
    """||E g_hat||^2 / variance; nan where no digit of the variance is known."""
    if square == 0:
        return 0.0
    if variance == rounding == 0:
        return math.inf
    return square / variance if variance > rounding else math.nan
