"""Claim: reusing old data K times multiplies the step that must stay below a limit, unless w' corrects it.

    python experiments/stability.py            # about two minutes on one core

With infinite groups the algorithms are maps of logits. Each is followed from pi(0) = 0.6 towards the maximum
of J at pi(0) = 1/2, unclipped, with K = 16 inner steps and eta such that `step` = eta K c, c being the
multiple of grad J that all of them estimate at the maximum: c = kappa ("centred", A = r - mu) or kappa /
sigma ("standardised", sigma of theta_old). Below its threshold a map converges; above, it swings for
ever. A swing much too wide ends where the policy is sure of a wrong answer and the gradient is small, so
`distance` decides, not `gradient_sq`.

    threshold       step at which |d theta_{n+1} / d theta_n| at the maximum passes 1
    gradient_sq     mean of ||grad J(theta_n,0)||^2 over the last outer steps
    distance        mean of |pi(0) - 1/2| over them
    distance_half   half-width of its 95 % interval over replicates; 0 where nothing is sampled
    batches         "infinite"; "reused", "disjoint": groups of G drawn, A from `leave_one_out`, whose mean is
                    that of "centred" at any G

stale: gradient held at theta_old; no_is: the same weights 1, but the score at theta; grpo: token ratio;
tic_grpo: trajectory ratio. World "xor": two tokens from one row, right when they differ, kappa = 1/2. World
"length-trap": right when the response ends at length 2, kappa = 1. Only where right answers are longer or
shorter than wrong ones do no_is and stale differ on one row of logits.

Writes results/stability.parquet, results/stability.json, figures/stability.png.

Paper: arXiv:2508.02833 v2, Sec. 4 and 5, whose bounds do not tell the algorithms apart.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq
from torch import Tensor

from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import Advantage, centred, leave_one_out, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import current, old
from ticgrpo_theory.estimators.ratios import none, token, trajectory
from ticgrpo_theory.estimators.scales import Scale, sequence_mean, sequence_sum
from ticgrpo_theory.exact.mean.mean_field import MeanField
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import runs as plots_runs
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds import WORLDS, first_token


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("xor", "length-trap")
    """"xor" or "length-trap"."""
    estimators: tuple[str, ...] = ("stale", "no_is", "grpo", "tic_grpo")
    """Estimators, by the names above."""
    advantages: tuple[str, ...] = ("centred", "standardised")
    """Of infinite groups: "centred" (c stays) or "standardised" (c follows theta_old)."""
    steps: tuple[float, ...] = (
        *(1.0, 2.0, 3.0, 3.4, 3.8, 3.95, 4.05, 4.2, 4.6, 5.0, 6.0, 7.0, 7.6, 8.4, 9.2, 10.0, 12.0),
        *(16.0, 24.0, 30.0, 45.0, 60.0, 62.0, 66.0, 80.0, 100.0, 120.0, 126.0, 132.0, 160.0),
    )
    """Values of eta K c with infinite groups."""
    K: int = 16
    """Inner steps between two refreshes of theta_old."""
    outer_steps: int = 500
    """Outer steps N with infinite groups."""
    tail: int = 100
    """Last outer steps, over which the means are taken."""
    start: float = 0.6
    """pi(0) at the beginning, not 1/2."""
    sampled_steps: tuple[float, ...] = (1.0, 2.0, 3.0, 3.8, 4.2, 5.0, 8.0, 12.0, 16.0, 30.0, 60.0, 80.0)
    """Values of eta K c with groups that are drawn."""
    group_size: int = 64
    """Responses G of a group that is drawn."""
    replicates: int = 8
    """Runs with random numbers of their own."""
    sampled_outer_steps: int = 150
    """Outer steps N with groups that are drawn; the second half is the tail."""
    seed: int = 0
    """Names the random numbers."""


SCALES: dict[str, tuple[Scale, float]] = {
    "xor": (sequence_mean, 0.5),
    # 1/length would move the point of rest away from the maximum; see experiments/length_bias.py.
    "length-trap": (sequence_sum, 1.0),
}
"""Scale and kappa of each world. In both, J is largest at pi(0) = 1/2 and J = J* (1 - 4 (pi(0) - 1/2)^2)."""

AXES = {
    "stale": (none, old),
    "no_is": (none, current),
    "grpo": (token, current),
    "tic_grpo": (trajectory, current),
}
ADVANTAGES: dict[str, Advantage] = {"centred": centred(), "standardised": standardised(delta=0.0)}
BATCHES = ("reused", "disjoint")

CONVERGED = 1e-6
"""Mean distance up to which a map counts as converged."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "estimators", "advantages", "steps", "sampled_steps")
    experiment.check_names(cfg, worlds=SCALES, estimators=AXES, advantages=ADVANTAGES)
    for step in (*cfg.steps, *cfg.sampled_steps):
        if not 0 < step < math.inf:
            raise ValueError(f"step = {step}: eta K c is finite and above 0; for instance --steps 3.8 4.2")
    if not 0 < cfg.start < 1 or cfg.start == 0.5:
        raise ValueError(f"start = {cfg.start}: a probability other than 1/2, where no map moves; give 0.6")
    if not 1 <= cfg.tail <= cfg.outer_steps or cfg.sampled_outer_steps < 2:
        raise ValueError(
            f"tail = {cfg.tail}, outer_steps = {cfg.outer_steps}, sampled_outer_steps = "
            f"{cfg.sampled_outer_steps}: a tail is part of its run; give 1 <= tail <= outer_steps, and 2 or "
            f"more sampled outer steps"
        )


