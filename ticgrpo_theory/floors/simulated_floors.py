"""Tails of simulated runs: the mean of ||grad J||^2 once a run has forgotten where it began.

Lengths are counted in relaxation times of the fixed point, 1 / (a h) outer steps, which are known exactly.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.floors.exact_floors import FixedPoint, fields, floor_at_fixed_point
from ticgrpo_theory.simulate.algorithm import simulate
from ticgrpo_theory.simulate.trace import Trace
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds.mdp import TokenMDP

FEWEST_STEPS = 4
"""Fewest outer steps of a tail: two for each half."""

FEWEST_REPLICATES = 8
"""Fewest replicates whose spread makes a standard error."""


def check_groups(group_sizes: Sequence[int]) -> None:
    """Raise ValueError for a group without a second response."""
    for G in group_sizes:
        if G < 2:
            raise ValueError(f"group size {G}: A needs at least 2 responses; give whole numbers >= 2")


def check_step(name: str, step: float, meaning: str) -> None:
    """Raise ValueError for an outer step after which these runs forget nothing, or jump to and fro."""
    if not 0 < step < 2:
        raise ValueError(
            f"{name} = {step}: {meaning} is > 0, and below 2, where runs in these worlds become stationary; "
            f"give say 0.1"
        )


@dataclass(frozen=True)
class Floor:
    """Tail mean of ||grad J(theta_n)||^2: over the outer steps after `burn_in`, then over replicates."""

    floor: float
    standard_error: float
    half: float
    """Half width of the 95 % interval."""
    raw_standard_error: float
    """That of the tail mean as it is, without its control variate."""
    first_half: float
    second_half: float
    halves_error: float
    """Standard error of second_half - first_half, replicate by replicate."""
    burn_in: int
    tail: int


@dataclass(frozen=True)
class Run:
    """Outer steps of total length `step` = eta K, and how many of them: `burn_in`, then `tail`."""

    group_size: int
    step: float
    burn_in: int
    tail: int
    replicates: int
    seed: int
    inner_steps: int = 1
    batches: str = "reused"
    prompts_per_step: int = 1

    def __post_init__(self) -> None:
        if self.burn_in < 1 or self.tail < FEWEST_STEPS:
            raise ValueError(
                f"burn_in = {self.burn_in}, tail = {self.tail} outer steps: at least 1 and {FEWEST_STEPS} "
                f"are needed; raise the relaxation times of the burn-in or of the tail"
            )

    def simulated(self, mdp: TokenMDP, theta: Tensor, estimator: EstimatorLike, **more: Any) -> Trace:
        """The run from theta; ValueError where a replicate became non-finite."""
        trace = simulate(
            mdp,
            theta,
            estimator,
            group_size=self.group_size,
            learning_rate=self.step / self.inner_steps,
            inner_steps=self.inner_steps,
            replicates=self.replicates,
            seed=self.seed,
            batches=self.batches,
            prompts_per_step=self.prompts_per_step,
            **more,
        )
        lost = int((trace.frozen >= 0).sum())
        if lost:
            raise ValueError(
                f"{lost} of {self.replicates} replicates became non-finite at eta K = {self.step:g}: there "
                f"is no floor; take a smaller eta K"
            )
        return trace


@dataclass(frozen=True)
class Effort:
    """How long runs are, in relaxation times, and how many there are."""

    burn_in: float
    tail: float
    replicates: int
    seed: int

    def __post_init__(self) -> None:
        if not (0 < self.burn_in < math.inf and 0 < self.tail < math.inf):
            raise ValueError(
                f"burn_in = {self.burn_in}, tail = {self.tail}: both are numbers of relaxation times > 0"
            )
        if self.replicates < FEWEST_REPLICATES:
            raise ValueError(
                f"replicates = {self.replicates}: a standard error over replicates needs at least "
                f"{FEWEST_REPLICATES}"
            )

    def run(self, here: FixedPoint, group_size: int, step: float, **settings: Any) -> Run:
        """The run about a fixed point; each (group size, step) has random numbers of its own, which all
        estimators share."""
        relaxation = 1 / (here.rate * step)
        return Run(
            group_size=group_size,
            step=step,
            burn_in=math.ceil(self.burn_in * relaxation),
            tail=math.ceil(self.tail * relaxation),
            replicates=self.replicates,
            seed=seed_of(self.seed, group_size, step),
            **settings,
        )


def floor_row(
    mdp: TokenMDP,
    estimator: EstimatorLike,
    effort: Effort,
    *,
    group_size: int,
    step: float,
    groups: int = 1,
    **settings: Any,
) -> dict[str, Any]:
    """The floor simulated from the fixed point on, beside what is exact: one row of a table.

    `groups` is the number of groups that an outer step averages.
    """
    here = floor_at_fixed_point(mdp, estimator, group_size, groups)
    found = tail_floor(mdp, here.point, estimator, effort.run(here, group_size, step, **settings))
    known = {"fixed_point": here.point, "root": here.root, "first_order": here.root + here.noise * step}
    return asdict(found) | known | {"relaxation": 1 / (here.rate * step)}


def tail_mean(mdp: TokenMDP, theta: Tensor, estimator: EstimatorLike, run: Run) -> Floor:
    """The tail mean of a run from theta on any world, as it is."""
    trace = run.simulated(mdp, theta, estimator, outer_steps=run.burn_in + run.tail)
    return measured(trace.gradient_norm_sq[:, run.burn_in :], torch.zeros(run.replicates).double(), run)


def tail_floor(mdp: TokenMDP, start: float, estimator: EstimatorLike, run: Run) -> Floor:
    """The tail mean of a run from pi(0) = `start`, measured by a control variate.

    Z = mean over the tail of <g_n, g_hat_{n,0}> - g(x_n) m(x_n) has mean exactly 0, and what noise does to
    ||g_n||^2 it does to <g_n, g_hat_{n,0}>. At an optimum J moves by h <g_n, g_hat_{n,0}> - lambda h^2
    ||g_hat_{n,0}||^2 / 2 and comes back, so that c ||g||^2 + Z has next to no variance left.
    """
    theta = policy(mdp, start)
    whole = run.simulated(mdp, theta, estimator, outer_steps=run.burn_in + run.tail, record_theta=True)
    # The same replicates, to the bit, up to the first step of the tail.
    before = run.simulated(mdp, theta, estimator, outer_steps=run.burn_in, record_every=run.burn_in)
    x = coordinate(whole.path[:, run.burn_in :]).numpy()
    known = fields(mdp, estimator, run.group_size, float(x.min()) - 1e-6, float(x.max()) + 1e-6)
    dots = (whole.sum_gradient_dot_first - before.sum_gradient_dot_first).numpy() / run.tail
    control = dots - (known.gradient(x) * known.mean(x)).mean(axis=1)
    return measured(whole.gradient_norm_sq[:, run.burn_in :], torch.from_numpy(control), run)


def measured(squares: Float[Tensor, "R N"], control: Float[Tensor, " R"], run: Run) -> Floor:
    """The floor from ||g_n||^2 of the tail: intercept of the regression over replicates on Z of mean 0."""
    R, N = squares.shape
    raw = squares.mean(dim=1)
    centred = control - control.mean()
    spread = float(centred.square().sum())
    adjusted = raw - (float((raw * centred).sum()) / spread if spread > 0 else 0.0) * control
    # The slope takes one degree of freedom.
    found, lost = interval(adjusted), math.sqrt((R - 1) / (R - 2))
    first, second = squares[:, : N // 2].mean(dim=1), squares[:, N // 2 :].mean(dim=1)
    return Floor(
        floor=float(found.mean),
        standard_error=lost * float(adjusted.std()) / math.sqrt(R),
        half=lost * float(found.half),
        raw_standard_error=float(raw.std()) / math.sqrt(R),
        first_half=float(first.mean()),
        second_half=float(second.mean()),
        halves_error=float((second - first).std()) / math.sqrt(R),
        burn_in=run.burn_in,
        tail=N,
    )


def coordinate(theta: Float[Tensor, "*b 1 2"]) -> Float[Tensor, "*b"]:
    """x = (theta[0] - theta[1]) / sqrt 2, the distance of the two logits along (1, -1) / sqrt 2."""
    return (theta[..., 0, 0] - theta[..., 0, 1]) / math.sqrt(2)


def seed_of(seed: int, *names: str | int | float) -> int:
    """A seed of its own for each cell of a grid, so that the errors of its cells are independent."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *names]).encode()).digest()[:8], "big")
