"""Claim: the floor of E||grad J||^2 falls as 1/G from small groups on, without an end.

    python experiments/convergence_G.py

The floors of convergence_eta_K.py, with its series, burn-in, tails and intervals, against the number G of
responses in an outer step. At the optimum of world "xor" the first gradient has mean c grad J exactly (two
reward values, one length): nothing is left of the floor when its variance, which is to 1/G, is gone.

    slope        of log floor on log G at each eta K. A little below -1: normalising by the standard deviation
                 of small groups makes steps shorter and noisier, by a factor 1 + O(1/G) that is known exactly
    regression   weighted, on {eta K / G, eta K, 1/G, 1}: the second and third are what the printed O(eta K) +
                 O(1/G) asserts. Then with the exact first order in the place of eta K / G, and the next:
                 otherwise that factor is booked under the separate terms

A tail of the same length on world "tree" is a stretch of a fall that goes on, whatever G.

Writes results/convergence_G.parquet, results/convergence_G.json, figures/convergence_G.png. Two minutes.

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

"""Its default takes longer than a minute."""

MAY_BE_MISSING = ("fixed_point", "root", "first_order", "relaxation", "without_burn_in")
"""The tree has no place of rest."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is simulated, and where it goes."""

    series: tuple[str, ...] = tuple(grids.SERIES)
    """Estimators with their inner steps, by name."""
    group_sizes: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Responses G of one outer step."""
    steps: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Lengths eta K of an outer step."""
    burn_in: float = 4.0
    """Relaxation times left out at the beginning."""
    tail: float = 20.0
    """Relaxation times that are averaged."""
    replicates: int = 128
    """Independent runs of each cell."""
    seed: int = 1
    """Name of the random numbers; not those of convergence_eta_K.py, whose floors these are compared with."""

    @property
    def effort(self) -> Effort:
        return Effort(self.burn_in, self.tail, self.replicates, self.seed)


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    _ = cfg.effort  # refuses what it cannot be
    experiment.check_lists(cfg, "series", "group_sizes", "steps")
    grids.check_grid(cfg.series, cfg.group_sizes, cfg.steps)


def keys(cfg: Config) -> list[tuple[str, str, int, float]]:
    return grids.cells(cfg.series, cfg.group_sizes, cfg.steps)


def cell(cfg: Config, world: str, series: str, G: int, h: float) -> list[dict[str, Any]]:
    return [dict.fromkeys(MAY_BE_MISSING) | grids.cell(cfg.effort, world, series, G, h)]


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Slopes in G, coefficients of eta K / G, regressions, and whether the tails are stationary."""
    console.print(tables.slope_table(made, "responses", "eta_K", "eta K"))
    console.print(tables.coefficient_table(made))
    console.print(*tables.regression_tables(made))
    tables.print_burn_in(made, console)


def draw(made: pd.DataFrame) -> Figure:
    steps, sizes = sorted(set(made.eta_K)), sorted(set(made.responses))
    h, G = steps[len(steps) // 2], sizes[len(sizes) // 2]
    return plots_floors.convergence_G(made, tables.shares(made, h, G), rf"$\eta K={h:g}$, $G={G}$")


# One row for each floor.
EXPERIMENT = experiment.Experiment(
    name="convergence_G",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="floors",
    may_be_missing=MAY_BE_MISSING,
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