def keys(cfg: Config) -> list[tuple[str, str, str, str]]:
    kinds = [("infinite", advantage) for advantage in cfg.advantages]
    kinds += [(batches, "leave_one_out") for batches in BATCHES]
    return [(world, name, *kind) for world in cfg.worlds for name in cfg.estimators for kind in kinds]


def estimator_of(world: str, name: str, advantage: Advantage) -> Estimator:
    ratio, score = AXES[name]
    return Estimator(ratio, advantage, unclipped(), SCALES[world][0], score=score)


def highest(mdp: TokenMDP) -> float:
    """J* = J at pi(0) = 1/2."""
    field = MeanField(mdp, estimator_of("xor", "stale", centred()))
    return float(field.returns(first_token(0.5)(mdp)[None])[0])


def rate(cfg: Config, world: str, advantage: str) -> float:
    """eta for eta K c = 1."""
    c = SCALES[world][1]
    if advantage == "standardised":
        J = highest(WORLDS[world].build())
        c /= math.sqrt(J * (1 - J))
    return 1 / (cfg.K * c)


def distance(expected_return: Float[Tensor, "..."], J: float) -> Float[Tensor, "..."]:
    """|pi(0) - 1/2| = sqrt(1 - J / J*) / 2."""
    return (1 - expected_return / J).clamp(min=0).sqrt() / 2


def multiplier(field: MeanField, eta: float, K: int) -> float:
    """d theta_{n+1} / d theta_n along (1, -1) at the maximum; what is left of the difference is O(h^2)."""
    h = 1e-5
    ends = torch.tensor([[[h, -h]], [[-h, h]]], dtype=torch.float64)
    moved = field.outer_step(ends, torch.full((2,), eta, dtype=torch.float64), K)
    return float(moved[0, 0, 0] - moved[1, 0, 0]) / (2 * h)


def threshold(field: MeanField, K: int, eta: float) -> float:
    """Least eta K c at which the multiplier leaves [-1, 1], given the eta of eta K c = 1."""

    def excess(step: float) -> float:
        return abs(multiplier(field, step * eta, K)) - 1

    low = 1.0
    while excess(1.2 * low) < 0:
        low *= 1.2
    return float(brentq(excess, low, 1.2 * low, xtol=1e-12))


