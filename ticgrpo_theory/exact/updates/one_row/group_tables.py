"""Expectations of A over the rest of a group whose other members are tilted by their lengths, all or some.

At a node u of 1/x = sum_q weight_q exp(-u_q x) a row of l tokens counts exp(-u l) in a mean over tokens. With
p_v phi_v(u) = E[exp(-u l); reward v] and Phi = sum_v p_v phi_v,

    E[A^s prod_(others in the same mean) exp(-u l) | v]      = Phi^(G-1) E_u[A^s | v]   where all are in it
    the same where k of the G - 1 others are in it           by the sums of k tilted and G-1-k plain rewards
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from torch import from_numpy

from ticgrpo_theory.estimators.advantage import reads_differences, reads_group
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.exact.groups.choose import MAX_VALUES, MAX_WORK, over_rewards
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.groups.outcomes import Outcomes, alone, split
from ticgrpo_theory.exact.updates.one_row import integer_sums
from ticgrpo_theory.exact.updates.one_row.mixed_groups import mixed, mixed_with

STEP_COST = 2.0
"""Nanoseconds for one term of a convolution."""

Tables = Float64[np.ndarray, "Q 2 m"]


@dataclass(frozen=True, eq=False)
class Group:
    """The groups of one prompt, at nodes u."""

    case: Outcomes
    u: Float64[np.ndarray, " Q"]

    @cached_property
    def decay(self) -> Float64[np.ndarray, "Q n"]:
        """exp(-u l) of every length."""
        return np.exp(-np.outer(self.u, self.case.lengths.value))

    @cached_property
    def joint(self) -> Float64[np.ndarray, "m n"]:
        """Probability of every (reward value, length)."""
        m, n = self.case.rewards.value.size, self.case.lengths.value.size
        table = np.bincount(self.case.cell, weights=self.case.prob, minlength=m * n).reshape(m, n)
        return table / table.sum()

    @cached_property
    def tilted(self) -> Float64[np.ndarray, "Q m"]:
        """p_v phi_v(u)."""
        return self.decay @ self.joint.T

    @cached_property
    def Phi(self) -> Float64[np.ndarray, " Q"]:
        """E[exp(-u l)] of a row."""
        return self.tilted.sum(axis=1)

    @property
    def mixed(self) -> Float64[np.ndarray, " Q"]:
        """E[exp(-u tokens); unequal rewards] of a group."""
        return mixed(self.tilted, self.case.G)

    @property
    def chance_mixed(self) -> float:
        """P(unequal rewards) of a group."""
        return float(mixed(self.case.rewards.prob[None], self.case.G)[0])

    def all_tilted(self, only_mixed: bool = False) -> Tables:
        """E[A^s prod exp(-u l) | v] with all others in the mean; of mixed groups alone, if so."""
        G = self.case.G
        if not reads_group(self.case.advantage):
            own = split(alone(self.case.advantage, self.case.rewards.value))[None]
            others = mixed_with(self.tilted, G)[:, None] if only_mixed else self.Phi[:, None, None] ** (G - 1)
            return own * others
        # Groups of equal rewards have A = 0: leaving them out leaves the expectation as it is.
        found = over_rewards(self.case, len(self.u)).given_one(self.tilted / self.Phi[:, None])
        return found * self.Phi[:, None, None] ** (G - 1)

    def some_tilted(self, k: int) -> Tables:
        """E[A^s prod exp(-u l) | v] with k others in the mean, and G - 1 - k outside."""
        G, case = self.case.G, self.case
        if k == G - 1:
            return self.all_tilted()
        if not reads_group(case.advantage):
            return split(alone(case.advantage, case.rewards.value))[None] * self.Phi[:, None, None] ** k
        if k == 0:
            return np.repeat(over_rewards(case, 1).given_one(case.rewards.prob[None]), len(self.u), axis=0)
        dense = np.zeros((len(self.u), self.grid.shape_size))
        plain = self.plain[G - 1 - k]
        dense[:, plain.index] = plain.prob
        for _ in range(k):
            dense = self.one_more(dense)
        index = np.flatnonzero(dense.any(axis=0))
        return np.einsum("smn,qn->qsm", self.values(index), dense[:, index], optimize=True)

    def one_more(self, dense: Float64[np.ndarray, "Q N"]) -> Float64[np.ndarray, "Q N"]:
        """The sums with one tilted row more, at every node."""
        found = np.zeros_like(dense)
        for v, offset in enumerate(self.grid.offsets.tolist()):
            found[:, offset:] += self.tilted[:, v, None] * dense[:, : dense.shape[1] - offset]
        return found

    @cached_property
    def sums(self) -> integer_sums.Sums:
        """Sums of the rewards of a group, counted from the least one."""
        value = self.case.rewards.value - self.case.rewards.value[0]
        found = integer_sums.sums_of(value, self.case.G)
        assert found is not None
        return found

    @cached_property
    def grid(self) -> integer_sums.Grid:
        """Raises NotAffordable where there are too many sums."""
        grid = integer_sums.Grid(self.sums.points, self.case.G)
        work = STEP_COST * grid.size * len(self.sums.points) * self.case.G**2 * len(self.u)
        if work > MAX_WORK or grid.size * len(self.u) > MAX_VALUES:
            raise NotAffordable(
                f"groups of {self.case.G:,} with {self.sums.value.size} reward values, some of whose "
                f"responses share a micro-batch, take about {work / 1e9:,.0f} s, more than MAX_WORK = "
                f"{MAX_WORK / 1e9:.0f} s: lower G or the number of reward values"
            )
        return grid

    @cached_property
    def plain(self) -> list[integer_sums.Spread]:
        """The sums of 0, 1, ..., G - 1 rows that are not tilted."""
        one, found = (
            integer_sums.spread_of(self.grid.offsets, self.case.rewards.prob),
            [integer_sums.NOTHING],
        )
        for _ in range(self.case.G - 1):
            found.append(integer_sums.plus(found[-1], one))
        return found

    def values(self, index: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, "2 m N"]:
        """A+ and A- of a row of every value whose group has these sums besides."""
        advantage, values = self.case.advantage, self.case.rewards.value
        assert isinstance(advantage, Advantage)
        origin = values[0] if reads_differences(advantage) else 0.0
        found = np.empty((2, values.size, index.size))
        for v, value in enumerate(values):
            states = self.grid.states(index) + self.sums.points[v]
            mean, variance = self.sums.moments(states, self.case.G)
            own = np.full_like(mean, value - origin)
            at = (from_numpy(own), from_numpy(mean + values[0] - origin), from_numpy(variance))
            found[:, v] = split(advantage.of_moments(*at, self.case.G).numpy())
        return found
