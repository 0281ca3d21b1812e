"""Weights of whole responses on a prefix tree as values of its leaves, for three policies.

On a tree every response is an outcome of its own, so that whatever weighs a whole response (a pooled ratio
with its clip, a correction of the sequence) is a number for each leaf, and the sum over responses is the
pass of `dynamic/measures.py` with these numbers as values:

    M[s, a] = sum over signs of k(s, a) sum over the responses y through (s, a) of mu(y) u(y) phi(y) f(y).

Log-ratios of responses are added up on the way down; nothing is listed token by token.
"""

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import has_table
from ticgrpo_theory.estimators.corrections import Bounded, Correction, masked, rejected, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.dynamic import measures, table_kernels
from ticgrpo_theory.exact.dynamic.layer_kernels import layers_of
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.worlds.graph import Tree
from ticgrpo_theory.worlds.policy import log_probabilities

Floats = NDArray[np.float64]


def covers(problem: PromptProblem) -> bool:
    """Whether everything that weighs a whole response is a function of sums of log-ratios along it."""
    estimator = problem.estimator
    if problem.on_old or not isinstance(problem.mdp.graph, Tree) or not isinstance(estimator, Estimator):
        return False
    parts = () if estimator.correction is None else estimator.correction.parts
    return (
        estimator.properties.known
        and estimator.penalty is None
        and estimator.ratio in (ratios.none, ratios.token, ratios.trajectory, ratios.geometric_mean)
        and has_table(estimator.clip)
        and all(type(part) in (truncated, masked, rejected) for part in parts)
        and all(part.level != "largest" for part in parts if isinstance(part, Bounded))
    )


def response_weights(problem: PromptProblem, plus: Floats, minus: Floats) -> Float[Tensor, "S V"]:
    """M of sum_t (plus(y) c_t(y; 1) + |minus(y)| c_t(y; -1)), where `covers`."""
    estimator, graph = problem.axes, problem.mdp.graph
    log_pi, log_old, log_sampler = map(log_probabilities, (problem.theta, problem.theta_old, problem.sampler))
    possible = log_sampler > -torch.inf
    log_ratio = (log_pi - log_old).where(possible, 0.0)
    to_sampler = (log_old - log_sampler).where(possible, 0.0)
    edge = log_sampler.exp().numpy()
    token = by_token(estimator)
    own = measures.token_factors(token, log_ratio, to_sampler, log_old.where(possible, 0.0))
    M = np.zeros(edge.shape)
    for sign, f in ((0, plus), (1, minus)):
        if f.any():
            value = f * of_leaves(problem, log_ratio, to_sampler, 1.0 - 2.0 * sign)
            M += measures.along(graph, measures.Measure(edge, edge * own[sign], edge), value).M
    return torch.from_numpy(M)


def by_token(estimator: Estimator) -> Estimator:
    """The estimator as its single tokens see it: a pooled ratio weighs leaves instead."""
    pooled = estimator.ratio not in (ratios.none, ratios.token)
    return replace(estimator, ratio=ratios.trajectory) if pooled else estimator


def of_leaves(
    problem: PromptProblem, log_ratio: Float[Tensor, "S V"], to_sampler: Float[Tensor, "S V"], sign: float
) -> Floats:
    """u(y) phi(y) of every response: its pooled ratio with the clip for A of this sign, its corrections."""
    estimator, graph = problem.axes, cast(Tree, problem.mdp.graph)
    length = torch.from_numpy(np.ascontiguousarray(graph.length))
    mask = torch.ones(length.numel(), 1, 1, dtype=torch.bool)
    found = torch.ones(mask.shape, dtype=torch.float64)
    if estimator.ratio not in (ratios.none, ratios.token):
        v = sums_of(graph, log_ratio)
        v = v / length if estimator.ratio is ratios.geometric_mean else v
        lo, hi = estimator.clip.bounds(torch.full(mask.shape[:2], sign > 0), length[:, None])
        # The pooled ratio of a response of one token is that token's own.
        found = estimator.clip.weight(ratios.token, v[:, None, None], mask, lo[..., None], hi[..., None])
    parts: tuple[Correction, ...] = () if estimator.correction is None else estimator.correction.parts
    whole = [part for part in parts if isinstance(part, Bounded) and part.level != "token"]
    d = sums_of(graph, to_sampler) if whole else None
    for part in whole:
        assert d is not None
        pooled = d / length if part.level == "geometric" else d
        phi = replace(part, level="sequence").weight(pooled[:, None, None], mask)
        found = (found * phi).where(phi != 0, 0.0)
    return found[:, 0, 0].numpy()


def sums_of(graph: Tree, table: Float[Tensor, "S V"]) -> Float[Tensor, " O"]:
    """The sum of table[s, a] along every response; -inf where one is."""
    nodes, total = np.empty(graph.row.size), np.empty(graph.reward.size)
    table_kernels.sums(layers_of(graph), np.ascontiguousarray(table.numpy()), nodes, total)
    return torch.from_numpy(total)