def cell(cfg: Config, world: str, name: str, batches: str, advantage: str) -> list[dict[str, Any]]:
    mdp = WORLDS[world].build()
    mean = centred() if batches != "infinite" else ADVANTAGES[advantage]
    field = MeanField(mdp, estimator_of(world, name, mean))
    eta = rate(cfg, world, advantage)
    limit = threshold(field, cfg.K, eta)
    if batches == "infinite":
        found, G = followed(cfg, field, eta), math.inf
    else:
        found, G = sampled(cfg, world, name, batches, eta), cfg.group_size
    return [
        {
            "world": world,
            "estimator": name,
            "batches": batches,
            "advantage": advantage,
            "group_size": float(G),
            "K": cfg.K,
            "step": step,
            "threshold": limit,
            "gradient_sq": gradient_sq,
            "distance": away,
            "distance_half": half,
        }
        for step, gradient_sq, away, half in found
    ]


def followed(cfg: Config, field: MeanField, eta: float) -> Iterator[tuple[float, float, float, float]]:
    """(step, gradient_sq, distance, 0) of the maps."""
    theta = first_token(cfg.start)(field.mdp).expand(len(cfg.steps), -1, -1)
    gradient_sq, away = torch.zeros(2, len(cfg.steps), dtype=torch.float64)
    path = field.path(theta, eta * torch.tensor(cfg.steps, dtype=torch.float64), cfg.K, cfg.outer_steps)
    for n, at in enumerate(path, start=1):
        if n > cfg.outer_steps - cfg.tail:
            gradient_sq += field.returns(at)[1].square().sum(dim=(1, 2)) / cfg.tail
            away += (torch.softmax(at, dim=-1)[:, 0, 0] - 0.5).abs() / cfg.tail
    for step, square, mean in zip(cfg.steps, gradient_sq.tolist(), away.tolist(), strict=True):
        yield step, square, mean, 0.0


def sampled(
    cfg: Config, world: str, name: str, batches: str, eta: float
) -> Iterator[tuple[float, float, float, float]]:
    """(step, gradient_sq, distance, half-width) of simulated runs; replicate r has the same draws in all."""
    mdp = WORLDS[world].build()
    J = highest(mdp)
    for step in cfg.sampled_steps:
        trace = simulate(
            mdp,
            first_token(cfg.start)(mdp),
            estimator_of(world, name, leave_one_out()),
            group_size=cfg.group_size,
            learning_rate=step * eta,
            inner_steps=cfg.K,
            outer_steps=cfg.sampled_outer_steps,
            replicates=cfg.replicates,
            seed=cfg.seed,
            batches=batches,
        )
        tail = slice(cfg.sampled_outer_steps // 2, None)
        away = interval(distance(trace.expected_return[:, tail], J).mean(dim=1))
        yield step, float(trace.gradient_norm_sq[:, tail].mean()), float(away.mean), float(away.half)


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Thresholds, and between which steps the maps begin to swing; then the same with noise."""
    for world in cfg.worlds:
        table = Table(
            "estimator", "A", "threshold", "converges up to", "swings from", title=f"{world}: G = inf"
        )
        exact = made[(made.world == world) & (made.batches == "infinite")]
        for name in cfg.estimators:
            for advantage in cfg.advantages:
                own = exact[(exact.estimator == name) & (exact.advantage == advantage)]
                rest, swing = (
                    own[own.distance < CONVERGED].step.max(),
                    own[own.distance >= CONVERGED].step.min(),
                )
                table.add_row(name, advantage, f"{own.threshold.iloc[0]:.4f}", f"{rest:g}", f"{swing:g}")
        console.print(table)
        for batches in BATCHES:
            noisy = made[(made.world == world) & (made.batches == batches)]
            table = Table("estimator", *(f"{step:g}" for step in cfg.sampled_steps))
            table.title = f"{world}: mean |pi(0) - 1/2|, G = {cfg.group_size}, {batches}"
            for name in cfg.estimators:
                own = noisy[noisy.estimator == name].sort_values("step")
                table.add_row(name, *(f"{x:.3f}" for x in own.distance))
            console.print(table)


def draw(made: pd.DataFrame) -> Figure:
    return plots_runs.stability(made)


# One row for each (world, estimator, advantage or kind of groups, step).
EXPERIMENT = experiment.Experiment(
    name="stability",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x estimators x kinds of groups",
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
