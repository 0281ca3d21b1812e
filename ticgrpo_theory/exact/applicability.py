"""Which method is exact for which estimator: '' where it is, else the reason why not, in words."""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import Clip, before_pooling, saturating
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import kl_exact, kl_loss, kl_reward
from ticgrpo_theory.exact.problem import Problem
from ticgrpo_theory.graph import Graph


def lengths_of(graph: Graph) -> NDArray[np.int64]:
    """The distinct lengths of the responses of a graph."""
    return np.array([graph.horizon]) if graph.final_start == 0 else np.unique(graph.length)


Bounds = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def bounds_at(clip: Clip, length: NDArray[np.int64]) -> Bounds:
    """(lo, hi) for A >= 0, then (lo, hi) for A < 0, at the given lengths, in log space."""
    lengths = torch.from_numpy(np.ascontiguousarray(length))
    lo_plus, hi_plus = clip.bounds(torch.ones_like(lengths, dtype=torch.bool), lengths)
    lo_minus, hi_minus = clip.bounds(torch.zeros_like(lengths, dtype=torch.bool), lengths)
    return lo_plus.numpy(), hi_plus.numpy(), lo_minus.numpy(), hi_minus.numpy()


def is_unclipped(clip: Clip, graph: Graph) -> bool:
    """Whether no ratio is ever switched off or held."""
    bounds = bounds_at(clip, lengths_of(graph))
    return not isinstance(clip, before_pooling) and all(np.isinf(bound).all() for bound in bounds)


def gate_ignores_sign(clip: Clip, graph: Graph) -> bool:
    """Whether a response is weighted alike for either sign of A."""
    lo_plus, hi_plus, lo_minus, hi_minus = bounds_at(clip, lengths_of(graph))
    return bool((lo_plus == lo_minus).all() and (hi_plus == hi_minus).all())


@lru_cache(maxsize=256)
def homogeneity_gap(estimator: Estimator) -> float:
    """max |c(A) - |A| c(sign A)| over a probe of log-ratios inside and outside every customary clip."""
    steps = torch.tensor([0.05, -0.35, 0.45, -0.04, 0.02, 1.7, -2.1, 0.11, -0.55, 0.31, 0.9, 0.03])
    log_ratio = steps.double().reshape(3, 1, 4)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])[:, None]
    gap = 0.0
    for size in (0.3, 2.5):
        for sign in (1.0, -1.0):
            unit = torch.full((3, 1), sign, dtype=torch.float64)
            expected = size * estimator.response_weights(log_ratio, unit, mask)
            found = estimator.response_weights(log_ratio, size * unit, mask)
            gap = max(gap, float((found - expected).abs().max()))
    return gap


def reduction_obstacle(problem: Problem) -> str:
    """Why a group does not reduce to one response, or ''."""
    estimator = problem.estimator
    if isinstance(estimator, Objective):
        return "a callable objective may couple the responses of a group in any way"
    if isinstance(estimator, from_loss):
        try:
            estimator.check_one_response_form()
        except ValueError as why:
            return str(why)
        return ""
    if isinstance(estimator.penalty, kl_reward):
        return "kl_reward changes the rewards before the group statistics are taken"
    gap = homogeneity_gap(estimator)
    if gap > 1e-12:
        return f"c(A) is not max(A, 0) c(1) + max(-A, 0) c(-1): they differ by {gap:.3g}"
    return ""


def programme_obstacle(problem: Problem) -> str:
    """Why the dynamic programme over the layered graph is not exact, or ''."""
    estimator = problem.estimator
    if not isinstance(estimator, Estimator):
        return "a callable has no declared ratio and clip"
    obstacle = reduction_obstacle(problem)
    if obstacle:
        return obstacle
    if isinstance(estimator.penalty, kl_loss | kl_exact):
        return "its penalty is summed token by token over all responses"
    if type(estimator.clip).weight not in (Clip.weight, saturating.weight, before_pooling.weight):
        return "its clip turns ratios into weights by a rule of its own"
    graph = problem.mdp.graph
    if estimator.ratio in (ratios.prefix, ratios.trajectory) and is_unclipped(estimator.clip, graph):
        return ""
    if estimator.ratio not in (ratios.none, ratios.token) or isinstance(estimator.clip, before_pooling):
        return "its clip depends on more than one token"
    if any(np.unique(bound).size > 1 for bound in bounds_at(estimator.clip, lengths_of(graph))):
        return "its clip depends on the length of the response, which is not known before the end"
    return ""


def groups_obstacle(problem: Problem) -> str:
    """Why groups cannot be enumerated, or ''."""
    if isinstance(problem.estimator, Estimator) and isinstance(problem.estimator.penalty, kl_exact):
        return "kl_exact is no function of the sampled tokens of a group"
    return "an infinite group cannot be enumerated" if problem.group_size == math.inf else ""
