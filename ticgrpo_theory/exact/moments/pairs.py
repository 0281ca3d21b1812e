"""How the coefficients of two responses of a group vary together, in a form that first-moment passes can use.

With a_i^s = G A_i^s scale_i (s = + or -: the positive or the negative part of A_i) a response contributes

    x_i = a_i^+ Phi_i^+ + a_i^- Phi_i^-,    Phi_i^s = sum_t u_t^s grad log pi(a[i,t] | s[i,t-1])

to g_hat = (1/G) sum_i x_i, u^s the importance weight that the clip leaves where A has that sign. The group
enters E||g_hat||^2 through E[(a_1^s)^2 | o] and E[a_1^s a_2^s' | o, o'], o the outcome of a response, and the
second is a sum of products of functions of one outcome each. Where the clip is the same for either sign of A,
both signs are merged into s = +.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray

from ticgrpo_theory.estimators.advantage import has_known_moments, is_linear, reads_group
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.groups import conditional
from ticgrpo_theory.exact.groups.outcomes import Outcomes, alone, split
from ticgrpo_theory.exact.obstacles import gate_ignores_sign
from ticgrpo_theory.exact.problem import PromptProblem

Function = Callable[[], NDArray[np.float64]]
"""A function of sign and outcome [2, O], made when it is called: there may be millions of outcomes."""

FEW = 8
"""Channels (signs x types) up to which each is a function of its own; more are reduced by eigenvectors."""

NEGLIGIBLE = 1e-16
"""Eigenvalues of the covariance below this share of the largest E[a^2] are rounding."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Channel c is a sign and a type, sign[c], kind[c]; kind_of is the type of every outcome, -1 for none."""

    sign: NDArray[np.int64]
    kind: NDArray[np.int64]
    kind_of: NDArray[np.int64]
    scale: Float64[np.ndarray, " O"]
    """Factor of every outcome."""
    square: Float64[np.ndarray, " C"]
    """E[(a^s)^2 | kind] without the factor."""
    covariance: Float64[np.ndarray, "C C"]
    """E[a_1^s a_2^s' | kinds] - E[a_1^s | kind] E[a_2^s' | kind'] without the factors."""

    def function(self, values: Float64[np.ndarray, " C"]) -> Float64[np.ndarray, "2 O"]:
        """(s, o) -> values[c] of the channel c to which o and s belong, else 0; without the factor."""
        # The last column stays 0: outcomes without a type read it, as column -1.
        table = np.zeros((2, int(self.kind_of.max()) + 2))
        table[self.sign, self.kind] = values
        return table[:, self.kind_of]


@dataclass(frozen=True, eq=False)
class PairDistribution:
    """E[(a_1^s)^2 | o] = square()[s, o];  E[a_1^s | o] = sum_k mean[k] basis[k]()[s, o];

    E[a_1^s a_2^s' | o, o'] - E[a_1^s | o] E[a_2^s' | o']
        = sum_kl covariance[k, l] basis[k]()[s, o] basis[l]()[s', o'].

    What the group makes of two members is of the order of 1/G: kept apart from the product of their means,
    it has all its digits in groups of any size.
    """

    square: Function
    basis: tuple[Function, ...]
    mean: Float64[np.ndarray, " K"]
    covariance: Float64[np.ndarray, "K K"]
    channels: Channels | None = None
    """Set where basis function k is channel k."""
    subtracted: bool = False
    """Whether the covariance is what a product of means leaves of a mean of products, with their rounding."""


