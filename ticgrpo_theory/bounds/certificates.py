"""What a run must satisfy, checked with exact J and grad J: an identity, and a bound for every replicate.

With g_n = grad J(theta_n), Delta_n = theta_{n+1} - theta_n and the remainder
rem_n = J(theta_{n+1}) - J(theta_n) - <g_n, Delta_n>,

    C0   J(theta_N) - J(theta_0) = sum_n (<g_n, Delta_n> + rem_n),   |rem_n| <= (L_J / 2) ||Delta_n||^2
    C1   sum_n <g_n, Delta_n> <= J(theta_N) - J(theta_0) + (L_J / 2) sum_n ||Delta_n||^2

Neither asks how Delta_n came about: they hold for any estimator, clip, optimizer, lengths and prompts, in the
world that was simulated.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.bounds.constants import instance_constants
from ticgrpo_theory.bounds.hypotheses import check_double, check_whole, check_world
from ticgrpo_theory.exact.responses.many_policies import returns_and_gradients, unroll
from ticgrpo_theory.simulate.trace import Trace
from ticgrpo_theory.worlds.mdp import TokenMDP

TOLERANCE = 1e-9
"""Rounding that thousands of steps may add up to, relative to numbers of size one or larger."""


@dataclass(frozen=True, eq=False)
class Check:
    """lhs <= rhs for each of R replicates [R], up to rounding, in the units of the reward.

    Made by the checks, which raise ValueError for a trace they are not about. Ours.
    """

    lhs: Float[Tensor, " R"]
    rhs: Float[Tensor, " R"]

    @property
    def slack(self) -> Float[Tensor, " R"]:
        """right - left."""
        return self.rhs - self.lhs

    @property
    def holds(self) -> bool:
        """Whether no replicate violates the bound; False where a number is NaN."""
        size = torch.stack([self.lhs.abs(), self.rhs.abs()]).amax(dim=0).clamp(min=1.0)
        return bool((self.slack >= -TOLERANCE * size).all())


def check_c1(mdp: TokenMDP, trace: Trace) -> Check:
    """C1: sum <g_n, Delta_n> <= J(theta_N) - J(theta_0) + (L_J / 2) sum ||Delta_n||^2, for every replicate.

    The sums are those of every step, whatever was recorded; of a frozen replicate those up to its last step.
    Both sides [R] are in the units of the reward. Ours: J is L_J-smooth, nothing else is assumed.
    Raises ValueError for a trace of another world or in single precision.
    """
    check_world(mdp, trace)
    check_double(trace)
    rise = trace.final_return - trace.initial_return
    bend = instance_constants(mdp).L_J / 2 * trace.sum_move_norm_sq
    return Check(trace.sum_gradient_dot_move, rise + bend)


@dataclass(frozen=True, eq=False)
class Identity:
    """The identity C0, from a path and from the sums that the run kept."""

    residual: Float[Tensor, " R"]
    """J(theta_N) - J(theta_0) - sum of <g_n, Delta_n> as the run kept it - sum of rem_n from the path."""
    remainder: Float[Tensor, "R N"]
    """rem_n."""
    bound: Float[Tensor, "R N"]
    """(L_J / 2) ||Delta_n||^2."""

    @property
    def holds(self) -> bool:
        """Whether the residual is rounding, and no remainder is larger than its bound."""
        closes = bool((self.residual.abs() <= TOLERANCE).all())
        return closes and bool((self.remainder.abs() <= self.bound + TOLERANCE).all())


def check_c0(mdp: TokenMDP, trace: Trace) -> Identity:
    """C0: J(theta_N) - J(theta_0) = sum (<g_n, Delta_n> + rem_n), J and grad J found again from the path.

    Residual [R] and remainders [R, N] are in the units of the reward. Ours: Taylor's theorem for J.
    Raises ValueError unless the trace is of this world, in double precision, with the logits of every step.
    """
    check_world(mdp, trace)
    check_double(trace)
    path = whole_path(trace)
    R, steps = path.shape[:2]
    prompts = unroll(mdp, torch.zeros_like(path[0, 0]), None)
    J, gradient = returns_and_gradients(prompts, path.flatten(0, 1))
    J, gradient = J.reshape(R, steps), gradient.reshape(path.shape)
    move = path.diff(dim=1)
    remainder = J.diff(dim=1) - (gradient[:, :-1] * move).sum(dim=(2, 3))
    rise = trace.final_return - trace.initial_return
    bound = instance_constants(mdp).L_J / 2 * move.square().sum(dim=(2, 3))
    return Identity(rise - trace.sum_gradient_dot_move - remainder.sum(dim=1), remainder, bound)


def whole_path(trace: Trace) -> Float[Tensor, "R M S V"]:
    """theta_0, ..., theta_N; ValueError where a step is missing."""
    check_whole(trace)
    if trace.path.shape[1] == 0:
        raise ValueError(
            "the trace does not keep the logits of its steps, which this certificate evaluates: simulate "
            "with record_theta=True"
        )
    return torch.cat([trace.path, trace.theta[:, None]], dim=1)
