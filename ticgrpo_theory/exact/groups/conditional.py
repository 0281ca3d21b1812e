"""Expectations over the other members of a group: how they act on one response, or on two.

For a group of G i.i.d. responses with outcomes o (reward and length) of probability `prob`,

    f+(o) = G E[max(A_1, 0) scale_1 | outcome of response 1 = o],   f-(o) = G E[min(A_1, 0) scale_1 | ...]

The others act through their rewards (and lengths, where the scale reads them), so outcomes are reduced to
reward values and the sum runs over the statistics of the group (choose.py). Advantages and scales are those
that training uses, evaluated on the group's mean and variance or on vectors of rewards: there is no second
formula.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from torch import from_numpy

from ticgrpo_theory.estimators.advantage import has_known_moments, is_linear, reads_group
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.groups import token_means
from ticgrpo_theory.exact.groups.choose import over_rewards
from ticgrpo_theory.exact.groups.outcomes import AnyAdvantage, Outcomes, alone, outcomes, split

FloatsO = Float64[np.ndarray, " O"]

MAX_CROSS = 2**11
"""Largest number of types for which expectations over pairs are tabulated: four tables of types x types."""


def conditional_advantages(case: Outcomes) -> tuple[FloatsO, FloatsO]:
    """(f+, f-): G E[max(A_1, 0) scale_1 | outcome o] and G E[min(A_1, 0) scale_1 | outcome o].

    Both are 0 where prob is 0. Raises ValueError for a sum beyond MAX_WORK.
    """
    if case.pools:
        plus, minus = token_means.given_one(case).reshape(2, -1)
        return plus[case.cell] * (case.prob > 0), minus[case.cell] * (case.prob > 0)
    if case.infinite or not reads_group(case.advantage):
        plus, minus = split(
            alone(case.limit if case.infinite else case.advantage, case.above) * case.own_scale
        )
        return plus, minus
    plus, minus = over_rewards(case, 1).given_one(case.rewards.prob[None])[0]
    return plus[case.rewards.index] * case.own_scale, minus[case.rewards.index] * case.own_scale


def conditional_advantage_sum(case: Outcomes) -> FloatsO:
    """f = f+ + f- = G E[A_1 scale_1 | outcome o].

    An advantage linear in the rewards takes its expectation in a group (r, mu, ..., mu): any number of reward
    values will do, unless the scale reads the lengths of the others.
    """
    advantage = case.advantage
    if case.infinite or case.pools or not has_known_moments(advantage) or not is_linear(advantage):
        plus, minus = conditional_advantages(case)
        return plus + minus
    G, r, mu = case.G, case.above, case.mean
    # Not (r + (G - 1) mu) / G: where all rewards are equal their mean is that reward, unrounded.
    mean = r + (mu - r) * ((G - 1) / G)
    # An advantage linear in the rewards reads no more of the variance than that it is positive.
    varies = from_numpy(((r != mean) | (mu != mean)).astype(np.float64))
    return advantage.of_moments(from_numpy(r), from_numpy(mean), varies, G).numpy() * case.own_scale


def scale_of_group_normalisation(
    advantage: AnyAdvantage,
    reward: Shaped[np.ndarray, " O"],
    prob: Shaped[np.ndarray, " O"],
    group_size: int | float,
) -> float:
    """c_G = Cov(f, r) / Var(r), f(r) = E[A_1 | r_1 = r]: the multiple of the gradient that A estimates.

    With A = (r - mean_G) / (std_G + delta) it is E[std_G^2 / (std_G + delta)] / Var(r): the A of a group add
    to 0, so that Cov(f, r) = E[A_1 (r_1 - mu)] = E[sum_i A_i (r_i - mean_G) / G].
    Raises ValueError where all rewards are equal.
    """
    length = np.ones(np.shape(reward))
    case = outcomes(advantage, sequence_sum, reward, length, prob, group_size, None)
    if not case.varies:
        raise ValueError(
            f"every response has reward {case.mean:g}: c_G = Cov(f, r) / Var(r) is 0 / 0; "
            f"use a world or a policy whose rewards vary"
        )
    f = conditional_advantage_sum(case)
    # A mean of 1e9 in f, times the rounding of mu, is no covariance.
    f = f - f[case.prob.argmax()]
    f = f - case.prob @ f
    return float(case.prob @ (f * (case.above - case.mean))) / case.variance / case.unit


@dataclass(frozen=True, eq=False)
class Products:
    """Second moments over the rest of the group, on types; s, s' = 0 for A > 0, 1 for A < 0.

    (G scale_1)^2 E[(A_1^s)^2 | o]              = own_scale[o]^2 square[s, index[o]]
    G^2 E[A_1^s A_2^s' scale_1 scale_2 | o, o'] = own_scale[o] own_scale[o'] cross[s, s', index[o], index[o']]

    Where the scale reads the lengths of others it is inside the tables and own_scale is 1. index is -1 and
    own_scale 0 where an outcome has probability 0; cross is 0 for G = 1.
    """

    index: Int64[np.ndarray, " O"]
    own_scale: Float64[np.ndarray, " O"]
    square: Float64[np.ndarray, "2 m"]
    cross: Float64[np.ndarray, "2 2 m m"]


def conditional_products(case: Outcomes) -> Products:
    """E[(A_1^s scale_1)^2 | o] and E[A_1^s A_2^s' scale_1 scale_2 | o, o'], times G^2.

    In an infinite group A_1 and A_2 are independent given their outcomes. Raises ValueError as
    `conditional_advantages`, and for more than MAX_CROSS types.
    """
    types = case.rewards.value.size * (case.lengths.value.size if case.pools else 1)
    if types > MAX_CROSS:
        raise ValueError(
            f"{types:,} types (reward values, with lengths where the scale reads those of others) are "
            f"more than MAX_CROSS = {MAX_CROSS:,}: expectations over two responses are tabulated for every "
            f"pair of types; lower the number of reward values"
        )
    if case.pools:
        square, cross = token_means.given_two(case)
        possible = case.prob > 0
        return Products(
            np.where(possible, case.cell, -1),
            possible.astype(np.float64),
            square.reshape(2, types),
            cross.reshape(2, 2, types, types),
        )
    if case.infinite or not reads_group(case.advantage):
        advantage = case.limit if case.infinite else case.advantage
        signed = split(alone(advantage, case.rewards.value - case.origin))
        cross = np.einsum("si,rj->srij", signed, signed) * (case.group_size > 1)
        return Products(case.rewards.index, case.own_scale, signed**2, cross)
    square, cross = over_rewards(case, 1).given_two(case.rewards.prob[None])
    return Products(case.rewards.index, case.own_scale, square[0], cross[0])
