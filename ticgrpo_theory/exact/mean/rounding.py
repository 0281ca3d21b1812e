"""How large the rounding of an expectation can be: what is below it says nothing of the estimator.

A sum of products along a response, in float64 with its relative error u = 2^-53 of each operation, is off by
at most n u times the same sum of absolute values, n the operations on the longest way to it (Higham, Accuracy
and Stability of Numerical Algorithms, 2002, Sec. 3.1; terms of order u^2 left out). With M the token weights
where every A has the largest |A| that occurs, and m the most likely token of a row,

    |error of E[g_hat]| <= n u (M[s, a] + pi(a | s) sum_b M[s, b]),   at m the sum over the other tokens.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.mean.mean_weights import (
    METHODS,
    conditional,
    dynamic_weights,
    enumerated_weights,
)
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.stats.rounding import FULL, norm
from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.mdp import TokenMDP

Weights = Callable[..., Float[Tensor, "S V"]]
"""(problem, f+, f-) -> M."""

UNIT = 2.0**-53
"""Relative error of one operation."""


def operations(graph: Graph, *logits: Float[Tensor, "S V"]) -> float:
    """n: a softmax, a product and a sum over V tokens at each of T depths, and the nodes of a row.

    A probability exp(z - log sum exp z) has the absolute error of its exponent as a relative one: as many
    operations more as logits lie apart, for each policy and depth.
    """
    T, V = graph.horizon, graph.vocab_size
    apart = math.fsum(widest_row(z) for z in logits)
    return T * (V + 8 + apart) + 32 + int(np.bincount(graph.row).max())


def widest_row(logits: Float[Tensor, "S V"]) -> float:
    """Largest difference of two logits of a row, impossible tokens left out."""
    possible = logits > -torch.inf
    top = logits.amax(dim=-1, keepdim=True)
    return float((top - logits).where(possible, 0.0).max())


def pulled_back(M: Float[Tensor, "S V"], logits: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
    """The absolute values that enter the pull-back of M."""
    pi = torch.softmax(logits, dim=-1)
    size = M + pi * M.sum(dim=-1, keepdim=True)
    top = pi.argmax(dim=-1, keepdim=True)
    size = size.scatter(-1, top, 0.0)
    return size.scatter(-1, top, size.sum(dim=-1, keepdim=True))


def gradient_rounding(mdp: TokenMDP, theta: Float[Tensor, "S V"]) -> float:
    """Bound on ||error|| of `policy_gradient` at these logits."""
    total = torch.zeros_like(theta)
    for weight, prompt in mdp.prompts:
        graph = prompt.graph
        possible = forward_backward.outcome_distribution(graph, theta.numpy()) > 0
        least = graph.reward[possible].min()
        value = np.where(possible, graph.reward - least, 0.0)
        M = torch.from_numpy(forward_backward.value_weights(graph, theta.numpy(), value))
        total += weight * operations(graph, theta) * UNIT * pulled_back(M, theta)
    return norm(total)


def refuse_lost_digits(given: AnyEstimator, mean: Float[Tensor, "S V"]) -> None:
    """Raise ValueError where E[g_hat] leaves the range in which float64 has all its digits."""
    largest = max(float(mean.max()), -float(mean.min()))
    if 0 < largest < FULL or not largest < math.inf:
        raise ValueError(
            f"the largest entry of E[g_hat] of the estimator {name_of(given)} comes out as "
            f"{largest:.3g}, outside ({FULL:.2g}, 1.8e308), where float64 has all its digits; "
            f"multiply the rewards by a constant, or keep the policies further from certainty"
        )


def mean_rounding(problem: PromptProblem, method: str) -> float:
    """Bound on ||error|| of E[g_hat] of one prompt, once this method has summed it."""
    n = operations(problem.mdp.graph, *problem.policies.drawn)
    if method == "groups":
        # Without a look at which token a weight falls on: |c - pi sum c| adds up to twice |c| at most.
        return 2 * (n + problem.groups.group_size) * UNIT * problem.groups.size
    found = rounding_of(problem, WEIGHTS[method], *conditional(problem, problem.with_advantage))
    if problem.estimator.penalty is not None or isinstance(problem.estimator, from_loss):
        # Terms that no advantage multiplies: by the sum that they are a part of.
        found += n * UNIT * 2 * float(METHODS[method](problem).abs().sum())
    return found


def rounding_of(
    problem: PromptProblem, weights: Weights, plus: np.ndarray, minus: np.ndarray, more: int = 0
) -> float:
    """Bound on ||error|| of the pull-back of M, from f+ and f- of `more` operations before the pass."""
    most = np.full_like(plus, max(np.abs(plus).max(), np.abs(minus).max()))
    none = np.zeros_like(plus)
    # Either weight is positive for positive numbers: c(A) has the sign of A, and |A| stands here for A.
    M = weights(problem, most, none) + weights(problem, none, most)
    size = pulled_back(M.abs(), problem.estimator.score(problem.theta, problem.theta_old))
    return (operations(problem.mdp.graph, problem.theta, problem.theta_old) + more) * UNIT * norm(size)


WEIGHTS: dict[str, Weights] = {"dynamic_programming": dynamic_weights, "enumeration": enumerated_weights}
