"""Claim: the floor of E||grad J||^2 is proportional to the product eta K / G, not O(eta K) + O(1/G).

    python experiments/convergence_eta_K.py

Floors of Algorithms 1 and 2 (delta = 0; no clip: that of grpo would not act in steps so short) against eta K
on world "xor", J = 2 p (1 - p), whose optimum p = 1/2 keeps noise:

    one-step       stale, grpo and TIC with Eq. 11's 1/|s|, K = 1: the same estimator before any drift
    grpo           K = 4 on one group           tic-eq11, tic-literal   TIC likewise, with 1/|s| and without
    grpo-disjoint  K = 4 on four groups of G/4: the same G responses in an outer step

The terminal shows slopes of log floor on log eta K; floor G / (eta K) beside its exact limit for eta K -> 0,
lambda tr(G Cov g_hat) / (2 c); and the weighted regression on {eta K / G, eta K, 1/G, 1}, then with that
exact first order in the place of eta K / G, and the next order. Every interval is 95 %, from standard errors
over replicates, with the control variate of `tails.tail_floor`.

Burn-in. Runs start *at* the optimum and spread, E (x - x*)^2 = s^2 (1 - e^(-2 n / t)), with the relaxation
time t = 1 / (eta K c lambda) in outer steps. After 4 t, a mean over 20 t misses a share of e^-8 / 40 < 1e-5
of the stationary value, far less than the errors; and the two halves of every tail are compared. From
p = 0.7, averaging everything, the transient would hide the floor until (J* - J) G / (c C (eta K)^2) outer
steps, with C = floor G / (eta K): column `without_burn_in`.

World "tree" has the same responses and rewards, but a row for each prefix, and begins at pi(0) = 0.7: its
optimum is at infinity, where noise dies, so the same stretch of steps shows no floor: ||grad J||^2 falls on.

Writes results/convergence_eta_K.parquet, results/convergence_eta_K.json, figures/convergence_eta_K.png.
Two minutes.

Paper: arXiv:2508.02833 v2, Theorems 5.1 and 5.2.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.floors import grid_tables as tables
from ticgrpo_theory.floors import grids
from ticgrpo_theory.floors.simulated_floors import Effort
from ticgrpo_theory.plots import floors as plots_floors
from ticgrpo_theory.plots.style import select

"""Its default takes longer than a minute."""

MAY_BE_MISSING = (
    "series", "relaxation", "standard_error", "raw_standard_error", "first_half", "second_half",
    "halves_error", "burn_in", "tail", "fixed_point", "root", "first_order", "without_burn_in", "time",
)  # fmt: skip
"""A row is a floor, with a place of rest on "xor" alone, or a stretch of a path."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is simulated, and where it goes."""

    series: tuple[str, ...] = tuple(grids.SERIES)
    """Estimators with their inner steps, by name."""
    group_sizes: tuple[int, ...] = (4, 16, 64)
    """Responses G of one outer step."""
    steps: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2)
    """Lengths eta K of an outer step."""
    paths: tuple[float, ...] = (0.05, 0.2)
    """Values of eta K whose runs from p = 0.7 are followed on both worlds, at the second group size."""
    path_length: float = 400.0
    """eta K n up to which they are followed."""
    burn_in: float = 4.0
    """Relaxation times left out at the beginning."""
    tail: float = 20.0
    """Relaxation times that are averaged."""
    replicates: int = 128
    """Independent runs of each cell."""
    seed: int = 0
    """Name of the random numbers."""

    @property
    def effort(self) -> Effort:
        return Effort(self.burn_in, self.tail, self.replicates, self.seed)


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    _ = cfg.effort  # refuses what it cannot be
    experiment.check_lists(cfg, "series", "group_sizes", "steps", "paths")
    grids.check_grid(cfg.series, cfg.group_sizes, (*cfg.steps, *cfg.paths))
    if not cfg.path_length >= 1:
        raise ValueError(
            f"path_length = {cfg.path_length}: eta K n must reach 1 at least, and 100 to show a floor"
        )


def keys(cfg: Config) -> list[tuple[str, str, str, int, float]]:
    """("floor", world, series, G, eta K) and ("path", world, "", G, eta K)."""
    floors = [("floor", *key) for key in grids.cells(cfg.series, cfg.group_sizes, cfg.steps)]
    G = cfg.group_sizes[min(1, len(cfg.group_sizes) - 1)]
    return floors + [("path", world, "", G, h) for world in ("xor", "tree") for h in cfg.paths]


def cell(cfg: Config, kind: str, world: str, series: str, G: int, h: float) -> list[dict[str, Any]]:
    if kind == "floor":
        made = [grids.cell(cfg.effort, world, series, G, h)]
    else:
        made = grids.path_rows(world, G, h, cfg.path_length, cfg.replicates, cfg.seed)
    empty = dict.fromkeys(MAY_BE_MISSING)
    return [{"kind": kind, **empty, **row} for row in made]


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Slopes in eta K, coefficients of eta K / G, regressions, and whether the tails are stationary."""
    floors = select(made, kind="floor")
    console.print(tables.slope_table(floors, "eta_K", "responses", "G"))
    console.print(tables.coefficient_table(floors))
    console.print(*tables.regression_tables(floors))
    tables.print_burn_in(floors, console)


def draw(made: pd.DataFrame) -> Figure:
    return plots_floors.convergence_eta_K(made)


# One row for each floor, and for each stretch of a path.
EXPERIMENT = experiment.Experiment(
    name="convergence_eta_K",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="floors and paths",
    may_be_missing=MAY_BE_MISSING,
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
