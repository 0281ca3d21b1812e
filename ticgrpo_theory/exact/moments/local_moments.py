"""All moments of a token-level estimator in one sweep, where every row of logits belongs to one node.

Cov(x_1, x_2) and E||x||^2 are sums over nodes: prefix trees, automata with a row for each time and state.
"""

from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import has_table
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.dynamic.layer_kernels import layers_of
from ticgrpo_theory.exact.moments import moment_kernels as kernels
from ticgrpo_theory.exact.moments.one_response import Squares, clip_of
from ticgrpo_theory.exact.moments.pairs import Channels, PairDistribution
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.worlds.graph import Graph, Tree


class LocalMoments(NamedTuple):
    """E[g_hat], Cov(x_1, x_2) = E<x_1, x_2> - ||E x_1||^2, and the squares of one response."""

    mean: Float[Tensor, "S V"]
    covariance: float
    squares: Squares


def has_local_rows(graph: Graph) -> bool:
    """Whether every row of logits is read by one node alone."""
    return isinstance(graph, Tree) or np.unique(graph.row).size == graph.row.size


def applies(problem: PromptProblem, pairs: PairDistribution) -> bool:
    """Whether `local_moments` covers it: token ratio or none, few channels of one scale, rows of one node."""
    estimator, channels = problem.estimator, pairs.channels
    if not isinstance(estimator, Estimator) or channels is None:
        return False
    scale = channels.scale[channels.kind_of >= 0]
    return (
        problem.on_old
        and has_table(estimator.clip)
        and estimator.ratio in (ratios.none, ratios.token)
        and channels.sign.size > 0
        and bool((scale == scale[0]).all())
        and has_local_rows(problem.mdp.graph)
    )


def local_moments(problem: PromptProblem, pairs: PairDistribution) -> LocalMoments:
    """The moments of one prompt, where `applies`."""
    estimator, graph = problem.axes, problem.mdp.graph
    channels = cast(Channels, pairs.channels)
    theta, theta_old = problem.theta.numpy(), problem.theta_old.numpy()
    ratio = theta_old if estimator.ratio is ratios.none else theta
    scale = float(channels.scale[channels.kind_of >= 0][0])
    square, C = channels.square * scale**2, channels.sign.size
    gram, mean = np.zeros((C, C)), np.zeros(theta.shape)
    score = estimator.score(problem.theta, problem.theta_old).numpy()
    policies = kernels.RatioTables(ratio, theta_old, score)
    K = int(channels.kind_of.max()) + 1
    weighed = kernels.Weighed(channels.sign, channels.kind, channels.kind_of, K, square, pairs.mean * scale)
    visits, clips = forward_backward.visits(graph, theta_old), clip_of(estimator, graph)
    norm, weight, doubled = kernels.local_sweep(
        layers_of(graph), visits, policies, *clips, weighed, gram, mean
    )
    lengths = np.bincount(channels.kind_of + 1, weights=problem.outcome_prob * graph.length)[1:]
    tokens = float(square @ lengths[channels.kind])
    # gram has the entries up to the diagonal; those below it count twice.
    both = np.tril(channels.covariance) + np.tril(channels.covariance, -1)
    covariance = float((both * gram).sum()) * scale**2
    return LocalMoments(torch.from_numpy(mean), covariance, Squares(norm, weight, doubled, tokens))
