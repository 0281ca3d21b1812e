"""The whole covariance of an estimator, [S V, S V]: in which directions its noise lies.

    Cov g_hat = (1/G) E[x_1 x_1'] + (1 - 1/G) E[x_1 x_2'] - E[g_hat] E[g_hat]'

with the parts of moments.py; its trace is `gradient_moments(...).variance`. Entry [s V + a, r V + b] belongs
to the logits theta[s, a] and theta[r, b].
"""

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.dynamic.layer_kernels import layers_of
from ticgrpo_theory.exact.expectation import Method, Obstacles, choose_method_for
from ticgrpo_theory.exact.groups.every_group import Walk
from ticgrpo_theory.exact.mean.mean_weights import unit_weights
from ticgrpo_theory.exact.moments import estimator_moments
from ticgrpo_theory.exact.moments import moment_kernels as kernels
from ticgrpo_theory.exact.moments.group_moments import group_gradients
from ticgrpo_theory.exact.moments.one_response import along, edges, policies
from ticgrpo_theory.exact.moments.pairs import PairDistribution, pair_distribution
from ticgrpo_theory.exact.obstacles import dynamic_obstacle
from ticgrpo_theory.exact.problem import Problem, problems
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.many_policies import flat_index, scatter_each
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import pull_back

MAX_LOGITS = 2**12
"""Largest S V: the matrix then takes 128 MiB, and each prompt a few of them."""


def gradient_covariance(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    method: Method = "auto",
    theta_ref: Tensor | ArrayLike | None = None,
) -> Float[Tensor, "SV SV"]:
    """E[(g_hat - E g_hat)(g_hat - E g_hat)'], the logits in the order of theta.reshape(-1).

    Arguments as for `gradient_moments`. Raises ValueError as it does, and for more than MAX_LOGITS logits.
    """
    parts = problems(mdp, theta, theta_old, estimator, group_size, theta_ref)
    size = parts[0][1].theta.numel()
    if size > MAX_LOGITS:
        raise ValueError(
            f"the covariance of S V = {size:,} logits has {size**2:,} entries; MAX_LOGITS = {MAX_LOGITS:,} "
            f"is the largest size; gradient_moments(...).variance is its trace and needs no matrix"
        )
    mean, square = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for weight, problem in parts:
        first, second = prompt_matrix(problem, method)
        mean += weight * first
        square += weight * second
    if not bool(torch.isfinite(square).all()):
        raise ValueError(
            f"the covariance of the estimator {name_of(parts[0][1].given)} overflows float64: use a clip "
            f"that bounds the importance weights from above, or keep theta closer to theta_old"
        )
    covariance = square - torch.outer(mean, mean)
    return (covariance + covariance.T) / 2


def prompt_matrix(problem: Problem, method: str) -> tuple[Float[Tensor, " SV"], Float[Tensor, "SV SV"]]:
    """E[g_hat] and E[g_hat g_hat'] over groups of one prompt."""
    if problem.group_size == math.inf:
        mean = estimator_moments.prompt_moments(problem, method).mean.reshape(-1)
        return mean, torch.outer(mean, mean)
    return MATRICES[choose_method_for(problem, method, OBSTACLES)](problem)


def by_groups(problem: Problem) -> tuple[Tensor, Tensor]:
    def total(walk: Walk) -> tuple[Tensor, Tensor]:
        size = problem.theta.numel()
        mean, square = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
        for g_hat, probability in group_gradients(problem, walk):
            flat = g_hat.flatten(1)
            mean += probability @ flat
            square += flat.T @ (probability[:, None] * flat)
        return mean, square

    return problem.groups.over(total)


