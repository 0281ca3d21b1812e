"""Claim: the token ratio estimates neither the old gradient nor the current one: it misses both by O(drift).

    python experiments/bias_vs_drift.py

theta = theta_old + drift u, ||u|| = 1; u is "uphill", grad J(theta_old), or "sine", which knows no reward.
Leave-one-out advantages, scale 1/G, no clip: at theta_old every ratio gives grad J exactly, at any G, so that
nothing but the ratio tells them apart. Columns:

    error_current, error_old    ||E[g_hat] - grad J(theta)||, ||E[g_hat] - grad J(theta_old)||
    moved                       ||grad J(theta) - grad J(theta_old)||
    nearer                      error_current / (error_current + error_old): 0 the current gradient, 1 the old

With H_d the part of the Hessian in which a score meets itself and H_o = H - H_d, where it meets the others,
the token ratio errs by ||H_o u|| drift and ||H_d u|| drift to first order (frozen states and frozen Q), no
ratio with the score held at theta_old by ||H u|| drift and 0, the trajectory ratio by 0 and ||H u|| drift.

The terminal shows both errors at the smallest drift, over ||grad J(theta) - grad J(theta_old)||, from which
drift on the other gradient is the nearer one, and the powers of the drift.
Nothing is sampled: no error bars. Writes results/bias_vs_drift.parquet, results/bias_vs_drift.json and
figures/bias_vs_drift.png; 10 s on one core.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ticgrpo_theory.estimators import Estimator, ratios
from ticgrpo_theory.estimators.advantages import leave_one_out
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import Problem, policy_gradient
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import bias as plots_bias
from ticgrpo_theory.stats import direction as directions
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds import WORLDS

G = 2
"""Any G gives the same: a leave-one-out advantage is r - mu in expectation."""

RATIOS: dict[str, Estimator] = {
    "none, score at old": Estimator(ratios.none, leave_one_out(), unclipped(), sequence_sum, score=old),
    **{
        ratio.__name__: Estimator(ratio, leave_one_out(), unclipped(), sequence_sum)
        for ratio in (ratios.none, ratios.token, ratios.geometric_mean, ratios.prefix, ratios.trajectory)
    },
}

DRAWN_WORLDS = {
    "right-answer": "right-answer: sparse reward",
    "count-mod-3": "count-mod-3: T = 10, shared rows",
    "long-answers": "long-answers: several lengths",
}


def uphill(mdp: TokenMDP, theta_old: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
    """u = grad J(theta_old) / ||grad J(theta_old)||: where a step of gradient ascent leads."""
    gradient = policy_gradient(mdp, theta_old)
    return gradient / gradient.norm()


def sine(mdp: TokenMDP, theta_old: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
    """u = x / ||x||, x = sin(1), sin(2), ... in the order of the table."""
    return directions.sine(theta_old)


DIRECTIONS = {direction.__name__: direction for direction in (uphill, sine)}


@dataclass(frozen=True)
class Config(Folders):
    """What each ratio estimates as theta leaves theta_old."""

    worlds: tuple[str, ...] = ("xor", *DRAWN_WORLDS, "few-values", "bigram")
    """Worlds, by name (those of bias_vs_K --list)."""
    ratios: tuple[str, ...] = tuple(RATIOS)
    """Ratios, by name; "none, score at old" holds the gradient at theta_old."""
    directions: tuple[str, ...] = tuple(DIRECTIONS)
    """Directions in which theta leaves theta_old."""
    drifts: tuple[float, ...] = tuple(float(x) for x in np.geomspace(1e-3, 3.0, 15).round(6))
    """Distances ||theta - theta_old||."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "ratios", "directions", "drifts")
    experiment.check_names(cfg, worlds=WORLDS, ratios=RATIOS, directions=DIRECTIONS)
    for drift in cfg.drifts:
        if not 0 < drift < math.inf:
            raise ValueError(f"drift = {drift}: a distance is finite and above 0; give for instance 0.1")


def keys(cfg: Config) -> list[tuple[str, str]]:
    return [(world, direction) for world in cfg.worlds for direction in cfg.directions]


