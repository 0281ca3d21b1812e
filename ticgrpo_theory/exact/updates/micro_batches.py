"""The variance of an update that is cut into micro-batches, each with a token mean of its own.

With h_m = (1/L_m) sum_(b in m) A_b x_b, x_b the weighed score of a row and L_m the tokens of micro-batch m,

    g_hat = (1/M) sum_m h_m,    V = (1/M^2) sum_(m, m') (E<h_m, h_m'> - <E h_m, E h_m'>)
    1/(L_m L_m') = sum_(a, c) weight_a weight_c exp(-u_a L_m - u_c L_m')

over micro-batches that share a group, since others are independent. A group with k rows in m and k' in m'
enters by what two_tilts.py has of it: no, one or two of its rows are named. A shuffled update is cut in an
order that is drawn with it: the variance has the noise of that order too.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import micro_batch_token_mean, shuffles
from ticgrpo_theory.exact.groups.choose import MAX_WORK
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.moments import one_response
from ticgrpo_theory.exact.moments.spread import Spread
from ticgrpo_theory.exact.obstacles import gate_ignores_sign
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.one_row.rows import rows_of
from ticgrpo_theory.exact.updates.one_row.token_means import TokenMeans
from ticgrpo_theory.exact.updates.placements import Placed, Rows, alone, fixed_pairs, random_placements
from ticgrpo_theory.exact.updates.two_rows.row_moments import norm, of_types
from ticgrpo_theory.exact.updates.two_rows.two_tilts import TwoTilts

Kind = tuple[int, Rows]
"""A group by its prompt, or 0 where it is drawn, and its rows in two micro-batches."""

Kinds = Counter[Kind]

Nodes = Float64[np.ndarray, "a c"]


def obstacle(update: CoupledUpdate, method: str) -> str:
    """Why the variance is no sum over pairs of micro-batches, or ''."""
    given = update.one.given
    if not isinstance(given, Estimator) or not isinstance(given.scale, micro_batch_token_mean):
        return "its scale cuts no micro-batches"
    if update.drop is not None:
        return "its filter drops groups whose rows share micro-batches with others"
    why = update.obstacle(method)
    if not why and method == "dynamic_programming":
        why = next((w for p in update.row_problems if (w := one_response.pair_obstacle(p))), "")
    return why


@dataclass(frozen=True, eq=False)
class MicroBatches:
    """Mean and second moments of micro-batches by one method."""

    update: CoupledUpdate
    method: str

    @cached_property
    def scale(self) -> micro_batch_token_mean:
        found = self.update.axes.scale
        assert isinstance(found, micro_batch_token_mean)
        return found

    @cached_property
    def means(self) -> TokenMeans:
        return TokenMeans(self.update, rows_of(self.update), self.scale.rows)

    @cached_property
    def groups(self) -> list[TwoTilts]:
        """The groups of every prompt."""
        problems = self.update.row_problems
        merged = all(gate_ignores_sign(self.update.axes.clip, p.mdp.graph) for p in problems)
        return [TwoTilts(group, merged) for group in self.means.groups]

    def choices(self, prompt: int) -> list[tuple[float, int]]:
        """(probability, number) of the prompts that a group can have."""
        if self.update.each:
            return [(1.0, prompt)]
        return [(float(weight), q) for q, weight in enumerate(self.update.weights)]

    @cached_property
    def moments(self) -> list[Float[Tensor, "K SV"]]:
        """E[x exp(-u l); sign, reward] for every prompt, sign, reward value and node, in this order."""
        u, found = self.means.nodes[0], []
        for q, problem in enumerate(self.update.row_problems):
            row, rewards = self.means.rows[q], self.means.groups[q].case.rewards
            by_node = [
                of_types(problem, self.method, rewards.index, rewards.value.size, own, self.groups[q].signs)
                for own in row.counted * (row.prob > 0) * np.exp(-np.outer(u, row.length))
            ]
            found.append(torch.stack(by_node, dim=2).flatten(0, 2))
        return found

    @cached_property
    def known(self) -> dict[tuple, np.ndarray]:
        """What has been computed."""
        return {}

    def once(self, key: tuple, make: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def inner(self, q: int, other: int) -> Float64[np.ndarray, "K a L c"]:
        """<m_q(k, u_a), m_q'(k', u_c)>."""

        def make() -> np.ndarray:
            Q, flat = len(self.means.nodes[0]), (self.moments[q] @ self.moments[other].T).numpy()
            return flat.reshape(flat.shape[0] // Q, Q, flat.shape[1] // Q, Q)

        return self.once(("inner", q, other), make)

    def none(self, p: int, rows: Rows) -> Nodes:
        """E[exp(-u_a tokens in m - u_c tokens in m')] of a group of which no row is named."""

        def make() -> Nodes:
            return sum((w * self.groups[q].none(*rows) for w, q in self.choices(p)), np.zeros((1, 1)))

        return self.once(("none", p, rows), make)

    def rest(self, kinds: Kinds, *named: Kind) -> Nodes:
        """The product of `none` over the other groups."""
        found = np.ones((1, 1))
        for kind, count in kinds.items():
            found = found * self.none(*kind) ** (count - named.count(kind))
        return found

    def of_one_group(self, p: int, rows: Rows) -> Nodes:
        """sum E<A_b x_b, A_b' x_b'>, b in m and b' in m' of one group, at every two nodes."""

        def make() -> Nodes:
            found = np.zeros((1, 1))
            for w, q in self.choices(p):
                two, inner = self.groups[q].two(*rows), self.inner(q, q)
                found = found + w * np.einsum("klac,kalc->ac", two, inner, optimize=True)
            return rows[0] * rows[1] * found

        return self.once(("one", p, rows), make)

    def of_two_groups(self, p: int, rows: Rows, g: int, others: Rows) -> Nodes:
        """The same for b of one group and b' of another one."""

        def make() -> Nodes:
            found = np.zeros((1, 1))
            for (w, q), (v, other) in product(self.choices(p), self.choices(g)):
                one = self.groups[q].one(*rows)
                two = self.groups[other].one(*others[::-1]).swapaxes(-1, -2)
                inner = self.inner(q, other)
                found = found + w * v * np.einsum("kac,lac,kalc->ac", one, two, inner, optimize=True)
            return rows[0] * others[1] * found

        return self.once(("two", p, rows, g, others), make)

    def between(self, placed: Placed) -> float:
        """E<h_m, h_m'> of two micro-batches."""
        kinds, weight = Counter(placed), self.means.nodes[1]
        total = np.zeros((weight.size, weight.size))
        for first, count in kinds.items():
            if min(first[1]) > 0:
                total += count * self.of_one_group(*first) * self.rest(kinds, first)
            for second, number in kinds.items():
                pairs = count * (number - (first == second))
                if pairs and first[1][0] and second[1][1]:
                    total += pairs * self.of_two_groups(*first, *second) * self.rest(kinds, first, second)
        return float(weight @ total @ weight)

    def here(self, kinds: Kinds, *named: Kind) -> Float64[np.ndarray, " a"]:
        """`rest` where there is no second micro-batch."""
        found = np.ones(len(self.means.nodes[0]))
        for kind, count in kinds.items():
            (p, (k, _)), others = kind, count - named.count(kind)
            found = found * sum(w * self.means.groups[q].Phi ** k for w, q in self.choices(p)) ** others
        return found

    def within(self, placed: Placed) -> float:
        """E||h_m||^2 of a micro-batch; the second number of rows of every group is 0."""
        kinds, (u, weight), total = Counter(placed), self.means.nodes, 0.0
        for first, count in kinds.items():
            (p, (k, _)), factor = first, count * weight * u * self.here(kinds, first)
            for w, q in self.choices(p):
                total += w * k * self.square(q, k, factor)
                if k > 1:
                    same = np.einsum("kla,kala->a", self.groups[q].same(k), self.inner(q, q), optimize=True)
                    total += w * k * (k - 1) * float(factor @ same)
            for second, number in kinds.items():
                g, (others, _) = second
                pairs = count * (number - (first == second)) * k * others
                factor = weight * u * self.here(kinds, first, second)
                total += pairs * float(factor @ self.two_here(p, k, g, others)) if pairs else 0.0
        return total

    def two_here(self, p: int, k: int, g: int, others: int) -> Float64[np.ndarray, " a"]:
        """E<A_b x_b, A_b' x_b'> of rows of two groups in one micro-batch, at every node."""

        def make() -> np.ndarray:
            found = np.zeros(len(self.means.nodes[0]))
            for (w, q), (v, other) in product(self.choices(p), self.choices(g)):
                one, two = self.groups[q].one(k, 0)[..., 0], self.groups[other].one(others, 0)[..., 0]
                found += w * v * np.einsum("ka,la,kala->a", one, two, self.inner(q, other), optimize=True)
            return found

        return self.once(("here", p, k, g, others), make)

    def square(self, q: int, k: int, factor: Float64[np.ndarray, " a"]) -> float:
        """E[A^2 ||x||^2 exp(-u L)] of a row of prompt q, k of whose group are in its micro-batch."""
        row, types = self.means.rows[q], np.maximum(self.means.groups[q].case.rewards.index, 0)
        own = np.exp(-np.outer(self.means.nodes[0], row.length)) * (row.counted & (row.prob > 0))
        table = self.groups[q].square(k) * factor
        F = np.einsum("soa,ao->so", table[:, types], own, optimize=True)
        return norm(self.update.row_problems[q], self.method, F)

    def mean(self, placed: Placed) -> Float[Tensor, " SV"]:
        """E[h_m] of a micro-batch."""
        kinds, found = Counter(placed), torch.zeros(self.moments[0].shape[1], dtype=torch.float64)
        for kind, count in kinds.items():
            p, (k, _) = kind
            factor = count * k * self.means.nodes[1] * self.here(kinds, kind)
            for w, q in self.choices(p):
                table = w * factor * self.groups[q].one(k, 0)[..., 0]
                found += torch.from_numpy(table.reshape(-1)) @ self.moments[q]
        return found

    def check(self) -> None:
        """Raise NotAffordable for sums over two nodes that take too long."""
        Q = len(self.means.nodes[0])
        for group in self.means.groups:
            rows = 2 * group.case.rewards.value.size
            work = Q * rows**2 * group.grid.size**2 + Q**2 * rows**2 * self.scale.rows**2
            if work > MAX_WORK:
                raise NotAffordable(
                    f"sums over pairs of rows of groups of {group.case.G:,} with {rows // 2} reward values, "
                    f"some of which share a micro-batch, take about {work / 1e9:,.0f} s, more than "
                    f"MAX_WORK = {MAX_WORK / 1e9:.0f} s: lower G or the number of reward values"
                )

    def fixed(self) -> float:
        """V of g_hat, cut in an order that is fixed."""
        inside, each = np.stack(self.scale.counts(self.update.P, self.update.G)), self.update.each
        pairs = fixed_pairs(inside, each)
        pieces = Counter(alone(piece, each) for piece in inside.T)
        mean = {piece: self.mean(piece) for piece in pieces}
        total = sum(n * (self.within(one) - float(mean[one] @ mean[one])) for one, n in pieces.items())
        for (both, first, second), count in pairs.items():
            total += count * (self.between(both) - float(mean[first] @ mean[second]))
        return total / inside.shape[1] ** 2

    def shuffled(self) -> float:
        """E||g_hat||^2 of g_hat, cut in a random order."""
        P, G, each, rows = self.update.P, self.update.G, self.update.each, self.scale.rows
        M = self.update.B // rows
        two = random_placements((rows, rows), P, G, each) if M > 1 else []
        one = random_placements((rows, 0), P, G, each)
        within, between = sum(p * self.within(x) for p, x in one), sum(p * self.between(x) for p, x in two)
        return within / M + (1 - 1 / M) * between


def spread(update: CoupledUpdate, method: str) -> Spread:
    """Mean and variance. Raises NotAffordable where there are too many sums or placements."""
    found = MicroBatches(update, method)
    found.check()
    random = shuffles(update.one.given)
    moved = found.shuffled() if random else found.fixed()
    mean = update.gradient(method)
    square = float(mean.square().sum())
    variance = moved - square if random else moved
    graphs = [problem.mdp.graph for problem in update.problems]
    n = max(operations(graph, update.one.theta, update.one.theta_old) for graph in graphs)
    lost = UNIT * (n + update.B + 2 * len(found.means.nodes[0])) * (abs(variance) + square)
    return Spread(mean, variance, lost, None)
