"""C2: the expected ascent of a run against the rise of J, with exact first steps along its path.

    E sum <g_n, m_n> <= E[ (J(theta_N) - J(theta_0)) / (eta K)
                           + sum (||g_n|| e_n + (L_J / 2) eta K (sqrt q_n + e_n)^2) ]

g_n = grad J(theta_n), m_n = E[g_hat_{n,0}], q_n = E||g_hat_{n,0}||^2, and the drift within the K steps
e_n = min(tau sqrt(q_n), Lambda eta (K-1) D / 2).

J(theta_N) is noisy. sum (<g_n, g_hat_{n,0}> - <g_n, m_n>) has mean zero exactly, whatever the estimator and
K, and most of that noise: subtracted from the rise it makes the bound almost deterministic (C2cv).
Where K disjoint groups are used, the first steps of all K are averaged: q_n - ||m_n||^2 is divided by K.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.bounds.certificates import whole_path
from ticgrpo_theory.bounds.constants import InstanceConstants
from ticgrpo_theory.bounds.first_steps import FirstStep, first_step
from ticgrpo_theory.bounds.hypotheses import (
    Conditional,
    Hypothesis,
    batches_of,
    check_constants,
    check_settings,
    compare,
    plain_ascent,
)
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.simulate.trace import Trace

STANDARD_ERRORS = 3
"""A mean margin may lie below 0 by so many of its standard errors before the certificate fails."""


@dataclass(frozen=True, eq=False)
class Sampled(Conditional):
    """left <= right in expectation over runs; the right side as it is, and with the control variate."""

    lhs: Float[Tensor, " R"]
    """sum <g_n, m_n>."""
    plain: Float[Tensor, " R"]
    """The right side."""
    rhs: Float[Tensor, " R"]
    """The right side minus the control variate."""
    multiples: Float[Tensor, "R N"]
    """c_n = <g_n, m_n> / ||g_n||^2 along the path: below 0 where the first step does not follow grad J."""
    hypotheses: tuple[Hypothesis, ...]

    @property
    def margin(self) -> Float[Tensor, " R"]:
        """right - left of every replicate; inf where a hypothesis fails."""
        return self.rhs - self.lhs

    @property
    def standard_errors(self) -> float:
        """Mean margin in its standard errors; inf where a hypothesis fails or there is no noise at all."""
        mean, error = float(self.margin.mean()), float(self.margin.std()) / math.sqrt(len(self.margin))
        return mean / error if math.isfinite(mean) and error > 0 else math.copysign(math.inf, mean)

    @property
    def holds(self) -> bool:
        """Whether the mean margin is not below 0 by more than 3 standard errors."""
        return self.standard_errors >= -STANDARD_ERRORS


def check_c2(
    constants: InstanceConstants,
    trace: Trace,
    *,
    batches: str | None = None,
    prompts_per_step: int | None = None,
) -> Sampled:
    """C2 and C2cv: E sum <g_n, E[g_hat_n]> <= right side, for plain ascent with the constants' G, eta and K.

    Both sides [R] are a return over eta K. Ours: see the head of this module for the right side.
    A bound on the drift that is not known, a schedule and Adam are reported, and the right side is inf.
    Raises ValueError for a trace of another world, estimator, G, eta or K, of other batches or prompts where
    these are given, without its path or with too few replicates, and for constants that lack an argument.
    """
    check_constants(constants)
    c = constants
    c.require("estimator", "group_size", "learning_rate", "inner_steps")
    G = c.responses_in_a_group
    check_settings(c, trace)
    made = batches_of(batches, trace)
    P = trace.settings.prompts_per_step
    if prompts_per_step is not None:
        compare("prompts_per_step", prompts_per_step, P, "prompts_per_step={made}")
    path = whole_path(trace)[:, :-1]
    R, N = path.shape[:2]
    if R < 2:
        raise ValueError(f"the trace has {R} replicate: C2 is judged by the spread of at least 2")
    first = first_step(c.mdp, path.flatten(0, 1), c.estimator, G)
    q = averaged(first, P * made.drawn(c.inner_steps)).reshape(R, N)
    ascent = (first.gradient * first.mean).sum(dim=(1, 2)).reshape(R, N)
    norm = first.gradient.square().sum(dim=(1, 2)).sqrt().reshape(R, N)
    bounded = Hypothesis("the drift is bounded", "e" in c, c.notes.get("row", "") or c.why_not("e"))
    hypotheses = (*plain_ascent(trace), bounded)
    there = all(hypothesis.holds for hypothesis in hypotheses)
    e = DRIFT[made](c, q) if there else torch.full_like(q, math.inf)
    span = c.learning_rate * c.inner_steps
    added = (norm * e + c.L_J / 2 * span * (q.sqrt() + e).square()).sum(dim=1)
    plain = (trace.final_return - trace.initial_return) / span + added
    lhs = ascent.sum(dim=1)
    variate = trace.sum_gradient_dot_first - lhs
    return Sampled(lhs, plain, plain - variate, ascent / norm.square(), hypotheses)


def averaged(first: FirstStep, groups: int) -> Float[Tensor, " M"]:
    """E||mean of the first steps of independent groups||^2."""
    square = first.mean.square().sum(dim=(1, 2))
    return square + (first.second_moment - square) / groups


def drift_of_any_groups(c: InstanceConstants, q: Float[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """e_n = Lambda eta (K-1) D / 2, whichever groups the K steps are taken on."""
    if c.inner_steps == 1 or c.Lambda == 0:
        return torch.zeros_like(q)
    return torch.full_like(q, c.Lambda * c.learning_rate * (c.inner_steps - 1) * c.D / 2)


def drift_of_one_group(c: InstanceConstants, q: Float[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """e_n = min(tau sqrt(q_n), Lambda eta (K-1) D / 2), where all K steps are taken on one group."""
    always = drift_of_any_groups(c, q)
    # tau may be inf where q is 0.
    return always if math.isinf(c.tau) else torch.minimum(c.tau * q.sqrt(), always)


DRIFT = {Batches.REUSED: drift_of_one_group, Batches.DISJOINT: drift_of_any_groups}
"""The bound e_n on the drift within K steps, [R, N]."""
