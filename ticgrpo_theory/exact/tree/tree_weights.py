"""Which estimators the compiled pass over a prefix tree covers, and what it needs to know of them."""

from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import has_table
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.obstacles import is_unclipped
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.tree import tree_sums
from ticgrpo_theory.worlds.graph import Tree


def covers(problem: PromptProblem) -> bool:
    """Whether one pooled and clipped ratio weighs a whole response of a prefix tree.

    Ratios without a clip are left out: they are a change of measure, which needs no look at responses.
    """
    estimator, graph = problem.estimator, problem.mdp.graph
    return (
        isinstance(graph, Tree)
        and isinstance(estimator, Estimator)
        and estimator.ratio in (ratios.trajectory, ratios.geometric_mean)
        and has_table(estimator.clip)
        and not is_unclipped(estimator.clip, graph)
        and problem.on_old
    )


def response_weights(
    problem: PromptProblem, plus: np.ndarray, minus: np.ndarray, power: int = 1
) -> Float[Tensor, "S V"]:
    """M[s, a] = sum over responses through (s, a) of P_old (u+^power plus + u-^power minus).

    u+- is the weight for A >= 0 and A < 0. u^2 is the weight of the squared ratio under the squared bounds,
    so that the pass that sums first moments sums second moments too.
    """
    estimator, graph = problem.axes, cast(Tree, problem.mdp.graph)
    lengths = np.maximum(np.arange(graph.horizon + 1), 1)
    pooled = 1.0 / lengths if estimator.ratio is ratios.geometric_mean else np.ones(lengths.size)
    M = tree_sums.response_weights(
        graph,
        problem.theta.numpy(),
        problem.theta_old.numpy(),
        np.ascontiguousarray(plus),
        np.ascontiguousarray(minus) if minus.any() else None,
        estimator.clip.table(lengths).power(power),
        power * pooled,
    )
    return torch.from_numpy(M)