def trace(cfg: Config, world: str, direction: str) -> list[dict[str, Any]]:
    """The rows of one world and direction: every ratio and drift."""
    mdp = WORLDS[world].build()
    theta_old = WORLDS[world].theta_old(mdp)
    u = DIRECTIONS[direction](mdp, theta_old)
    made = []
    for name in cfg.ratios:
        start = Problem(mdp, theta_old, theta_old, RATIOS[name], G)
        for drift in cfg.drifts:
            about = {"world": world, "direction": direction, "ratio": name, "drift": drift}
            made.append(about | errors(start.at(theta_old + drift * u)))
    return made


def errors(problem: Problem) -> dict[str, float]:
    """How far E[g_hat] is from the gradient at theta and at theta_old, and how far these are apart."""
    mean, now, before = problem.mean, problem.gradient, problem.old.gradient
    current, past = float((mean - now).norm()), float((mean - before).norm())
    return {
        "error_current": current,
        "error_old": past,
        "moved": float((now - before).norm()),
        "gradient_norm_old": float(before.norm()),
        "nearer": current / (current + past) if current + past > 0 else 0.5,
    }


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Both errors over what the gradient moved, and where the nearer of the two gradients changes."""
    for direction, first in itertools.product(cfg.directions, range(0, len(cfg.worlds), 3)):
        worlds = cfg.worlds[first : first + 3]
        table = Table("ratio", *worlds, title=f"{direction}: error to current, to old gradient")
        for name in cfg.ratios:
            parts = (made[(made.world == world) & (made.ratio == name)] for world in worlds)
            table.add_row(name, *(entry(of[of.direction == direction]) for of in parts))
        console.print(table)
    console.print(
        f"1.61 0.61 >2.3: errors over ||grad J(theta) - grad J(theta_old)|| at drift {min(cfg.drifts):g}; "
        f"the other gradient is nearer from drift 2.3 on.",
        style="dim",
    )
    fits = [
        fit_power_law(of.drift.to_numpy(), of[column].to_numpy())
        for _, of in made.groupby(["world", "direction", "ratio"])
        for column in ("error_current", "error_old")
        if of[column].min() > ROUNDING
    ]
    slopes = [fit.slope for fit in fits if fit is not None]
    if slopes:
        console.print(
            f"{len(slopes)} of {len(fits)} errors that are not 0 are power laws of the drift at first, with "
            f"slopes from {min(slopes):.2f} to {max(slopes):.2f}."
        )


def entry(of: pd.DataFrame) -> str:
    """Both errors at the smallest drift over what the gradient moved, and the crossovers."""
    of = of.sort_values("drift")
    first = of.iloc[0]
    shares = (first.error_current / first.moved, first.error_old / first.moved)
    at = crossover(of.drift.to_numpy(), of.nearer.to_numpy())
    return " ".join([*(f"{share:.2f}" for share in shares), *(f">{x:.2g}" for x in at)])


def crossover(drift: np.ndarray, nearer: np.ndarray) -> list[float]:
    """Drifts at which the nearer gradient changes: geometric means of the drifts before and after."""
    side = nearer > 0.5
    return [math.sqrt(drift[i] * drift[i + 1]) for i in range(len(side) - 1) if side[i] != side[i + 1]]


def draw(made: pd.DataFrame) -> Figure:
    """Errors uphill in DRAWN_WORLDS, or in the first worlds and the first direction that there are."""
    worlds = [name for name in WORLDS if name in set(made.world)]
    chosen = [name for name in DRAWN_WORLDS if name in worlds] or worlds[:3]
    directions = [name for name in DIRECTIONS if name in set(made.direction)]
    names = [name for name in RATIOS if name in set(made.ratio)]
    return plots_bias.bias_vs_drift(
        made[made.direction == directions[0]], {name: DRAWN_WORLDS.get(name, name) for name in chosen}, names
    )


# One row for each (world, direction, ratio, drift).
EXPERIMENT = experiment.Experiment(
    name="bias_vs_drift",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=trace,
    show=show,
    draw=draw,
    what="worlds x directions",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
