"""Token means over an update, or over its micro-batches: the other groups enter through their lengths alone.

With 1/x = sum_q weight_q exp(-u_q x) the tokens of independent groups become factors: at every node u

    E[A^s / tokens | v, l] = sum_q weight_q exp(-u_q l) E[A^s prod_(own group) exp(-u_q l_j) | v] R(u_q)

R the product over the other groups of E[exp(-u tokens)], each the mean over the prompts that it may have:
mixed per group, since the responses of a group share their prompt.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from scipy.special import gammaln

from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.scales import micro_batch_token_mean
from ticgrpo_theory.exact.group_sums.lengths import exponential_sum
from ticgrpo_theory.exact.updates.one_row.group_tables import Group
from ticgrpo_theory.exact.updates.one_row.rows import Rows, lengths_of
from ticgrpo_theory.exact.updates.update import Update

Factors = Float64[np.ndarray, " Q"]
Signed = tuple[Float64[np.ndarray, " O"], Float64[np.ndarray, " O"]]


def without_one(each: list[Factors]) -> list[Factors]:
    """For every factor the product of all others, without a division."""
    before, after = [np.ones_like(each[0])], [np.ones_like(each[0])]
    for factor in each[:-1]:
        before.append(before[-1] * factor)
    for factor in each[:0:-1]:
        after.append(after[-1] * factor)
    return [a * b for a, b in zip(before, after[::-1], strict=True)]


@dataclass(frozen=True, eq=False)
class TokenMeans:
    """A mean over the tokens of `share` rows, of an update or of one group."""

    update: Update
    rows: list[Rows]
    share: int

    @cached_property
    def nodes(self) -> tuple[Float64[np.ndarray, " Q"], Float64[np.ndarray, " Q"]]:
        """(u, weight)."""
        positive, least, largest = lengths_of(self.rows)
        # Where dropped groups do not count, the own group may be all there is.
        alone = self.update.drop == drop_equal("divide_by_kept")
        fewest = min(self.share, self.update.G) if alone else self.share
        return exponential_sum(positive + (fewest - 1) * least, self.share * largest)

    @cached_property
    def groups(self) -> list[Group]:
        """The groups of every prompt."""
        return [Group(row.outcomes(row.problem.axes.advantage), self.nodes[0]) for row in self.rows]

    @cached_property
    def tables(self) -> list[Float64[np.ndarray, "Q 2 m"]]:
        """E[A^s prod exp(-u l) | v] over the other members of a group of every prompt, at every node."""
        return [group.all_tilted() for group in self.groups]

    def given_one(self, q: int, tables: Float64[np.ndarray, "Q 2 m"], factor: Factors) -> Signed:
        """sum_q weight_q exp(-u_q l) tables factor, for every outcome of prompt q in the loss."""
        group, row = self.groups[q], self.rows[q]
        found = np.einsum("q,qsm,qn->smn", self.nodes[1] * factor, tables, group.decay, optimize=True)
        inside = (row.prob > 0) & row.counted
        plus, minus = found.reshape(2, -1)[:, group.case.cell] * inside
        return plus, minus

    def of_group(self, q: int) -> Factors:
        """E[exp(-u tokens)] of a group of prompt q that is in the update, however a filter fills it."""
        group, drop = self.groups[q], self.update.drop
        if drop is None or drop.mode == "divide_by_all":
            return group.Phi**self.update.G
        if drop.redraws:
            return group.mixed / group.chance_mixed if group.chance_mixed > 0 else np.zeros_like(group.Phi)
        return group.mixed + (1 - group.chance_mixed)

    def rest(self) -> list[Factors]:
        """R(u) for a row of every prompt: the other groups of the update."""
        each = [self.of_group(q) for q in range(len(self.rows))]
        if self.update.each:
            return without_one(each)
        weights = self.update.weights
        if self.update.drop == drop_equal("refill"):
            weights = weights * [group.chance_mixed for group in self.groups]
            weights = weights / weights.sum()
        return [np.tensordot(weights, np.stack(each), 1) ** (self.update.P - 1)] * len(self.rows)

    def over_update(self) -> list[Signed]:
        """B E[A^s / tokens of the update | outcome], of mixed groups where the others are dropped."""
        only_mixed = self.update.drop is not None
        return [
            self.given_one(q, group.all_tilted(only_mixed), self.update.B * rest)
            for q, (group, rest) in enumerate(zip(self.groups, self.rest(), strict=True))
        ]

    def over_group(self) -> list[Signed]:
        """G E[A^s / tokens of the group | outcome], of mixed groups where the others are dropped."""
        only_mixed, G = self.update.drop is not None, self.update.G
        return [
            self.given_one(q, group.all_tilted(only_mixed), np.full(len(self.nodes[0]), float(G)))
            for q, group in enumerate(self.groups)
        ]

    def over_micro_batches(self, scale: micro_batch_token_mean) -> list[Signed]:
        """B E[A^s / (M tokens of its micro-batch) | outcome], the mean over the places of a row."""
        found = []
        for q, group in enumerate(self.groups):
            factors = self.shuffled(scale, q) if scale.order == "shuffled" else self.placed(scale, q)
            parts = [self.given_one(q, group.some_tilted(k), factor) for k, factor in factors.items()]
            found.append((sum(plus for plus, _ in parts), sum(minus for _, minus in parts)))
        return found

    def placed(self, scale: micro_batch_token_mean, q: int) -> dict[int, Factors]:
        """k -> sum over the places of a row with k of its group in its micro-batch, times their share."""
        P, each = self.update.P, self.update.each
        inside = np.stack(scale.counts(P, self.update.G))
        # A mean over all B rows, of which those of one prompt are G where each is there once.
        weight, one = scale.rows / self.update.B * (P if each else 1), np.ones(len(self.nodes[0]))
        found: dict[int, Factors] = {}
        places: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        for p in [q] if each else range(P):
            for piece in np.flatnonzero(inside[p]):
                here = [(g, int(inside[g, piece])) for g in np.flatnonzero(inside[:, piece]) if g != p]
                # Groups whose prompts are drawn differ by the number of their rows only.
                others = sorted((int(g) if each else 0, count) for g, count in here)
                key = (int(inside[p, piece]), tuple(others))
                places[key] = places.get(key, 0) + key[0]
        for (own, others), count in places.items():
            factor = np.prod([one, *(self.of_some(g, rows) for g, rows in others)], axis=0)
            found[own - 1] = found.get(own - 1, 0.0 * one) + weight * count * factor
        return found

    def of_some(self, g: int, count: int) -> Factors:
        """E[exp(-u tokens of `count` of its rows)] of another group, number g of the update."""
        if self.update.each:
            return self.groups[g].Phi ** count
        return np.tensordot(self.update.weights, np.stack([group.Phi**count for group in self.groups]), 1)

    def shuffled(self, scale: micro_batch_token_mean, q: int) -> dict[int, Factors]:
        """k -> factor, where rows - 1 others are drawn from B - 1 without replacement, k of the own group."""
        B, G, rows = self.update.B, self.update.G, scale.rows
        share = (rows - 1) / (B - 1) if B > 1 else 0.0
        others = self.drawn_others(q, rows, share)
        # P(binomial = rows - 1): what makes the draws of `drawn_others` those without replacement.
        norm = binomial(B - 1, rows - 1, share)
        return {
            k: rows * binomial(G - 1, k, share) * others[rows - 1 - k] / norm
            for k in range(min(G - 1, rows - 1) + 1)
            if rows - 1 - k < len(others)
        }

    def drawn_others(self, q: int, rows: int, share: float) -> Float64[np.ndarray, "K Q"]:
        """[j]: E[exp(-u tokens); j rows] of the other groups, each row in it with probability `share`."""
        G, Q = self.update.G, len(self.nodes[0])
        each = []
        for group in self.groups:
            powers = np.stack([binomial(G, j, share) * group.Phi**j for j in range(min(G, rows - 1) + 1)])
            each.append(powers)
        if self.update.each:
            factors = [powers for n, powers in enumerate(each) if n != q]
        else:
            factors = [np.tensordot(self.update.weights, np.stack(each), 1)] * (self.update.P - 1)
        found = np.ones((1, Q))
        for factor in factors:
            longer = np.zeros((min(len(found) + len(factor) - 1, rows), Q))
            for j, row in enumerate(factor):
                kept = min(len(found), len(longer) - j)
                if kept > 0:
                    longer[j : j + kept] += row * found[:kept]
            found = longer
        return found


def binomial(n: int, k: int, p: float) -> float:
    """P(k successes of n)."""
    if p in (0.0, 1.0):
        return float(k == n * p)
    log = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + k * np.log(p) + (n - k) * np.log1p(-p)
    return float(np.exp(log))
