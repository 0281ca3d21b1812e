"""Expectations over a group whose scale reads the lengths of all its responses, as token means do.

Where scale = kappa / total length it becomes a sum of exponentials of the total (group_sums/lengths.py). At
every node of that sum the expectation is one over rewards alone, under tilted probabilities: with
Phi(u) = E[exp(-u length)],

    E[A_1^s / total | v, l] = sum_q weight_q exp(-u_q l) Phi(u_q)^(G-1) E_q[A_1^s | v]
    E[A_1^s A_2^r / total^2 | v, l, v', l']
                            = sum_q weight_q u_q exp(-u_q (l + l')) Phi(u_q)^(G-2) E_q[A_1^s A_2^r | v, v']

Any other scale that reads the total is summed over count vectors of (reward, length) pairs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from ticgrpo_theory.estimators.advantage import reads_group
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.scales import token_mean
from ticgrpo_theory.exact.group_sums.lengths import exponential_sum
from ticgrpo_theory.exact.groups.choose import Contribution, choose, over_rewards
from ticgrpo_theory.exact.groups.in_update import InUpdate
from ticgrpo_theory.exact.groups.outcomes import Outcomes, alone, split


def given_one(case: Outcomes) -> Float64[np.ndarray, "2 m n"]:
    """G E[A_1^s scale_1 | reward value, length]."""
    if not reads_group(case.advantage):
        scale = strategy(without_rewards(case)).given_one()[0]
        return split(alone(case.advantage, case.rewards.value))[:, :, None] * scale
    return strategy(case).given_one()


def given_two(case: Outcomes) -> tuple[Float64[np.ndarray, "2 m n"], Float64[np.ndarray, "2 2 m n m n"]]:
    """G^2 E[(A_1^s scale_1)^2 | v, l] and G^2 E[A_1^s A_2^s' scale_1 scale_2 | v, l, v', l']."""
    if not reads_group(case.advantage):
        square, cross = strategy(without_rewards(case)).given_two()
        A = split(alone(case.advantage, case.rewards.value))
        both = np.einsum("si,rj,ab->sriajb", A, A, cross[0, 0, 0, :, 0])
        return A[:, :, None] ** 2 * square[0], both
    return strategy(case).given_two()


def without_rewards(case: Outcomes) -> Outcomes:
    """The same lengths with A = 1: the expectation of the scale alone."""
    ones = np.ones_like(case.lengths.value)
    return Outcomes(
        raw(), case.scale, ones, case.lengths.value, case.lengths.prob, case.group_size, case.horizon
    )


def strategy(case: Outcomes) -> "Tilted | Listed":
    return Tilted(case) if case.scale is token_mean or isinstance(case.scale, InUpdate) else Listed(case)


def joint_distribution(case: Outcomes) -> Float64[np.ndarray, "m n"]:
    """Probability of every (reward value, length)."""
    m, n = case.rewards.value.size, case.lengths.value.size
    table = np.bincount(case.cell, weights=case.prob, minlength=m * n).reshape(m, n)
    return table / table.sum()


@dataclass(frozen=True, eq=False)
class Tilted:
    """scale = 1 / total length, of the group or, in an update, of all groups."""

    case: Outcomes

    @cached_property
    def nodes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lengths, scale = self.case.lengths.value, self.case.scale
        if isinstance(scale, InUpdate):
            return scale.u, scale.weight
        # A row without a token in the loss is in no mean that matters: the own one has some.
        least = lengths[lengths > 0].min(initial=max(lengths[-1], 1.0)) + (self.case.G - 1) * lengths[0]
        return exponential_sum(least, max(self.case.G * lengths[-1], least))

    @property
    def rest(self) -> tuple[float, Float64[np.ndarray, " Q"]]:
        """(P, R): the number of groups that share the total, and E[exp(-u tokens)] of the others."""
        scale = self.case.scale
        if isinstance(scale, InUpdate):
            return float(scale.P), scale.rest
        return 1.0, np.ones_like(self.nodes[0])

    @cached_property
    def decay(self) -> Float64[np.ndarray, "Q n"]:
        return np.exp(-np.outer(self.nodes[0], self.case.lengths.value))

    @property
    def own(self) -> Float64[np.ndarray, "Q n"]:
        """The same of a row that is weighed: 0 of one without a token in the loss."""
        return self.decay * (self.case.lengths.value > 0)

    @cached_property
    def tilted(self) -> tuple[Float64[np.ndarray, "Q m"], Float64[np.ndarray, " Q"]]:
        """Tilted distribution of the reward values and Phi at every node."""
        weights = self.decay @ joint_distribution(self.case).T
        Phi = weights.sum(axis=1)
        return weights / Phi[:, None], Phi

    def given_one(self) -> Float64[np.ndarray, "2 m n"]:
        prob, Phi = self.tilted
        method = over_rewards(self.case, len(prob))
        P, R = self.rest
        weight = self.case.G * P * R * self.nodes[1] * Phi ** (self.case.G - 1)
        return np.einsum("q,qsm,qn->smn", weight, method.given_one(prob), self.own, optimize=True)

    def given_two(self) -> tuple[Float64[np.ndarray, "2 m n"], Float64[np.ndarray, "2 2 m n m n"]]:
        prob, Phi = self.tilted
        square, cross = over_rewards(self.case, len(prob)).given_two(prob)
        P, R = self.rest
        weight = (self.case.G * P) ** 2 * R * self.nodes[0] * self.nodes[1]
        own = np.einsum("q,qsm,qn->smn", weight * Phi ** (self.case.G - 1), square, self.own, optimize=True)
        weight = weight * Phi ** (self.case.G - 2.0)
        cross = weight[:, None, None, None, None] * cross
        both = np.einsum("qsrmk,qn,ql->srmnkl", cross, self.own, self.own, optimize=True)
        return own, both


@dataclass(frozen=True, eq=False)
class Listed:
    """Any scale: types are the (reward, length) pairs that occur."""

    case: Outcomes

    @cached_property
    def cells(self):
        """(reward value index, length index) of every pair that occurs, and its probability [1, pairs]."""
        table = joint_distribution(self.case)
        where = np.nonzero(table)
        return where, table[where][None]

    def given_one(self) -> Float64[np.ndarray, "2 m n"]:
        where, prob = self.cells
        table = np.zeros((2, self.case.rewards.value.size, self.case.lengths.value.size))
        table[:, *where] = self._method().given_one(prob)[0]
        return table

    def given_two(self) -> tuple[Float64[np.ndarray, "2 m n"], Float64[np.ndarray, "2 2 m n m n"]]:
        (v, n), prob = self.cells
        m, N = self.case.rewards.value.size, self.case.lengths.value.size
        square, cross = self._method().given_two(prob)
        own, both = np.zeros((2, m, N)), np.zeros((2, 2, m, N, m, N))
        own[:, v, n] = square[0]
        both[:, :, v[:, None], n[:, None], v[None], n[None]] = cross[0]
        return own, both

    def _method(self):
        (v, n), _ = self.cells
        contribution = Contribution(self.case.advantage, self.case.G, self.case.scale, self.case.horizon)
        return choose(contribution, self.case.rewards.value[v], self.case.lengths.value[n], 1)