def merge(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of both parts as the positive one, and 0: [2, ...]."""
    return positive(parts.sum(axis=0))


def merge_pairs(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over both signs of either response as that of two positive parts, and 0: [2, 2, ...]."""
    merged = np.zeros_like(products)
    merged[0, 0] = products.sum(axis=(0, 1))
    return merged


def as_they_are(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    return parts


class Signs(NamedTuple):
    """What becomes of the two parts of an advantage: of tables [2, ...], and of products [2, 2, ...]."""

    of_parts: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    of_products: Callable[[NDArray[np.float64]], NDArray[np.float64]]


APART = Signs(as_they_are, as_they_are)
"""The clip tells the signs apart."""

MERGED = Signs(merge, merge_pairs)
"""The clip is the same for either sign of A."""


def pair_distribution(problem: PromptProblem, estimator: Estimator | from_loss) -> PairDistribution:
    """Moments of the coefficients of one and of two responses of a group of problem.group_size, finite."""
    graph = problem.mdp.graph
    # A loss carries its own scale, and 1/G of it is the mean over the group: nothing is left to multiply.
    scale = estimator.scale if isinstance(estimator, Estimator) else sequence_sum
    case = problem.outcomes(estimator.advantage, scale)
    signs = MERGED if isinstance(estimator, Estimator) and gate_ignores_sign(estimator.clip, graph) else APART
    if not case.pools and not reads_group(case.advantage):
        return independent(case, signs)
    if not case.pools and signs is MERGED and has_known_moments(case.advantage) and is_linear(case.advantage):
        return linear(case, case.advantage)
    return tabulated(case, signs)


def independent(case: Outcomes, signs: Signs) -> PairDistribution:
    """a_i is a function of o_i alone, E[a_1 a_2 | o, o'] a product: any number of reward values will do."""
    a = signs.of_parts(split(alone(case.advantage, case.above) * case.own_scale))
    return PairDistribution(lambda: a**2, (lambda: a,), np.ones(1), np.zeros((1, 1)))


def linear(case: Outcomes, advantage: Advantage) -> PairDistribution:
    """A_i = e + p z_i + q sum_{j != i} z_j with z = r - mu, whatever the number of reward values.

    E[A_1 | z] = e + p z,  E[A_1^2 | z] = (e + p z)^2 + (G-1) q^2 sigma^2,
    E[A_1 A_2 | z, z'] = (e + p z + q z')(e + q z + p z') + (G-2) q^2 sigma^2, a polynomial in z and z',
    whose terms beyond (e + p z)(e + p z') are the covariance.
    """
    G, z = case.G, case.above - case.mean
    e, own, pooled = affine(advantage, case.mean, G)
    p, q = own + pooled / G, pooled / G
    square = case.own_scale**2 * ((e + p * z) ** 2 + (G - 1) * q**2 * case.variance)
    basis = tuple(partial(positive, case.own_scale * z**n) for n in range(3))
    constant = (G - 2) * q**2 * case.variance
    covariance = np.array([[constant, e * q, p * q], [e * q, q**2, 0.0], [p * q, 0.0, 0.0]])
    return PairDistribution(partial(positive, square), basis, np.array([e, p, 0.0]), covariance)


def affine(advantage: Advantage, mu: float, group_size: int) -> tuple[float, float, float]:
    """(e, own, pooled) with A = e + own (r - mu) + pooled (mean_G - mu), read off the advantage's formula."""
    # A step of 1 from a mean of 1e9 would leave half of its digits.
    step = 2.0 ** max(0, math.frexp(mu)[1])
    reward, mean = (step * torch.tensor(x, dtype=torch.float64) + mu for x in ([0, 1, 0], [0, 0, 1]))
    at = advantage.of_moments(reward, mean, torch.ones_like(mean), group_size).tolist()
    return at[0], (at[1] - at[0]) / step, (at[2] - at[0]) / step


def tabulated(case: Outcomes, signs: Signs) -> PairDistribution:
    """Any advantage, by tables over types: reward values, with lengths where the scale reads the others'."""
    products, f = conditional.conditional_products(case), conditional.conditional_advantages(case)
    # One outcome in the loss stands for all of its type; the last entry takes those of probability 0.
    example = np.zeros(products.square.shape[1] + 1, dtype=np.int64)
    inside = np.flatnonzero(products.own_scale)
    example[products.index[inside]] = inside
    prob = np.bincount(products.index + 1, weights=case.prob, minlength=example.size)[1:]
    own_scale = products.own_scale[example[:-1]]
    alpha = np.stack([part[example[:-1]] / np.where(own_scale == 0, 1.0, own_scale) for part in f])
    alpha, square = signs.of_parts(alpha), signs.of_parts(products.square)
    cross = signs.of_products(products.cross)
    # Tables over reward and length hold cells that no response has.
    sign, kind = np.nonzero(square * (prob > 0))
    mean = alpha[sign, kind]
    covariance = cross[sign[:, None], sign, kind[:, None], kind] - np.outer(mean, mean)
    channels = Channels(sign, kind, products.index, products.own_scale, square[sign, kind], covariance)
    squares = partial(squared, channels)
    if sign.size > FEW:
        return reduced(channels, squares, mean, prob)
    basis = tuple(partial(scaled, channels, unit) for unit in np.eye(sign.size))
    return PairDistribution(squares, basis, mean, covariance, channels, subtracted=True)


def reduced(
    channels: Channels, square: Function, alpha: Float64[np.ndarray, " C"], prob: Float64[np.ndarray, " m"]
) -> PairDistribution:
    """The covariance by its eigenvectors, those of rounding size left out, and E[a | o] itself for the mean.

    A channel can contribute no more than its probability, so the table is weighted by probabilities first.
    """
    weight = prob[channels.kind]
    values, vectors = np.linalg.eigh(channels.covariance * weight[:, None] * weight)
    # The covariance is what products of means leave of products: its rounding is of their size.
    kept = np.abs(values) > NEGLIGIBLE * float((channels.square * weight**2).max())
    columns = [*(vectors.T[kept] / weight), alpha]
    basis = tuple(partial(scaled, channels, column) for column in columns)
    covariance = np.diag(np.append(values[kept], 0.0))
    return PairDistribution(square, basis, np.eye(len(columns))[-1], covariance, subtracted=True)


def scaled(channels: Channels, values: Float64[np.ndarray, " C"]) -> Float64[np.ndarray, "2 O"]:
    return channels.function(values) * channels.scale


def squared(channels: Channels) -> Float64[np.ndarray, "2 O"]:
    return channels.function(channels.square) * channels.scale**2


def positive(f: NDArray[np.float64]) -> NDArray[np.float64]:
    """f as the positive part, and 0."""
    return np.stack([f, np.zeros_like(f)])
