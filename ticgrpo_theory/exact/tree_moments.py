"""Second moments on a prefix tree where one pooled ratio weighs the whole response: clipped, of any length.

No row is read twice, so that ||Phi||^2 = u^2 sum_t ||psi_t||^2, and u^2 = c(w^e)^2 is the weight of the ratio
w^(2e) under the squared bounds: the compiled pass that sums first moments sums these as well.
"""

from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import Clip, saturating
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact import tree
from ticgrpo_theory.exact.applicability import bounds_at
from ticgrpo_theory.exact.problem import Problem
from ticgrpo_theory.exact.response_squares import Squares, policy, tokens
from ticgrpo_theory.graph import Tree


def covers(problem: Problem) -> bool:
    """Whether the compiled pass over a prefix tree knows the ratio and the clip."""
    estimator = problem.estimator
    return (
        isinstance(problem.mdp.graph, Tree)
        and isinstance(estimator, Estimator)
        and estimator.ratio in (ratios.trajectory, ratios.geometric_mean)
        and type(estimator.clip).weight in (Clip.weight, saturating.weight)
    )


def first_moment(problem: Problem, plus: np.ndarray, minus: np.ndarray) -> Float[Tensor, "S V"]:
    """M[s, a] = sum over responses through (s, a) of P_old (u+ plus + u- minus)."""
    return _moment(problem, plus, minus, 1)


def squares(problem: Problem, F: Float[np.ndarray, "2 O"]) -> Squares:
    """The sums of response_squares.py."""
    estimator = cast(Estimator, problem.estimator)
    score = torch.from_numpy(policy(estimator.score(problem.theta, problem.theta_old)))
    double = _moment(problem, F[0], F[1], 2)
    norms = 1 - 2 * score + score.square().sum(dim=1, keepdim=True)
    weight = _moment(problem, F[0], F[1], 1)
    return Squares(
        float((double * norms).sum()), float(weight.sum()), float(double.sum()), tokens(problem, F)
    )


def _moment(problem: Problem, plus: np.ndarray, minus: np.ndarray, power: int) -> Float[Tensor, "S V"]:
    """M with u^power in place of u."""
    estimator, graph = cast(Estimator, problem.estimator), cast(Tree, problem.mdp.graph)
    lengths = np.maximum(np.arange(graph.horizon + 1), 1)
    lo_plus, hi_plus, lo_minus, hi_minus = (power * bound for bound in bounds_at(estimator.clip, lengths))
    bounds = lo_plus, hi_plus, lo_minus, hi_minus
    pooled = 1.0 / lengths if estimator.ratio is ratios.geometric_mean else np.ones(lengths.size)
    theta, theta_old = problem.theta.numpy(), problem.theta_old.numpy()
    held = isinstance(estimator.clip, saturating)
    plus, minus = np.ascontiguousarray(plus), np.ascontiguousarray(minus)
    M = tree.response_weights(graph, theta, theta_old, plus, minus, bounds, power * pooled, held)
    return torch.from_numpy(M)