def by_dynamic_programming(problem: Problem) -> tuple[Tensor, Tensor]:
    """E[x_1 x_1'] by the pairs of tokens of one response, at whatever distance."""
    law = pair_distribution(problem, cast(Estimator, problem.estimator))
    graph, (pi, pi_old, _), (S, V) = problem.mdp.graph, policies(problem), problem.theta.shape
    table = np.zeros((S, V, S, V))
    for edge, f in zip(edges(problem, pi, pi_old), law.square(), strict=True):
        if f.any():
            same, visits = along(graph, edge.double, f)
            later = np.zeros((S, V, S, V))
            factors = (edge.first, edge.between, edge.second, edge.double.after)
            kernels.pairs(layers_of(graph), visits, *factors, np.ascontiguousarray(f), later)
            table += later + later.transpose(2, 3, 0, 1)
            np.einsum("sasa->sa", table)[...] += same
    score = problem.estimator.score(problem.theta, problem.theta_old)
    half = pulled_rows(torch.from_numpy(table).reshape(S * V, S, V), score)
    return with_pairs(
        problem,
        law,
        pulled_rows(half.T.reshape(S * V, S, V), score),
        estimator_moments.dynamic_table(problem),
    )


def by_enumeration(problem: Problem) -> tuple[Tensor, Tensor]:
    """E[x_1 x_1'] by one look at every response."""
    estimator = cast(Estimator | from_loss, problem.estimator)
    law, (S, V) = pair_distribution(problem, estimator), problem.theta.shape
    every = enumeration.responses(problem.mdp.graph, problem.theta, problem.theta_old)
    index, score = flat_index(every.paths, V), estimator.score(problem.theta, problem.theta_old)
    F, square = law.square(), torch.zeros(S * V, S * V, dtype=torch.float64)
    for part in enumeration.chunks(len(every.reward), max(S * V, every.mask.shape[1])):
        for sign, f in zip((1.0, -1.0), F, strict=True):
            chance = every.prob_old[part] * torch.from_numpy(f[every.paths.outcome[part]])
            u = unit_weights(problem, every, part, sign)
            shape = torch.Size((len(u), S, V))
            table = scatter_each(index[part, None], every.mask[part, None], u[:, None], shape)
            flat = pulled_rows(table, score)
            square += flat.T @ (chance[:, None] * flat)
    return with_pairs(problem, law, square, estimator_moments.enumeration_table(problem, every))


def pulled_rows(tables: Float[Tensor, "n S V"], score: Float[Tensor, "S V"]) -> Float[Tensor, "n SV"]:
    """Every table pulled back, as a row."""
    return pull_back(tables, score.expand_as(tables)).flatten(1)


def with_pairs(
    problem: Problem,
    law: PairDistribution,
    square: Float[Tensor, "SV SV"],
    weights: estimator_moments.Weights,
) -> tuple[Tensor, Tensor]:
    """E[g_hat] and (1/G) E[x_1 x_1'] + (1 - 1/G) E[x_1 x_2']."""
    basis = estimator_moments.first_moments(problem, law, weights)
    cross = basis.T @ torch.from_numpy(law.cross) @ basis
    G = problem.group_size
    return torch.from_numpy(law.mean) @ basis, square / G + (1 - 1 / G) * cross


def matrix_obstacle(problem: Problem) -> str:
    """Why the dynamic programme cannot afford all pairs of tokens, or ''."""
    (S, V), graph = problem.theta.shape, problem.mdp.graph
    work = 2 * graph.row.size * V * S * V
    table = max(graph.nodes(t) for t in range(graph.horizon)) * S * V
    if work <= estimator_moments.MAX_PAIR_WORK and table <= estimator_moments.MAX_PAIR_TABLE:
        return ""
    return (
        f"pairs of tokens cost 2 x nodes x S x V^2 = {work:,} multiply-adds and tables of {table:,} numbers, "
        f"more than MAX_PAIR_WORK = {estimator_moments.MAX_PAIR_WORK:,} or "
        f"MAX_PAIR_TABLE = {estimator_moments.MAX_PAIR_TABLE:,}"
    )


MATRICES: dict[str, Callable[[Problem], tuple[Tensor, Tensor]]] = {
    "dynamic_programming": by_dynamic_programming,
    "enumeration": by_enumeration,
    "groups": by_groups,
}
OBSTACLES: Obstacles = estimator_moments.OBSTACLES | {
    "dynamic_programming": lambda problem: dynamic_obstacle(problem) or matrix_obstacle(problem)
}
