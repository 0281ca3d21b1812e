"""The variance of updates whose advantages read statistics of all rows, by one row and by pairs of rows.

With g_hat = (1/B) sum_b a_b x_b, x_b the weighed score of a row and a_b = B A_b scale_b,

    E||g_hat||^2 = (1/B) sum_q weight_q E[a^2 ||x||^2 | prompt q]
                 + (G - 1)/B sum_q weight_q sum_(k, k') same_q[k, k'] <m_q(k), m_q(k')>
                 + (1/P^2) sum_(p != p') sum_(k, k') apart[k, k'] <m_p(k), m_p'(k')>
    m_q(k)       = E[x; type k]

types k by the sign of A, the reward and, where A or the scale reads it, the length. One pass for each type
gives m; the tables are those of pair_tables.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ticgrpo_theory.estimators.advantage import UpdateAdvantage
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import batch_token_mean, token_mean
from ticgrpo_theory.exact.group_sums.lengths import exponential_sum
from ticgrpo_theory.exact.groups.outcomes import split
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.moments import one_response
from ticgrpo_theory.exact.moments.spread import Spread
from ticgrpo_theory.exact.obstacles import gate_ignores_sign
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.one_row.pool import Pool
from ticgrpo_theory.exact.updates.one_row.rows import Rows, lengths_of, rows_of
from ticgrpo_theory.exact.updates.one_row.token_statistics import OfTokens, knows_total, statistics_of
from ticgrpo_theory.exact.updates.two_rows.centred_pairs import pair_tables
from ticgrpo_theory.exact.updates.two_rows.pair_tables import Others, PairTables, together
from ticgrpo_theory.exact.updates.two_rows.row_moments import norm, of_types

FloatsO = Float64[np.ndarray, " O"]


def obstacle(update: CoupledUpdate, method: str) -> str:
    """Why the variance is no sum over pairs of rows by this method, or ''."""
    given = update.one.given
    if not isinstance(given, Estimator) or not isinstance(given.advantage, UpdateAdvantage):
        return "its advantages read no statistics of the update"
    if given.scale is token_mean:
        return "two rows with a token mean for each group have two normalisers"
    why = update.obstacle(method)
    if method == "dynamic_programming":
        why = why or next((w for p in update.row_problems if (w := one_response.pair_obstacle(p))), "")
    return why


@dataclass(frozen=True, eq=False)
class PairsOfRows:
    """E||g_hat||^2 of an update by one method."""

    update: CoupledUpdate
    method: str

    @cached_property
    def rows(self) -> list[Rows]:
        return rows_of(self.update)

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.update, self.rows)

    @cached_property
    def signs(self) -> int:
        """1 where the clip is the same for either sign of A, else 2."""
        given, problems = self.update.axes, self.update.row_problems
        return 1 if all(gate_ignores_sign(given.clip, p.mdp.graph) for p in problems) else 2

    @cached_property
    def tables(self) -> PairTables:
        return pair_tables(statistics_of(self.pool), together if self.signs == 1 else split)

    @property
    def by_tokens(self) -> bool:
        """Whether types are rewards with lengths."""
        return isinstance(self.tables.statistics, OfTokens)

    @cached_property
    def nodes(self) -> list[tuple[float, float]]:
        """(u, factor) with B^2 E[f / tokens^2] = sum factor E[f exp(-u tokens)]; (0, 1) without a mean."""
        if knows_total(self.tables.statistics) or self.update.axes.scale is not batch_token_mean:
            return [(0.0, 1.0)]
        positive, least, largest = lengths_of(self.rows)
        B = self.update.B
        u, weight = exponential_sum(positive + (B - 1) * least, B * largest)
        return [(float(at), float(w * at * B**2)) for at, w in zip(u, weight, strict=True)]

    @cached_property
    def types(self) -> list[np.ndarray]:
        """Type of every outcome of every prompt."""
        n = 1 if self.by_tokens else self.pool.lengths.value.size
        return [cell // n for cell in self.pool.cells]

    @property
    def types_held(self) -> int:
        """Types there are."""
        return self.pool.value.size * (self.pool.lengths.value.size if self.by_tokens else 1)

    def scale(self, q: int, u: float) -> FloatsO:
        """What multiplies a row of every outcome of prompt q at a node; 0 where it is not in the loss."""
        row, scale = self.rows[q], self.update.axes.scale
        counted = row.counted * (row.prob > 0)
        if scale is batch_token_mean:
            return counted * np.exp(-u * row.length)
        return counted * row.own_scale

    def moments(self, q: int, u: float) -> Float[Tensor, "K SV"]:
        """m_q(k) of every type, sign by sign."""
        problem, own = self.update.row_problems[q], self.scale(q, u)
        return of_types(problem, self.method, self.types[q], self.types_held, own, self.signs).flatten(0, 1)

    def second(self) -> float:
        """E||g_hat||^2. Raises NotAffordable."""
        update, total = self.update, 0.0
        self.tables.check(len(self.nodes))
        squares = [np.zeros((self.signs, row.prob.size)) for row in self.rows]
        for u, factor in self.nodes:
            others = self.tables.at(u)
            m = [self.moments(q, u) for q in range(len(self.rows))]
            for q, weight in enumerate(update.weights):
                one, same = self.tables.one_and_same(others, q)
                own = self.scale(q, u) if len(self.nodes) > 1 else self.scale(q, u) ** 2
                squares[q] += factor * one[:, self.types[q]] * own
                total += factor * float(weight) * (update.G - 1) / update.B * product(same, m[q], m[q])
            for q, other, weight, rest in self.pairs(others):
                apart = self.tables.apart(others, q, other, rest)
                total += factor * weight * product(apart, m[q], m[other])
        norms = [
            float(weight) * norm(update.row_problems[q], self.method, squares[q])
            for q, weight in enumerate(update.weights)
        ]
        return total + sum(norms) / update.B

    def pairs(self, others: Others) -> Iterator[tuple]:
        """(q, q', share of such pairs of groups among all P^2, rest of the update)."""
        P, weights = self.update.P, self.update.weights
        for q, other, rest in others.but_two():
            twice = 1.0 if q == other else 2.0
            share = 1 / P**2 if self.update.each else (1 - 1 / P) * float(weights[q] * weights[other])
            yield q, other, twice * share, rest


def product(
    table: Float64[np.ndarray, "s t K L"], first: Float[Tensor, "sK SV"], second: Float[Tensor, "tL SV"]
) -> float:
    """sum_(k, k') table[k, k'] <first[k], second[k']> over types with their signs."""
    S, T, K, L = table.shape
    flat = torch.from_numpy(np.ascontiguousarray(table.transpose(0, 2, 1, 3)).reshape(S * K, T * L))
    return float((flat * (first @ second.T)).sum())


def spread(update: CoupledUpdate, method: str) -> Spread:
    """Mean and variance. Raises NotAffordable where the sums over pairs are too large."""
    pairs = PairsOfRows(update, method)
    second = 0.0 if pairs.pool.value.size == 1 else pairs.second()
    mean = update.gradient(method)
    square = float(mean.square().sum())
    graphs = [problem.mdp.graph for problem in update.problems]
    n = max(operations(graph, update.one.theta, update.one.theta_old) for graph in graphs)
    return Spread(mean, second - square, UNIT * (n + update.B + len(pairs.nodes)) * (second + square), None)
