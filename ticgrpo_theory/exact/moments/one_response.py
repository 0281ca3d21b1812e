"""E||x||^2 of one response, x = sum_s a^s Phi^s, and how unevenly the clip and the drift weigh its tokens.

    norm     E[sum_s F^s ||Phi^s||^2], Phi^s = sum_t u_t^s grad log pi(a_t | s_{t-1}), F^s(o) = E[(a^s)^2 | o]
    weight   E[sum_s F^s sum_t u_t^s]
    square   E[sum_s F^s sum_t (u_t^s)^2]
    tokens   E[sum_s F^s |y|]

||Phi||^2 has a term for every token, and one for every pair of tokens that read the same row of logits.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.shapes import Shape
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.dynamic.layer_kernels import clip_both, layers_of
from ticgrpo_theory.exact.dynamic.measures import Edges, Measure, along, factors_of
from ticgrpo_theory.exact.mean.mean_weights import unit_weights
from ticgrpo_theory.exact.moments import moment_kernels as kernels
from ticgrpo_theory.exact.moments import scores
from ticgrpo_theory.exact.obstacles import is_unclipped, lengths_of
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.interrupts import interruptible
from ticgrpo_theory.worlds.kernels import softmax

Floats = NDArray[np.float64]

MAX_PAIR_WORK = 2**35
"""Largest number of multiply-adds for pairs of tokens that share a row: about half a minute of one core."""

MAX_PAIR_TABLE = 2**27
"""Largest number of weights of later tokens kept for the nodes of one depth: 1 GiB, held twice."""


class Squares(NamedTuple):
    """The four sums above."""

    norm: float
    weight: float
    square: float
    tokens: float


def edges(problem: PromptProblem, pi: Floats, pi_old: Floats) -> list[Edges]:
    """For A >= 0 and A < 0, where dynamic programming is exact; pi is the policy of the ratio."""
    estimator, graph = problem.axes, problem.mdp.graph
    if not problem.on_old or isinstance(estimator.clip, Shape):
        factors = factors_of(estimator, problem.theta, problem.theta_old, problem.sampler)
        return [factors.edges(0), factors.edges(1)]
    if estimator.ratio in (ratios.prefix, ratios.trajectory) and is_unclipped(estimator.clip, graph):
        squared = squares_over(pi, pi_old)
        if estimator.ratio is ratios.prefix:
            both = Edges(Measure(pi, pi, pi_old), Measure(squared, squared, pi_old), squared, pi, pi)
        else:
            both = Edges(Measure(pi, pi, pi), Measure(squared, squared, squared), squared, squared, squared)
        return [both, both]
    found = []
    for token in token_tables(problem, pi, pi_old):
        squared = squares_over(token, pi_old)
        single, double = Measure(pi_old, token, pi_old), Measure(pi_old, squared, pi_old)
        found.append(Edges(single, double, token, pi_old, token))
    return found


def squares_over(first: Floats, pi_old: Floats) -> Floats:
    """pi_old u^2 where first = pi_old u."""
    out = np.empty_like(first)
    kernels.squared_ratios(first, pi_old, out)
    return out


def clip_of(estimator: Estimator, graph: Graph) -> forward_backward.Clip:
    """The clip of a token-level estimator, as compiled passes take it."""
    return forward_backward.token_clip(estimator.clip.table(lengths_of(graph)))


def token_tables(problem: PromptProblem, pi: Floats, pi_old: Floats) -> tuple[Floats, Floats]:
    """pi_old u of every token, for A >= 0 and A < 0."""
    tables = np.empty_like(pi), np.empty_like(pi)
    clip_both(pi, pi_old, *clip_of(problem.axes, problem.mdp.graph), *tables)
    return tables


def policies(problem: PromptProblem) -> tuple[Floats, Floats, Floats]:
    """(pi of the ratio, pi_old, pi of the score) as tables [S, V]."""
    estimator = problem.axes
    pi, pi_old = policy(problem.theta), policy(problem.theta_old)
    # A ratio of none is that of theta_old to itself, also for the clip.
    ratio = pi_old if estimator.ratio is ratios.none else pi
    return ratio, pi_old, policy(estimator.score(problem.theta, problem.theta_old))


def policy(logits: Float[Tensor, "S V"]) -> Floats:
    out = np.empty(tuple(logits.shape))
    softmax(logits.numpy(), np.arange(len(logits)), out)
    return out


def by_dynamic_programming(problem: PromptProblem, F: Float[np.ndarray, "2 O"]) -> Squares:
    """Forward and backward over the layers; pairs of tokens only where a response can read a row twice."""
    graph, (pi, pi_old, score) = problem.mdp.graph, policies(problem)
    norms = scores.norms(score)
    norm = weight = square = 0.0
    for edge, f in zip(edges(problem, pi, pi_old), F, strict=True):
        if f.any():
            squared, visits = along(graph, edge.double, f)
            square += float(squared.sum())
            # Squares that overflowed make this inf or NaN, which the caller refuses.
            with np.errstate(invalid="ignore", over="ignore"):
                norm += float((squared * norms).sum())
            if problem.mdp.max_visits > 1:
                norm += 2 * repeated_rows(graph, edge, visits, score, f)
            weight += float(along(graph, edge.single, f)[0].sum())
    return Squares(norm, weight, square, tokens(problem, F))


def tokens(problem: PromptProblem, F: Float[np.ndarray, "2 O"]) -> float:
    """E[sum_s F^s |y|]."""
    return float(problem.outcome_prob @ (F.sum(axis=0) * problem.mdp.graph.length))


def repeated_rows(graph: Graph, edge: Edges, visits: Floats, score: Floats, f: Floats) -> float:
    """E[F sum_{t < t'} u_t u_t' <grad log pi(a_t), grad log pi(a_t')>] over pairs that read one row."""
    S, V = score.shape
    same = np.zeros((S, V, 1, V))
    tables = (edge.first, edge.between, edge.second, edge.double.after)
    interruptible(kernels.pairs, layers_of(graph), visits, *tables, np.ascontiguousarray(f), same)
    return float((same[:, :, 0, :] * scores.products(score)).sum())


def by_enumeration(
    problem: PromptProblem, every: enumeration.Responses, F: Float[np.ndarray, "2 O"]
) -> Squares:
    """Every response token by token, whatever makes its weights."""
    estimator = problem.with_advantage
    score = policy(estimator.score(problem.theta, problem.theta_old))
    norm = weight = square = 0.0
    for part in enumeration.chunks(len(every.reward), every.mask.shape[1] ** 2):
        products = score_products(every, part, score)
        for sign, f in zip((1.0, -1.0), F, strict=True):
            if not f.any():
                continue
            chance = every.prob[part] * torch.from_numpy(f[every.paths.outcome[part]])
            u = sign * unit_weights(problem, every, part, sign)
            norm += float(chance @ torch.einsum("nt,ntu,nu->n", u, products, u))
            weight += float(chance @ u.sum(dim=1))
            square += float(chance @ u.square().sum(dim=1))
    return Squares(norm, weight, square, tokens(problem, F))


def score_products(
    every: enumeration.Responses, part: slice, score: Float[np.ndarray, "S V"]
) -> Float[Tensor, "n T T"]:
    """<psi_t, psi_u> where t and u read one row; 0 elsewhere."""
    rows, tokens = torch.from_numpy(every.paths.rows[part]), torch.from_numpy(every.paths.tokens[part])
    mask = every.mask[part]
    same = (rows[:, :, None] == rows[:, None, :]) & mask[:, :, None] & mask[:, None, :]
    found = scores.product(score, rows[:, :, None], tokens[:, :, None], tokens[:, None, :])
    return found.where(same, 0.0)


def effective_sample_size(
    weights: list[float], squares: list[Squares | None], group_size: int | float
) -> float | None:
    """G E[sum_t a^2 u]^2 / (E[sum_t a^2] E[sum_t a^2 u^2]); prompts are added before dividing."""
    known = [each for each in squares if each is not None]
    if len(known) < len(squares):
        return None
    weight, square, tokens = (
        sum(q * getattr(each, name) for q, each in zip(weights, known, strict=True))
        for name in ("weight", "square", "tokens")
    )
    return group_size * weight / tokens * weight / square if weight > 0 else 0.0


def pair_obstacle(problem: PromptProblem) -> str:
    """Why dynamic programming cannot afford pairs of tokens on shared rows, or ''."""
    (S, V), graph = problem.theta.shape, problem.mdp.graph
    work, table = graph.row.size * V * S * V, max(graph.nodes(t) for t in range(graph.horizon)) * S * V
    if (work <= MAX_PAIR_WORK and table <= MAX_PAIR_TABLE) or problem.mdp.max_visits == 1:
        return ""
    return (
        f"a response reads one row of logits up to {problem.mdp.max_visits} times, and pairs of its tokens "
        f"cost nodes x S x V^2 = {work:,} multiply-adds and tables of {table:,} numbers, more than "
        f"MAX_PAIR_WORK = {MAX_PAIR_WORK:,} or MAX_PAIR_TABLE = {MAX_PAIR_TABLE:,}"
    )
