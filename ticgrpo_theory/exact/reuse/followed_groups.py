"""What K inner steps do to a gradient estimate, exactly: every group that theta_old can draw is followed.

    theta_0 = theta_old,   theta_{k+1} = theta_k + eta g_hat_k,   k = 0..K
    bias_k = E[g_hat_k - c grad J(theta_k)],   mse_k = E||g_hat_k - c grad J(theta_k)||^2

Reused: one group gives every g_hat_k, so theta_k depends on the sample that g_hat_k averages over, and even
an estimator that is unbiased at a fixed theta has a bias of order eta k / G (see leading_order.py). Disjoint:
every step draws a group of its own from theta_old, theta_k is independent of it, and the bias of such an
estimator is 0. All theta_k differ from group to group: J and grad J are evaluated at each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, reduce
from operator import add

import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.filters import refuse_redraws
from ticgrpo_theory.estimators.resolve import AnyEstimator, EstimatorLike
from ticgrpo_theory.exact.groups import sizes
from ticgrpo_theory.exact.groups.every_group import EveryGroup, OrderMatters, Walk
from ticgrpo_theory.exact.groups.options import Options
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.responses.many_policies import Unrolled, returns_and_gradients, unroll
from ticgrpo_theory.inputs.numbers import number_or_nan
from ticgrpo_theory.worlds.mdp import TokenMDP

CHUNK = 2**18
"""Numbers (groups x responses x tokens) evaluated at once."""
MAX_NUMBERS = 2**31
"""Largest number of token log-probabilities evaluated in all: about three minutes of one core."""


@dataclass(frozen=True, eq=False)
class Reuse:
    """Exact values after k = 0..K steps, expected over groups, and over prompts where there are several.

    While groups are followed, the sums over those that were counted.
    """

    gradient: Float[Tensor, "steps S V"]
    """E[g_hat_k]."""
    target: Float[Tensor, "steps S V"]
    """c E[grad J(theta_k)]."""
    mse: Float[Tensor, " steps"]
    """E||g_hat_k - c grad J(theta_k)||^2."""
    expected_return: Float[Tensor, " steps"]
    """E[J(theta_k)]."""

    @property
    def bias(self) -> Float[Tensor, "steps S V"]:
        """E[g_hat_k - c grad J(theta_k)]."""
        return self.gradient - self.target

    def add(
        self,
        k: int,
        prob: Float[Tensor, " M"],
        g_hat: Float[Tensor, "M S V"],
        target: Float[Tensor, "M S V"],
        J: Float[Tensor, " M"],
    ) -> None:
        """Count step k of M more groups, which have these probabilities."""
        self.gradient[k] += torch.einsum("m,msv->sv", prob, g_hat)
        self.target[k] += torch.einsum("m,msv->sv", prob, target)
        self.mse[k] += prob @ (g_hat - target).square().sum(dim=(-2, -1))
        self.expected_return[k] += prob @ J

    def __add__(self, other: "Reuse") -> "Reuse":
        """The sums over two sets of groups."""
        return Reuse(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class FollowedGroups:
    """All groups of one prompt, what they cost and how an estimator takes a step on them."""

    prompt: Unrolled
    estimator: AnyEstimator
    theta_old: Float[Tensor, "S V"]
    group_size: int
    options: Options

    @cached_property
    def every(self) -> EveryGroup:
        """The groups, with what is checked on them."""
        prob, options = self.prompt.prob.numpy(), self.options
        return EveryGroup(self.estimator, prob, self.group_size, options.symmetric, options.limit)

    def gradients(
        self,
        walk: Walk,
        theta: Float[Tensor, "M S V"],
        members: Int64[Tensor, "M G"],
        prob: Float[Tensor, " M"],
    ) -> Float[Tensor, "M S V"]:
        """g_hat of M groups, each at its own theta."""

        def batch_of(chosen: Tensor, positions: Tensor) -> Batch:
            return self.prompt.batch(theta[positions], chosen)

        c = walk.weights(members, prob, batch_of)
        return self.prompt.gradients(c, self.estimator.score(theta, self.theta_old.expand_as(theta)), members)


@dataclass(frozen=True, eq=False)
class Inner:
    """The inner loop: on which groups, how far, how often, and with what multiple of grad J compared."""

    groups: list[FollowedGroups]
    prompts: list[Unrolled]
    """With every response that theta_old can draw, for J."""
    theta_old: Float[Tensor, "S V"]
    steps: int
    learning_rate: float
    scale: float

    @cached_property
    def numbers(self) -> int:
        """Token log-probabilities read for a group at one theta: its own, and all for J and grad J."""
        largest = max(p.mask.numel() + self.groups[0].group_size * p.mask.shape[1] for p in self.prompts)
        return sum(p.mask.numel() for p in self.prompts) + largest

    @property
    def chunk(self) -> int:
        """Groups evaluated at once."""
        return max(1, CHUNK // self.numbers)

    @property
    def count(self) -> int | float:
        """Groups of all prompts, as things stand."""
        return sum(groups.every.groups for groups in self.groups)

    def no_groups(self) -> Reuse:
        """Sums over no group yet."""
        K, S, V = self.steps + 1, *self.theta_old.shape
        shapes = ((K, S, V), (K, S, V), (K,), (K,))
        return Reuse(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def returns(self, theta: Float[Tensor, "M S V"]) -> tuple[Float[Tensor, " M"], Float[Tensor, "M S V"]]:
        """J and c grad J at each theta."""
        J, gradient = returns_and_gradients(self.prompts, theta)
        return J, self.scale * gradient

    def check_groups(self, every: EveryGroup) -> None:
        """`check_cost` of every group at K+1 policies."""
        self.check_cost(every.groups * (self.steps + 1), f"{sizes.written(every.groups)} groups")

    def check_cost(self, evaluations: int | float, what: str) -> None:
        """Raise ValueError for too many groups, each counted at every theta at which it is evaluated."""
        N = ", ".join(str(len(groups.prompt.reward)) for groups in self.groups)
        given = f"N = {N} responses, G = {self.groups[0].group_size}, K = {self.steps}"
        way_out = "lower N, G or K, or sample groups with ticgrpo_theory.simulate"
        if evaluations * self.numbers > MAX_NUMBERS:
            raise ValueError(
                f"{what} ({given}) ask for {sizes.written(evaluations * self.numbers)} token "
                f"log-probabilities, more than MAX_NUMBERS = {MAX_NUMBERS:,}; {way_out}"
            )
        for groups in self.groups:
            largest = groups.every.largest
            if not groups.every.known and evaluations > largest:
                raise ValueError(
                    f"{what} ({given}) ask for {sizes.written(evaluations)} calls of the objective, "
                    f"one for each group and step, more than limit = {largest:,}; {way_out}, raise "
                    f"limit=..., or write it as an Estimator of parts of the catalogue, whose groups are "
                    f"evaluated in batches"
                )


def reuse_bias(
    mdp: TokenMDP,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int,
    inner_steps: int,
    learning_rate: float,
    scale: float = 1.0,
    batches: str = "reused",
    theta_ref: Tensor | ArrayLike | None = None,
    *,
    symmetric: bool | None = None,
    limit: int | None = None,
    theta_sampler: Tensor | ArrayLike | None = None,
) -> Reuse:
    """E[g_hat_k - c grad J(theta_k)] [K+1, S, V], E||.||^2, E[J(theta_k)], k = 0..K, all groups; c = `scale`.

    batches="reused": one group gives all K+1 gradients; its prompt is drawn with its weight, and J is that of
    the whole world. "disjoint": every step draws a prompt and a group anew, all from the same policy, so that
    M groups make M^(K+1) sequences: micro worlds only. Groups come from `theta_sampler`, or else theta_old.
    An estimator, of any kind, of a multiple of grad J is compared with that multiple: c = kappa c_G for
    group-standardised advantages (groups.scale_of_group_normalisation) and responses of one length 1/kappa.
    `symmetric` and `limit` as for expected_gradient, at every step and the policy that a group has reached.

    Source: arXiv:2508.02833 v2, Algorithms 1 and 2, inner loop.
    Raises ValueError for bad input as expected_gradient does, an unknown `batches`, and too many groups.
    """
    follow = FOLLOW[Batches.of(batches)]
    check_steps(group_size, inner_steps, learning_rate, scale)
    given = (mdp, theta_old, theta_old, estimator, group_size, "auto", theta_ref)
    problem = CheckedProblem(*given, symmetric=symmetric, limit=limit, theta_sampler=theta_sampler)
    refuse_redraws(problem.one.given, "reuse_bias")
    start, one = problem.theta_old, problem.one
    drawn = unroll(mdp, start, one.theta_ref, one.theta_sampler)
    groups = [
        FollowedGroups(prompt, part.estimator, start, int(group_size), problem.options)
        for prompt, (_, part) in zip(drawn, problem.parts, strict=True)
    ]
    # J counts responses that the sampler never draws as well.
    every = drawn if one.theta_sampler is None else unroll(mdp, start, None)
    return follow(Inner(groups, every, start, int(inner_steps), float(learning_rate), float(scale)))


def check_steps(group_size: int, inner_steps: int, learning_rate: float, scale: float) -> None:
    """Raise ValueError for what no inner loop can be made of; a group size of 1 is the estimator's matter."""
    if group_size == math.inf:
        raise ValueError(
            "group_size = inf: an infinite group moves theta without noise, so nothing is left to enumerate; "
            "step with expected_gradient(..., group_size=math.inf)"
        )
    K = number_or_nan(inner_steps)
    if not K >= 0 or K % 1 != 0:
        raise ValueError(f"inner_steps = {inner_steps!r}: give a whole number >= 0 of steps on one group")
    for name, value in (("learning_rate", learning_rate), ("scale", scale)):
        if not math.isfinite(number_or_nan(value)):
            raise ValueError(f"{name} = {value!r}: give a finite number")


