"""What the bounds read off the graph of a world: rewards, lengths and visits that its responses can have.

    rho   = max over prompts of (max r - min r) / 2
    nu    = most visits of one row of logits by one response
    d_max >= sup_theta max_s E_theta[visits of row s]
    B     = sqrt(2 max over responses of sum_s n_s^2) >= ||sum_t grad log pi(a_t | s_{t-1})||,

n_s the visits of row s by the response. Every number is exact or an upper bound, and says which.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.worlds.graph import Graph, Tree
from ticgrpo_theory.worlds.mdp import TokenMDP, check_mdp

MAX_LISTED = 2**14
"""Most responses that are listed to find the largest sum of squared visits, or the best consistent one."""


@dataclass(frozen=True, eq=False)
class PromptGeometry:
    """Responses of one prompt that a policy without masked tokens can give."""

    graph: Graph
    weight: float
    num_rows: int

    @cached_property
    def reachable(self) -> NDArray[np.bool_]:
        """Which outcomes some response has; automata store outcomes that none has."""
        graph = self.graph
        if isinstance(graph, Tree):
            return np.ones(graph.reward.size, dtype=np.bool_)
        found, alive = np.zeros(graph.reward.size, dtype=np.bool_), np.array([graph.start])
        for t in range(graph.horizon):
            _, successor = graph.table(t)
            onto = np.unique(successor[alive].astype(np.int64))
            found[graph.ended_start[t] - 1 - onto[onto < 0]] = True
            alive = onto[onto >= 0]
        found[graph.final_start + alive] = True
        return found

    @cached_property
    def rewards(self) -> NDArray[np.float64]:
        """Distinct rewards in increasing order."""
        return np.unique(self.graph.reward[self.reachable])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Distinct lengths in increasing order."""
        return np.unique(self.graph.length[self.reachable])

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of logits that the prompt reads, or may read."""
        return np.unique(self.graph.row)

    @cached_property
    def nu(self) -> int:
        """Most visits of one row by one response."""
        return self.graph.max_visits(self.num_rows)

    @cached_property
    def squared_visits(self) -> tuple[dict[int, float], bool]:
        """Largest sum_s n_s^2 of a response of each length; whether exact, not nu times the length."""
        lengths = self.lengths.tolist()
        if self.nu == 1:
            return {n: float(n) for n in lengths}, True
        if self.rows.size == 1:
            return {n: float(n * n) for n in lengths}, True
        if self.graph.num_paths * self.num_rows > MAX_LISTED * 64:
            return {n: float(self.nu * n) for n in lengths}, False
        paths = self.graph.paths
        visits = np.zeros((len(paths.mask), self.num_rows))
        np.add.at(visits, (np.nonzero(paths.mask)[0], paths.rows[paths.mask]), 1.0)
        squares, length = (visits**2).sum(axis=1), paths.mask.sum(axis=1)
        return {n: float(squares[length == n].max()) for n in lengths}, True


@dataclass(frozen=True, eq=False)
class Geometry:
    """A world, prompt by prompt."""

    mdp: TokenMDP
    prompts: Sequence[PromptGeometry]

    @cached_property
    def rho(self) -> float:
        """max over prompts of (max r - min r) / 2: the baseline of each prompt may be its own."""
        return max(float(p.rewards[-1] - p.rewards[0]) / 2 for p in self.prompts)

    @cached_property
    def lengths(self) -> list[int]:
        return sorted({int(n) for p in self.prompts for n in p.lengths})

    @cached_property
    def nu(self) -> int:
        return max(p.nu for p in self.prompts)

    @cached_property
    def d_max(self) -> tuple[float, str]:
        """Largest expected visits of a row, and how that is known."""
        if len(self.prompts) == 1:
            (prompt,) = self.prompts
            if prompt.nu == 1:
                return 1.0, "exact: no response visits a row twice, and every one visits the first"
            if prompt.rows.size == 1:
                return float(prompt.nu), "exact: one row, visited once for each token of the longest response"
            return float(prompt.nu), "upper bound: the most visits of one row by one response"
        visits = np.zeros(self.mdp.num_rows)
        for p in self.prompts:
            visits[p.rows] += p.weight * p.nu
        return float(visits.max()), "upper bound: the most visits by one response, averaged over prompts"

    @cached_property
    def squared_visits(self) -> tuple[dict[int, float], bool]:
        """Largest sum_s n_s^2 of each length over all prompts, and whether that is exact."""
        found: dict[int, float] = {}
        for p in self.prompts:
            for n, square in p.squared_visits[0].items():
                found[n] = max(found.get(n, 0.0), square)
        return found, all(p.squared_visits[1] for p in self.prompts)

    @property
    def B(self) -> float:
        return math.sqrt(2 * max(self.squared_visits[0].values()))


def geometry(mdp: TokenMDP) -> Geometry:
    """The geometry of every prompt. Raises ValueError for what is no TokenMDP."""
    check_mdp("mdp", mdp)
    return Geometry(
        mdp, [PromptGeometry(prompt.graph, weight, mdp.num_rows) for weight, prompt in mdp.prompts]
    )
