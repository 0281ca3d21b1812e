"""The noise of an estimator: covariance, mean squared error, effective sample size, over all groups, exactly.

    dynamic_programming   the estimators of expectation.py; pairs of tokens where a response reads a row twice
    enumeration           every response once; pairs of responses through conditional expectations of A
    groups                every multiset (or ordered group) of responses: any estimator, any callable

With x_i = G times the part of response i in g_hat, i.i.d. up to what the group makes of their rewards,

    E||g_hat - E g_hat||^2 = (1/G) (E||x_1||^2 - ||E x_1||^2) + (1 - 1/G) Cov(x_1, x_2),

Cov(x_1, x_2) = E<x_1, x_2> - ||E x_1||^2, a sum of products of first moments, one for each function of the
outcome in pairs.py: nothing is a small difference of large numbers because G is large. Where there are
several prompts, the prompt of a group is drawn with its weight, which makes E[g_hat] = sum_q weight_q
E_q[g_hat]; the variance includes that between prompts, also where G is infinite.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.dynamic.layer_kernels import layers_of
from ticgrpo_theory.exact.expectation import Method, Obstacles, assumed, choose_method_for
from ticgrpo_theory.exact.known_scale import scale_of
from ticgrpo_theory.exact.mean.mean_weights import METHODS, dynamic_weights, response_weights
from ticgrpo_theory.exact.moments import local_moments as local
from ticgrpo_theory.exact.moments import moment_kernels as kernels
from ticgrpo_theory.exact.moments import one_response, tree_moments
from ticgrpo_theory.exact.moments.group_moments import spread_over
from ticgrpo_theory.exact.moments.one_response import Squares, effective_sample_size, pair_obstacle
from ticgrpo_theory.exact.moments.pairs import PairDistribution, pair_distribution
from ticgrpo_theory.exact.moments.spread import (
    Moments,
    Spread,
    refuse_lost_squares,
    rounding,
    signal_to_noise,
    spread,
)
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.exact.obstacles import (
    dynamic_obstacle,
    groups_obstacle,
    listing_obstacle,
    reduction_obstacle,
)
from ticgrpo_theory.exact.problem import CheckedProblem, Parts, PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.tree import tree_weights
from ticgrpo_theory.exact.updates.spreads import independent, spread_of_update
from ticgrpo_theory.exact.updates.update import Update, update_of
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import pull_back

Weights = Callable[[np.ndarray, np.ndarray], Tensor]
"""(plus, minus), numbers for outcomes where A >= 0 and A < 0, to token weights M [S, V]."""


def gradient_moments(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    method: Method = "auto",
    theta_ref: Tensor | ArrayLike | None = None,
    *,
    symmetric: bool | None = None,
    limit: int | None = None,
    theta_sampler: Tensor | ArrayLike | None = None,
    prompts: int | str | None = None,
    scope: str = "group",
) -> Moments:
    """E[g_hat] [S, V], its variance and E||g_hat - grad J||^2, groups from the sampler, estimator at theta.

    Arguments as for `expected_gradient`, whose result is the mean. With several prompts one prompt is drawn
    with its weight, and then its group; with `prompts` the moments are those of whole updates. Ours; no
    factor is taken off g_hat but in `mse_scaled`.

    Raises ValueError as `expected_gradient` does, for a cost beyond the limit of the method, and where the
    second moment is too large for float64.
    """
    given = (mdp, theta, theta_old, estimator, group_size, method, theta_ref)
    options = {"symmetric": symmetric, "limit": limit, "prompts": prompts, "scope": scope}
    return moments_of(CheckedProblem(*given, **options, theta_sampler=theta_sampler))


def moments_of(
    problem: CheckedProblem, known: Callable[[CheckedProblem], tuple[float, str]] = scale_of
) -> Moments:
    """`gradient_moments` of what is checked already; `known` gives c where somebody has it."""
    parts = problem.parts
    # Squares that overflow are refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        found = whole_moments(parts)
    mean, variance, lost, _ = found.spread
    square = float(mean.square().sum())
    if not math.isfinite(variance + square):
        raise ValueError(
            f"E||g_hat||^2 of the estimator {name_of(problem.one.given)} comes out as {variance + square}: "
            f"the squares of its importance weights or rewards overflow float64; use a clip that bounds the "
            f"weights from above, keep theta closer to theta_old, or divide the rewards by a constant"
        )
    refuse_lost_squares(problem, variance + square, mean)
    gradient = policy_gradient(problem.mdp, problem.theta)
    scale, scale_kind = known(problem)
    return Moments(
        mean=mean,
        second_moment=variance + square,
        variance=variance,
        variance_rounding=lost,
        mse=variance + float((mean - gradient).square().sum()),
        scale=scale,
        scale_kind=scale_kind,
        mse_scaled=variance + float((mean - scale * gradient).square().sum()),
        ratio_second_moment=sum(q * ratio_second_moment(part) for q, part in Update(parts).alike),
        effective_sample_size=found.sample_size,
        signal_to_noise=signal_to_noise(square, variance, lost),
        method=found.method,
        assumed=found.assumed,
    )


@dataclass(frozen=True, eq=False)
class WholeMoments:
    """What is known over all prompts, and how."""

    spread: Spread
    method: str
    assumed: str
    sample_size: float | None = None


def whole_moments(parts: Parts) -> WholeMoments:
    """The moments over groups whose prompt is drawn, or over whole updates."""
    update = update_of(parts)
    if update is not None:

        def of_prompt(problem: PromptProblem, method: str) -> tuple[Spread, str, str]:
            one = prompt_moments(problem, method)
            return one.spread, one.method, one.assumed

        return WholeMoments(*spread_of_update(update, of_prompt))
    each = [prompt_moments(part, part.options.method) for _, part in parts]
    found, weights = [one.spread for one in each], [weight for weight, _ in parts]
    squares = [one.squares for one in found]
    return WholeMoments(
        # One group: its prompt is drawn, and the variance includes that between prompts.
        independent(Update(parts), found),
        ", ".join(sorted({one.method for one in each})),
        "; ".join(sorted({one.assumed for one in each if one.assumed})),
        effective_sample_size(weights, squares, parts[0][1].group_size),
    )


@dataclass(frozen=True, eq=False)
class PromptMoments:
    """What is known of one prompt, and how."""

    spread: Spread
    method: str
    assumed: str = ""


def prompt_moments(problem: PromptProblem, method: str) -> PromptMoments:
    """The moments over groups of one prompt."""
    infinite = problem.group_size == math.inf
    chosen = choose_method_for(problem, method, OF_INFINITE if infinite else OBSTACLES)
    if infinite:
        mean = pull_back(METHODS[chosen](problem), problem.estimator.score(problem.theta, problem.theta_old))
        return PromptMoments(Spread(mean, 0.0, 0.0, None), chosen, assumed(problem, chosen))
    return PromptMoments(MOMENTS[chosen](problem), chosen, assumed(problem, chosen))


def by_dynamic_programming(problem: PromptProblem) -> Spread:
    """Forward and backward passes over the layered graph."""
    pairs = pair_distribution(problem, problem.axes)
    if local.applies(problem, pairs):
        found = local.local_moments(problem, pairs)
        return spread(problem, found.mean, found.covariance, found.squares, pairs.subtracted)
    squares = one_response.by_dynamic_programming(problem, pairs.square())
    return from_pairs(problem, pairs, squares, partial(dynamic_weights, problem))


def by_enumeration(problem: PromptProblem) -> Spread:
    """One look at every response for each function of `pairs`; on prefix trees by the compiled pass."""
    pairs = pair_distribution(problem, problem.with_advantage)
    if tree_weights.covers(problem):
        squares = tree_moments.squares(problem, pairs.square())
        return from_pairs(problem, pairs, squares, partial(tree_weights.response_weights, problem))
    every = problem.listed_responses
    squares = one_response.by_enumeration(problem, every, pairs.square())
    return from_pairs(problem, pairs, squares, enumeration_table(problem, every))


def by_groups(problem: PromptProblem) -> Spread:
    """g_hat of every group, and its square."""
    mean, variance, second = problem.groups.over(lambda walk: spread_over(problem, walk))
    return Spread(mean, variance, rounding(problem, second), None)


def enumeration_table(problem: PromptProblem, every: enumeration.Responses) -> Weights:
    def weights(plus: np.ndarray, minus: np.ndarray) -> Tensor:
        coefficients = response_weights(problem, every, plus, minus)
        return enumeration.scatter(every.paths, coefficients, *problem.theta.shape)

    return weights


def first_moments(problem: PromptProblem, pairs: PairDistribution, weights: Weights) -> Float[Tensor, "K SV"]:
    """E[sum_s f^s Phi^s] for every function f in the distribution of pairs."""
    score = problem.estimator.score(problem.theta, problem.theta_old)
    table = torch.zeros(len(pairs.basis), score.numel(), dtype=torch.float64)
    for k, make in enumerate(pairs.basis):
        table[k] = pull_back(weights(*make()), score).reshape(-1)
    return table


def from_pairs(problem: PromptProblem, pairs: PairDistribution, squares: Squares, weights: Weights) -> Spread:
    """E[g_hat] and its variance, from the first moments of the functions in the distribution of pairs."""
    basis = first_moments(problem, pairs, weights)
    covariance = float((torch.from_numpy(pairs.covariance) * (basis @ basis.T)).sum())
    mean = (torch.from_numpy(pairs.mean) @ basis).reshape(problem.theta.shape)
    return spread(problem, mean, covariance, squares, pairs.subtracted)


def ratio_second_moment(problem: PromptProblem) -> float:
    """E_old[w'^2], by one pass backward: any horizon; inf where it is too large for float64."""
    graph = problem.mdp.graph
    tables = problem.theta.numpy(), problem.theta_old.numpy()
    return float(kernels.squared_ratio_sum(layers_of(graph), *tables, graph.reward.size))


def moment_dynamic_obstacle(problem: PromptProblem) -> str:
    return dynamic_obstacle(problem) or pair_obstacle(problem)


def moment_enumeration_obstacle(problem: PromptProblem) -> str:
    estimator = problem.estimator
    if estimator.penalty is not None:
        return "its penalty does not pass through A"
    why = reduction_obstacle(problem)
    if not why and isinstance(estimator, from_loss) and problem.one_response.free:
        return "its loss has a term that no advantage multiplies"
    return why


MOMENTS: dict[str, Callable[[PromptProblem], Spread]] = {
    "dynamic_programming": by_dynamic_programming,
    "enumeration": by_enumeration,
    "groups": by_groups,
}
OBSTACLES: Obstacles = {
    "dynamic_programming": moment_dynamic_obstacle,
    "enumeration": moment_enumeration_obstacle,
    "groups": listing_obstacle,
}
OF_INFINITE: Obstacles = {
    "dynamic_programming": dynamic_obstacle,
    "enumeration": reduction_obstacle,
    "groups": groups_obstacle,
}
"""Of an infinite group, whose moments are its mean."""
