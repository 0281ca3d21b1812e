"""The bias of reusing a group, to first order in the step: eta k / G times a vector of single responses.

Let the responses of a group enter one by one, g_hat(theta) = (1/G) sum_i x_i(theta), and write x, F' for x_i
and its derivative at theta_old, m = E[x], M = E[F']. After k steps on the same group theta_k = theta_old +
eta k g_hat + ...,

    E[g_hat_k] = m + eta k E[(1/G sum_i F'_i) (1/G sum_j x_j)] + ...
               = m + eta k (E[F' x] / G + (1 - 1/G) M m) + ...

while g(theta) = E_old[g_hat(theta)] at the same points averages to E[g(theta_k)] = m + eta k M m + .... Hence

    E[g_hat_k - g(theta_k)] = (eta k / G) (E[F' x] - M m) + O(eta^2 k^2 / G).

For the unclipped trajectory ratio with A = z = (r - mu) / sigma under theta_old and responses of one length
1/kappa, g(theta) = (kappa / sigma) grad J(theta).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.advantage import reads_group
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.clipping import bounds_by_sign
from ticgrpo_theory.estimators.estimator import Estimator, current
from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.estimators.scales import pools_lengths
from ticgrpo_theory.estimators.shapes import Shape
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.many_policies import flat_index, scatter_each
from ticgrpo_theory.worlds.mdp import TokenMDP

MAX_TABLE = 2**26
"""Largest number of (response, logit) pairs: half a GiB for each of the tables of them."""


def leading_order(
    mdp: TokenMDP, theta_old: Tensor | ArrayLike, estimator: EstimatorLike
) -> Float[Tensor, "S V"]:
    """E[F' x] - M m: the limit of (G / (eta k)) E[g_hat_k - g(theta_k)] as eta -> 0, one group reused.

    For one prompt and an Estimator whose responses enter one by one: advantages `population`, `known_moments`
    or `raw`, a scale that reads no other length, no penalty, a clip that leaves ratios near 1 alone.

    Raises ValueError for any other estimator, and for several prompts: a step on one prompt then moves the
    others' share of J, which leaves a bias of order eta k at every G.
    """
    own, mean = responsewise(one_prompt(mdp, theta_old, estimator))
    return own - mean


def one_prompt(mdp: TokenMDP, theta_old: Tensor | ArrayLike, estimator: EstimatorLike) -> PromptProblem:
    """The problem of a world with one prompt; ValueError for any other."""
    if len(mdp.prompts) > 1:
        raise ValueError(
            f"this world has {len(mdp.prompts)} prompts: the bias of reuse is then of order eta k at every "
            f"G, not eta k / G; take each prompt of mdp.prompts alone, or use reuse_bias"
        )
    # Any group size would do, but some of the advantages that `one_by_one` refuses need two rewards.
    return CheckedProblem(mdp, theta_old, theta_old, estimator, 2).one


@dataclass(frozen=True)
class SecondOrder:
    """E[J(theta_K) - J(theta_K')] of two estimators with one common first step, divided by eta^2 K (K-1) / 2.

    From theta_k - theta_k' = eta^2 k (k-1) / 2 (F - F') g_hat + ..., F that of the whole group, follows

        (1 - 1/G) common + (1/G) own,    common = <grad J, (M - M') m>,  own = <grad J, E[(F' - F'') x]>

    with F' and F'' of single responses. Positive: the first one gains more by small steps.
    """

    common: float
    own: float

    def lead(self, group_size: int | float) -> float:
        """The difference at this G; `common` at G = infinity."""
        return self.common + (self.own - self.common) / group_size

    @property
    def crossover(self) -> float:
        """G at which the lead changes sign, 1 - own / common; NaN where `common` is zero."""
        return 1 - self.own / self.common if self.common else math.nan


def second_order(
    mdp: TokenMDP, theta_old: Tensor | ArrayLike, one: EstimatorLike, other: EstimatorLike
) -> SecondOrder:
    """Which of two estimators gains more in J by K small steps on one group; one prompt, as `leading_order`.

    Source: arXiv:2508.02833 v2, Algorithms 1 and 2, expanded to second order in eta.
    """
    parts = [responsewise(one_prompt(mdp, theta_old, estimator)) for estimator in (one, other)]
    gradient = policy_gradient(mdp, theta_old)
    own, common = (float((gradient * (a - b)).sum()) for a, b in zip(*parts, strict=True))
    return SecondOrder(common, own)


def one_by_one(problem: PromptProblem) -> Estimator:
    """The estimator, if every response enters g_hat alone and smoothly near theta_old; else ValueError."""
    estimator = problem.estimator
    reason = ""
    if not isinstance(estimator, Estimator):
        reason = "a callable may couple the responses of a group in any way"
    elif not estimator.properties.known:
        reason = "parts that are not of the catalogue may couple the responses of a group in any way"
    elif reads_group(estimator.advantage):
        reason = f"the advantage {estimator.advantage!r} reads the other rewards of the group"
    elif pools_lengths(estimator.scale):
        reason = "its scale reads the other lengths of the group"
    elif estimator.penalty is not None:
        reason = f"its penalty {estimator.penalty!r} adds to its weights"
    elif estimator.correction is not None:
        reason = f"its correction {estimator.correction!r} weighs what a sampler draws"
    elif isinstance(estimator.clip, Shape):
        reason = f"the shape {estimator.clip!r} has another derivative at ratio 1 than the ratio itself"
    elif not clip_leaves_one_alone(estimator):
        reason = f"the clip {estimator.clip!r} has an end at ratio 1, where the estimator has no derivative"
    if isinstance(estimator, Estimator) and not reason:
        return estimator
    raise ValueError(
        f"the leading order of {name_of(problem.given)} is not that of responses that enter one by one: "
        f"{reason}; use an advantage population() or known_moments(mean, std), "
        f"or take the exact value from reuse_bias"
    )


def clip_leaves_one_alone(estimator: Estimator) -> bool:
    """Whether a neighbourhood of log-ratio 0 is inside the clip, for either sign of A and every length."""
    return bounds_by_sign(estimator.clip, torch.arange(1, 65)).surround_one


@dataclass(frozen=True, eq=False)
class Scored:
    """Every response y of theta_old with what multiplies its scores psi_t = grad log pi(a_t | s_{t-1})."""

    every: enumeration.Responses
    estimator: Estimator
    pi: Float[Tensor, "S V"]
    weight: Float[Tensor, "N 1 1"]
    """A kappa."""

    @cached_property
    def index(self) -> Int64[Tensor, "N T"]:
        return flat_index(self.every.paths, self.pi.shape[1])

    def counts(self, weight: Float[Tensor, "N T"]) -> Float[Tensor, "N S V"]:
        """The weights of every response, each at its row and token."""
        shape = torch.Size((len(weight), *self.pi.shape))
        return scatter_each(self.index[:, None], self.every.mask[:, None], weight[:, None], shape)

    def scores(self, weight: Float[Tensor, "N T"]) -> Float[Tensor, "N S V"]:
        """sum_t weight_t psi_t of every response."""
        counts = self.counts(weight)
        return counts - self.pi * counts.sum(dim=-1, keepdim=True)

    def derivative(self, u: Float[Tensor, "N S V"]) -> Float[Tensor, "N S V"]:
        """F' u = A kappa sum_t (dv_t psi_t - H_t u) of every response,

        dv = ratio(psi_1 . u, ..., psi_T . u), H_t = diag pi - pi pi^T: pooled log-ratios are linear in the
        token log-ratios, so that their derivative along u is the pooling of psi_t . u.
        """
        centred = u - (self.pi * u).sum(dim=-1, keepdim=True)
        along = centred.flatten(1).gather(1, self.index).where(self.every.mask, 0.0)
        moved = self.scores(self.estimator.ratio(along, self.every.mask))
        if self.estimator.score is current:
            visits = self.counts(torch.ones_like(self.every.logp)).sum(dim=-1, keepdim=True)
            moved = moved - visits * self.pi * centred
        return self.weight * moved

    def expected(self, x: Float[Tensor, "N S V"]) -> Float[Tensor, "S V"]:
        """E_old[x(y)]."""
        return torch.einsum("n,nsv->sv", self.every.prob, x)


def responsewise(problem: PromptProblem) -> tuple[Float[Tensor, "S V"], Float[Tensor, "S V"]]:
    """E[F' x] and E[F'] E[x] over the responses y of theta_old, x = A kappa sum_t psi_t."""
    estimator, theta_old = one_by_one(problem), problem.theta_old
    every = problem.listed_responses
    if len(every.reward) * theta_old.numel() > MAX_TABLE:
        raise ValueError(
            f"N = {len(every.reward):,} responses with a table of S V = {theta_old.numel():,} numbers each "
            f"are more than MAX_TABLE = {MAX_TABLE:,} numbers: lower the vocabulary or the horizon"
        )
    A = estimator.advantage(every.reward[:, None])
    weight = A * estimator.scales(every.mask[:, None], problem.mdp.horizon)
    scored = Scored(every, estimator, torch.softmax(theta_old, dim=-1), weight[..., None])
    x = scored.weight * scored.scores(torch.ones_like(every.logp))
    mean = scored.expected(x).expand_as(x)
    return scored.expected(scored.derivative(x)), scored.expected(scored.derivative(mean))
