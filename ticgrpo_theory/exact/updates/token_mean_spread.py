"""The variance of an update with one token mean for all its groups, by one group and by pairs of them.

With h_p = P sum_i A_i s_i / L, s_i the weighed score of a response and L the tokens of the update,

    E||g_hat||^2 = (1/P^2) (sum_p E||h_p||^2 + sum_(p != p') E<h_p, h_p'>)
    E<h_p, h_p'> = P^2 sum_q weight_q u_q <m_p(u_q), m_p'(u_q)> R_pp'(u_q)
    m_p(u)       = E[sum_i A_i s_i e^(-u L_p)], L_p the tokens of the group

R_pp' the product over the other groups of E[e^(-u tokens)]. The first is the second moment of a group whose
scale is InUpdate; for the second one pass for each node gives m_p(u).

Where a filter drops groups of equal rewards both are those of mixed groups, the others as it fills them: with
A = 0 where rewards are equal, E[X; mixed] = E[X], and `shares` divide by the chance of what was drawn again.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ticgrpo_theory.estimators.advantage import UpdateAdvantage, reads_group
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import batch_token_mean
from ticgrpo_theory.exact.groups.in_update import InUpdate
from ticgrpo_theory.exact.mean.mean_weights import dynamic_weights, enumerated_weights
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.moments.spread import Spread
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.one_row.rows import rows_of, seen
from ticgrpo_theory.exact.updates.one_row.token_means import TokenMeans
from ticgrpo_theory.worlds.policy import pull_back

FloatsQ = Float64[np.ndarray, " Q"]

WEIGHTS = {"dynamic_programming": dynamic_weights, "enumeration": enumerated_weights}


def obstacle(update: CoupledUpdate) -> str:
    """Why the variance is no sum over one group and pairs of groups, or ''."""
    given = update.one.given
    if not isinstance(given, Estimator):
        return "a callable of the whole update may couple its rows in any way"
    if given.scale is not batch_token_mean or isinstance(given.advantage, UpdateAdvantage):
        return "statistics or micro-batches of the update couple its rows by more than one token mean"
    if update.drop is not None and not reads_group(given.advantage):
        return "its filter drops groups that its advantage does not leave out"
    return update.why_not_one_row


def shares(update: CoupledUpdate, means: TokenMeans) -> tuple[FloatsQ, FloatsQ]:
    """(share of the groups, 1 / chance that a group of the prompt stays where others are drawn for it)."""
    drop, weights = update.drop, update.weights
    if drop is None or not drop.redraws:
        return weights, np.ones(len(weights))
    chances = np.array([group.chance_mixed for group in means.groups])
    # No group of a prompt without any mixed ones is in an update.
    again = np.divide(1.0, chances, out=np.zeros_like(chances), where=chances > 0)
    if drop.mode == "same_prompt":
        return weights, again
    return weights * chances / (weights @ chances), again


def spread(
    update: CoupledUpdate, method: str, of_prompt: Callable[..., tuple[Spread, str, str]]
) -> tuple[Spread, str, str]:
    """(mean and variance, method, what it rests on). Raises ValueError as `of_prompt`."""
    means = TokenMeans(update, rows_of(update), update.B)
    (u, weight), rest, P = means.nodes, means.rest(), update.P
    own, again = shares(update, means)
    one = []
    for problem, R in zip(update.problems, rest, strict=True):
        given = dataclasses.replace(update.axes, scale=InUpdate(u, weight, R, P), filter=None)
        one.append(of_prompt(dataclasses.replace(seen(update, problem), given=given), method))
    spreads, each = [found for found, _, _ in one], own * again
    mean = torch.stack([q * s.mean for q, s in zip(each, spreads, strict=True)]).sum(dim=0)
    second = [s.variance + float(s.mean.square().sum()) for s in spreads]
    total = float(each @ np.array(second)) / P
    for node in range(len(u)):
        total += float(weight[node] * u[node]) * pairs(update, means, node, one[0][1])
    square = float(mean.square().sum())
    graphs = [p.mdp.graph for p in update.problems]
    n = max(operations(graph, update.one.theta, update.one.theta_old) for graph in graphs)
    lost = UNIT * (n + update.B + len(u)) * (total + square)
    said = "; ".join(filter(None, [update.said, *sorted({why for _, _, why in one})]))
    return Spread(mean, total - square, lost, None), ", ".join(sorted({name for _, name, _ in one})), said


def pairs(update: CoupledUpdate, means: TokenMeans, node: int, method: str) -> float:
    """sum_(p != p') <m_p, m_p'> R_pp' at one node."""
    P = update.P
    if P == 1:
        return 0.0
    own, again = shares(update, means)
    m = torch.stack([a * moved(update, means, q, node, method).flatten() for q, a in enumerate(again)])
    gamma = np.array([means.of_group(q)[node] for q in range(len(means.rows))])
    if not update.each:
        together = torch.from_numpy(own) @ m
        return P * (P - 1) * float(together.square().sum()) * float(own @ gamma) ** (P - 2)
    # A factor too small for float64 leaves its m 0 too.
    log = np.log(np.maximum(gamma, np.finfo(np.float64).tiny))
    others = np.exp(log.sum() - log[:, None] - log)
    np.fill_diagonal(others, 0.0)
    return float(((m @ m.T).numpy() * others).sum())


def moved(update: CoupledUpdate, means: TokenMeans, q: int, node: int, method: str) -> Float[Tensor, "S V"]:
    """m(u) of a group of prompt q at one node: its scores, weighed by A and tilted by its tokens."""
    group, row, problem = means.groups[q], means.rows[q], update.row_problems[q]
    tables = means.tables[q][node]
    decayed = (update.G * tables[:, :, None] * group.decay[node]).reshape(2, -1)[:, group.case.cell]
    plus, minus = decayed * ((row.prob > 0) & row.counted)
    score = problem.estimator.score(problem.theta, problem.theta_old)
    return pull_back(WEIGHTS[method](problem, plus, minus), score)
