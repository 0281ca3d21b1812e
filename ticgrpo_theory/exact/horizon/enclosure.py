"""E[g_hat] of estimators that weigh whole responses, between two tables, at any horizon.

With x the bin of the pooled log-ratio and v-(x) <= v(y) <= v+(x) the least and largest value of a response in
it, M is summed with the middle of [v-, v+], and once more with half its width, so that

    |E[g_hat] - pulled-back middle| <= (1 - pi_a) D[s, a] + pi_a sum_{b != a} D[s, b],   D of the half width,

plus what a split may miss and what float64 rounds. The width is part of the answer: 0 but for rounding where
the log-ratios lie on a lattice, of the order T step or sqrt(T) step where they do not.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.exact.dynamic.measures import Measure, along
from ticgrpo_theory.exact.horizon.increments import Bins, bins_of
from ticgrpo_theory.exact.horizon.passes import Pass
from ticgrpo_theory.exact.horizon.rules import enclosure_obstacle, split
from ticgrpo_theory.exact.mean.mean_weights import conditional
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.pull_back import pull_back

MAX_WORK = 2e10
"""Largest number of (node, token, bin) triples of one sum: about a minute on one core."""

MAX_NUMBERS = 2**28
"""Largest number of float64 that the kept layers hold: 2 GiB."""

FIRST_BINS = 2**10
"""Bins of the first attempt; each next one has eight times as many."""

TOLERANCE = 1e-6
"""Half width, relative to ||E[g_hat]||, to refine to unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Enclosure:
    """E[g_hat] lies in value +- half_width, in every component."""

    value: Float[Tensor, "S V"]
    half_width: Float[Tensor, "S V"]
    bins: int
    """Bins that were summed over."""
    step: float
    """Their width, in units of log-ratio."""

    @property
    def lower(self) -> Float[Tensor, "S V"]:
        return self.value - self.half_width

    @property
    def upper(self) -> Float[Tensor, "S V"]:
        return self.value + self.half_width

    @property
    def relative(self) -> float:
        """||half width|| / ||value||; infinite where the value is 0 and the width is not."""
        width, size = float(self.half_width.norm()), float(self.value.norm())
        return width / size if size else (math.inf if width else 0.0)

    def narrow(self, tolerance: float | None) -> bool:
        """Whether the half width is within the tolerance."""
        return self.relative <= (TOLERANCE if tolerance is None else tolerance)

    def refuse_wide(self, tolerance: float | None, name: str) -> None:
        """Raise ValueError where it is not."""
        if self.narrow(tolerance):
            return
        wanted = TOLERANCE if tolerance is None else tolerance
        raise ValueError(
            f"with {self.bins:,} bins of {self.step:.3g} in log w the enclosure of E[g_hat] of the estimator "
            f"{name} has a half width of {self.relative:.3g} of its norm, more than tolerance = {wanted:g}, "
            f"and the next refinement is beyond MAX_WORK = {MAX_WORK:.0e}: give a tolerance of "
            f"{self.relative:.1g} or more, explain=True with method='enclosure' for the bounds as "
            f"they are, log-ratios that are whole multiples of a step, or method='sampled'"
        )


def work(graph: Graph) -> int:
    """(node, token) pairs, each of which meets every bin."""
    return graph.row.size * graph.vocab_size


def most_bins(graph: Graph) -> int:
    """Bins that MAX_WORK and MAX_NUMBERS allow."""
    layers = 2 * (math.isqrt(graph.horizon) + 2)
    widest = max(graph.nodes(t) for t in range(graph.horizon + 1))
    ends = int(np.diff(graph.ended_start).max(initial=0))
    held = 2 * (layers * widest + ends)
    return int(min(MAX_WORK / work(graph), MAX_NUMBERS / held))


def enclosed(problem: PromptProblem, bins: int) -> Enclosure:
    """E[g_hat] with at most this many bins.

    Raises ValueError for an estimator that one pooled log-ratio does not hold, log-ratios that are infinite,
    and a weight that overflows.
    """
    why = enclosure_obstacle(problem)
    if why:
        raise ValueError(f"no enclosure of the estimator {name_of(problem.given)}: {why}")
    graph = problem.mdp.graph
    parts = split(problem)
    plus, minus = conditional(problem, problem.axes)
    grid = bins_of(parts.increment, parts.measure.before, graph.horizon, bins)
    k_plus, k_minus = parts.measure.token
    none = np.zeros_like(plus)
    if np.array_equal(k_plus, k_minus) or not minus.any():
        pieces = [(k_plus, plus, minus)]
    else:
        pieces = [(k_plus, plus, none), (k_minus, none, minus)]
    M, width = np.zeros(k_plus.shape), np.zeros(k_plus.shape)
    for token, f_plus, f_minus in pieces:
        measure = Measure(parts.measure.before, np.ascontiguousarray(token), parts.measure.after)
        summed = Pass(graph, measure, grid, f_plus, f_minus, parts.rule)
        middle, half = summed.sums()
        # What a split may miss and what is rounded: of the sum with the largest value everywhere.
        most = along(graph, measure, np.full(graph.reward.size, summed.largest)).M
        lost = operations(graph, *problem.policies.drawn) + 2 * grid.count**0.5
        M += middle
        width += half + (2 * grid.failure + lost * UNIT) * most
    return pulled(problem, M, width, grid)


def pulled(problem: PromptProblem, M: np.ndarray, width: np.ndarray, grid: Bins) -> Enclosure:
    """The pull-back of the middle, and its half width."""
    score = problem.axes.score(problem.theta, problem.theta_old)
    value = np.empty_like(M)
    pull_back(M, score.numpy(), value)
    pi = torch.softmax(score, dim=-1).numpy()
    half = (1 - pi) * width + pi * (width.sum(axis=1, keepdims=True) - width)
    return Enclosure(torch.from_numpy(value), torch.from_numpy(half), grid.count, grid.step)


def refined(problem: PromptProblem, tolerance: float | None = None) -> Enclosure:
    """The narrowest enclosure that the budget allows, or the first that is as narrow as the tolerance.

    Raises ValueError as `enclosed`, and for a world of which not even FIRST_BINS bins fit.
    """
    graph = problem.mdp.graph
    top = most_bins(graph)
    if top < FIRST_BINS:
        raise ValueError(
            f"{work(graph):,} (node, token) pairs over T = {graph.horizon:,} tokens leave {top:,} bins of "
            f"the pooled log-ratio within MAX_WORK = {MAX_WORK:.0e} and MAX_NUMBERS = {MAX_NUMBERS:,}, fewer "
            f"than FIRST_BINS = {FIRST_BINS:,}: lower T or the number of states, or use method='sampled'"
        )
    bins = min(FIRST_BINS, top)
    while True:
        found = enclosed(problem, bins)
        if found.narrow(tolerance) or bins == top or found.bins < bins:
            return found
        bins = min(8 * bins, top)
