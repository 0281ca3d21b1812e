"""First and second moments of the weighed score x of one row, type by type."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ticgrpo_theory.exact.mean.mean_weights import dynamic_weights, enumerated_weights
from ticgrpo_theory.exact.moments import one_response, tree_moments
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.tree import tree_weights
from ticgrpo_theory.worlds.policy import pull_back

WEIGHTS = {"dynamic_programming": dynamic_weights, "enumeration": enumerated_weights}

FloatsO = Float64[np.ndarray, " O"]


def of_types(
    problem: PromptProblem,
    method: str,
    kind: Int64[np.ndarray, " O"],
    kinds: int,
    scale: FloatsO,
    signs: int,
) -> Float[Tensor, "s K SV"]:
    """E[scale x; type k] for A > 0 and, where there are two signs, for A < 0; kind[o] is the type of o."""
    found = torch.zeros(signs, kinds, problem.theta.numel(), dtype=torch.float64)
    score, nothing = problem.axes.score(problem.theta, problem.theta_old), np.zeros_like(scale)
    for k in np.unique(kind[scale != 0]).tolist():
        own = np.where(kind == k, scale, 0.0)
        for s, signed in enumerate([(own, nothing), (nothing, own)][:signs]):
            found[s, k] = pull_back(WEIGHTS[method](problem, *signed), score).flatten()
    return found


def norm(problem: PromptProblem, method: str, F: Float64[np.ndarray, "s O"]) -> float:
    """E[sum_s F^s ||x^s||^2] of a row; one F where both signs have the same x."""
    F = F if len(F) == 2 else np.concatenate([F, np.zeros_like(F)])
    if method == "dynamic_programming":
        return one_response.by_dynamic_programming(problem, F).norm
    if tree_weights.covers(problem):
        return tree_moments.squares(problem, F).norm
    return one_response.by_enumeration(problem, problem.listed_responses, F).norm