def reused(inner: Inner) -> Reuse:
    """One group for all steps: every group once, followed from theta_old through K steps."""
    found = []
    for groups in inner.groups:
        inner.check_groups(groups.every)

        def total(walk: Walk, groups: FollowedGroups = groups) -> Reuse:
            inner.check_groups(walk.every)
            sums = inner.no_groups()
            for members, chance in walk.chunks(inner.chunk):
                prob = groups.prompt.weight * chance
                theta = inner.theta_old.expand(len(members), -1, -1)
                for k in range(inner.steps + 1):
                    g_hat = groups.gradients(walk, theta, members, prob)
                    J, target = inner.returns(theta)
                    sums.add(k, prob, g_hat, target, J)
                    theta = theta + inner.learning_rate * g_hat
            return sums

        found.append(groups.every.over(total))
    return reduce(add, found)


def disjoint(inner: Inner) -> Reuse:
    """A new group for every step: a tree of draws with a branch for every group, K+1 deep.

    Where the order of a group turns out to matter, the tree is followed anew over ordered groups.
    """
    while True:
        try:
            count = inner.count
            sequences = sizes.sequences(int(count), inner.steps + 1) if count < math.inf else count
            inner.check_cost(sequences, f"{sizes.written(sequences)} sequences of K+1 groups")
            sums = inner.no_groups()
            walks = [groups.every.fresh_walk() for groups in inner.groups]
            draw(inner, walks, sums, 0, inner.theta_old[None], torch.ones(1, dtype=torch.float64))
            for walk in walks:
                walk.finish()
            return sums
        except OrderMatters as found:
            found.every.ordered = True  # type: ignore[union-attr]


def draw(
    inner: Inner,
    walks: list[Walk],
    sums: Reuse,
    k: int,
    theta: Float[Tensor, "n S V"],
    prob: Float[Tensor, " n"],
) -> None:
    """Add step k of n nodes, each with every group, and go on to the nodes that their steps lead to."""
    J, target = inner.returns(theta)
    for groups, walk in zip(inner.groups, walks, strict=True):
        for members, chance in walk.chunks(inner.chunk):
            M = len(members)
            for nodes in torch.arange(len(theta)).split(max(1, inner.chunk // M)):
                pair = nodes.repeat_interleave(M)
                joint = prob[pair] * (groups.prompt.weight * chance).repeat(len(nodes))
                g_hat = groups.gradients(walk, theta[pair], members.repeat(len(nodes), 1), joint)
                sums.add(k, joint, g_hat, target[pair], J[pair])
                if k < inner.steps:
                    draw(inner, walks, sums, k + 1, theta[pair] + inner.learning_rate * g_hat, joint)


FOLLOW: dict[Batches, Callable[[Inner], Reuse]] = {Batches.REUSED: reused, Batches.DISJOINT: disjoint}
