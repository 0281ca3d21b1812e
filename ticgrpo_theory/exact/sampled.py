"""E[g_hat] as it is known: exactly, or from groups that were drawn, with an interval.

The mean of n groups has, by the central limit theorem, every component within

    half_width[s,a] = z sd(g_hat[s,a]) / sqrt n,   z = Phi^-1(1 - 0.01 / (2 SV)),

of E[g_hat], all at once with 99 % (Bonferroni), and ||mean - E g_hat||^2 is distributed like a weighted
sum of chi-squares, whose 99 % point is that of a gamma distribution with the same mean and variance
(Satterthwaite, Biometrics Bulletin 2, 1946).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from scipy import special
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.penalties import kl_exact
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.groups.every_group import MAX_CALLS, BlackBox, EveryGroup
from ticgrpo_theory.exact.mean.known_mean import TOLERANCE, Expectation
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.drawn import drawn_responses
from ticgrpo_theory.exact.responses.many_policies import scatter_each
from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.worlds.graph import MAX_PATHS
from ticgrpo_theory.worlds.policy import pull_back

LEVEL = 0.99
"""Probability that all components lie in their intervals."""

RARE = 4.6
"""-log(1 - LEVEL): what happens once in n / RARE groups is missed by n groups with 1 %."""

PILOT = 512
"""Groups drawn before the number of groups is chosen."""

MAX_LOGITS = 2**13
"""Largest number of logits whose covariance is added up: a table of 512 MiB."""

MAX_TOKENS = 2**17
"""Largest number of tokens in a group that is drawn: the pilot then takes some seconds."""

Weigh = Callable[[Batch], Tensor]

FEWEST = 30
"""Groups with another g_hat than the first one, below which the central limit theorem says nothing: where
rewards are rare, hundreds of groups without one would be a mean of 0 with an interval of width 0."""


@dataclass(eq=False)
class Groups:
    """Groups of one prompt that are drawn: from the list of all responses, or token by token."""

    problem: PromptProblem

    @property
    def listed(self) -> bool:
        """Whether there are few enough responses to list them."""
        return self.problem.mdp.graph.num_paths <= MAX_PATHS

    @cached_property
    def weigh(self) -> Weigh:
        """Token weights of groups."""
        if self.listed:
            return self.problem.groups.weigh
        return EveryGroup(self.problem.estimator, np.zeros(0), int(self.problem.group_size)).weigh

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[enumeration.Responses, Int64[Tensor, "M G"]]:
        """(responses, members): groups by the numbers of their members among these responses."""
        problem, G = self.problem, int(self.problem.group_size)
        if not self.listed:
            fresh = drawn_responses(problem.mdp.graph, problem.policies, count * G, generator)
            every = enumeration.with_padding(fresh, problem.policies)
            return every, torch.arange(count * G).reshape(count, G)
        every = problem.responses
        drawn = torch.multinomial(every.prob, count * G, replacement=True, generator=generator)
        return every, drawn.reshape(count, G)

    def batch(self, every: enumeration.Responses, members: Tensor) -> Batch:
        """Groups of these responses, as estimators see them."""
        return every.batch(members, self.problem.mdp.horizon)


def sampled(problem: PromptProblem) -> Expectation:
    """E[g_hat] of one prompt from groups that are drawn, as many as the tolerance needs.

    Raises ValueError where `why_not` says why groups cannot be drawn, and for a tolerance or a limit <= 0.
    """
    return drawn(Groups(problem)).expectation


def why_not(problem: PromptProblem) -> str:
    """Why groups of the problem cannot be drawn, or ''."""
    if problem.group_size == math.inf:
        return "an infinite group cannot be drawn: give a finite group_size, or method='auto'"
    tokens = problem.group_size * problem.mdp.graph.horizon
    if tokens > MAX_TOKENS:
        return (
            f"a group of G = {problem.group_size:,} responses has up to {tokens:,} tokens, more than "
            f"MAX_TOKENS = {MAX_TOKENS:,} that are drawn at a time: lower G, or use group_size=math.inf"
        )
    if problem.theta.numel() > MAX_LOGITS:
        return (
            f"intervals need the covariance of all S V = {problem.theta.numel():,} logits, more than "
            f"MAX_LOGITS = {MAX_LOGITS:,}: lower the vocabulary or the horizon"
        )
    if isinstance(problem.estimator.penalty, kl_exact):
        return "kl_exact is no function of the tokens of a group that is drawn: use method='auto'"
    return ""


def drawn(groups: Groups) -> "Sample":
    """As many groups as the tolerance needs."""
    problem = groups.problem
    why = why_not(problem)
    if why:
        raise ValueError(why)
    options = problem.options
    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    if not 0 < tolerance:
        raise ValueError(f"tolerance = {tolerance}: the relative error to reach is a number > 0")
    largest = MAX_CALLS if options.limit is None else options.limit
    if largest < 2:
        raise ValueError(f"limit = {largest}: an interval needs the spread of at least 2 groups")
    sample = Sample(groups)
    sample.draw(min(PILOT, largest))
    while sample.n < largest:
        norm, width = float(sample.mean.norm()), sample.norm_half_width()
        # Rewards may be so rare that the pilot has none: groups that all give 0 say nothing yet.
        if 0 < norm and width <= tolerance * norm:
            break
        # The pilot may miss by some per cent; no step is longer than tenfold, since its norm is noisy too.
        factor = min(10.0, 1.1 * (width / (tolerance * norm)) ** 2) if norm > 0 else 10.0
        sample.draw(min(largest, math.ceil(sample.n * factor)) - sample.n)
    sample.finish()
    return sample


class Sample:
    """Sums over groups that were drawn."""

    def __init__(self, groups: Groups) -> None:
        self.groups, self.problem, self.n, self.others = groups, groups.problem, 0, 0
        self.one: Tensor | None = None
        size = self.problem.theta.numel()
        self.sum = torch.zeros(size, dtype=torch.float64)
        self.square = torch.zeros(size, size, dtype=torch.float64)
        self.fourth = 0.0
        self.generator = stream(self.problem.options.seed, "exact", "sampled")
        self.first: tuple[Batch, Tensor] | None = None

    def draw(self, count: int) -> None:
        """Add `count` groups."""
        problem, G = self.problem, int(self.problem.group_size)
        S, V = problem.theta.shape
        score = problem.estimator.score(problem.theta, problem.theta_old)
        step = max(1, multisets.CHUNK // max(G * problem.mdp.graph.horizon, S * V))
        known, index = None, torch.zeros(0, dtype=torch.int64)
        for first in range(0, count, step):
            M = min(step, count - first)
            every, members = self.groups.draw(M, self.generator)
            batch = self.groups.batch(every, members)
            c = self.groups.weigh(batch)
            if every is not known:
                known, index = every, torch.from_numpy(every.paths.rows * V + every.paths.tokens)
            if self.first is None:
                self.first = (self.groups.batch(every, members[:4]), c[:4])
            counted = (batch.mask | (c != 0)).flatten(1)[:, None]
            table = scatter_each(
                index[members].flatten(1)[:, None], counted, c.flatten(1)[:, None], torch.Size((M, S, V))
            )
            g_hat = pull_back(table, score.expand_as(table)).flatten(1)
            self.one = g_hat[0] if self.one is None else self.one
            self.others += int((g_hat != self.one).any(dim=1).sum())
            self.sum += g_hat.sum(dim=0)
            self.square += g_hat.T @ g_hat
            self.fourth += float(g_hat.square().sum(dim=1).square().sum())
            self.n += M

    def finish(self) -> None:
        """Raise ValueError where the first groups get other weights the second time, or no group has any."""
        assert self.first is not None
        groups, c = self.first
        again = self.groups.weigh(groups)
        if float((again - c).abs().max()) > 1e-5 * float(c.abs().max()):
            raise ValueError(
                "the estimator gives other token weights to the same group the second time, so that "
                "groups do not determine its expectation; switch off randomness and state inside it"
            )

        weigh = self.groups.weigh
        if isinstance(weigh, BlackBox) and not weigh.apart.depends:
            raise ValueError(
                f"the objective does not depend on batch.logp in any of the {self.n:,} groups that were "
                f"drawn: nothing to differentiate"
            )

    @property
    def assumed(self) -> str:
        """How the numbers are known, in words."""
        seed = self.problem.options.seed
        said = f"sampled: seed {seed}, {self.n:,} groups, intervals by the central limit theorem"
        if float(self.square.abs().max()) == 0:
            return f"{said}; every group gave 0, and groups rarer than 1 in {self.n / RARE:,.0f} may not"
        return said

    @property
    def expectation(self) -> Expectation:
        """The mean with its intervals."""
        shape = self.problem.theta.shape
        return Expectation(
            self.mean.reshape(shape),
            "sampled",
            assumed=self.assumed,
            half_width=self.half_width().reshape(shape),
            norm_half_width=self.norm_half_width(),
            groups=self.n,
            lost_mass=self.problem.lost_mass,
        )

    @property
    def second_moment(self) -> tuple[float, float]:
        """E||g_hat||^2 and its 99 % half width; infinite where too few groups differ."""
        second = float(self.square.trace()) / self.n
        if self.others < FEWEST:
            return second, math.inf
        variance = max(self.fourth / self.n - second**2, 0.0)
        return second, float(special.ndtri(0.5 + LEVEL / 2)) * math.sqrt(variance / self.n)

    @property
    def mean(self) -> Tensor:
        return self.sum / self.n

    @property
    def covariance(self) -> Tensor:
        """Of one g_hat."""
        return (self.square - torch.outer(self.sum, self.mean)) / max(self.n - 1, 1)

    def half_width(self) -> Tensor:
        """Simultaneous 99 % half widths of the components; infinite where too few groups differ."""
        if self.others < FEWEST:
            return torch.full_like(self.mean, math.inf)
        z = float(special.ndtri(1 - (1 - LEVEL) / (2 * self.mean.numel())))
        return z * (self.covariance.diagonal().clamp(min=0.0) / self.n).sqrt()

    def norm_half_width(self) -> float:
        """99 % point of ||mean - E g_hat||; infinite where too few groups differ."""
        if self.others < FEWEST:
            return math.inf
        cov = self.covariance / self.n
        trace, squares = float(cov.trace()), float(cov.square().sum())
        return math.sqrt(squares / trace * 2 * special.gammaincinv(trace**2 / squares / 2, LEVEL))
