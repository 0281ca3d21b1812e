"""Claim: with lengths that vary, 1/|s| leaves a floor that neither more responses nor smaller steps lower.

    python experiments/length_floor.py

Floors of Algorithms 1 and 2 as they are run, clip and reuse included (delta = 0), on world length-trap: right
when the length is 2, J = p (1 - p), p the probability of token 0, best at p = 1/2.

    1/(G |s|)       grpo, tic_grpo_eq11    fixed point p = 0.6614 for every G: ||grad J||^2 = 1.045e-2
    1/sum_j |s_j|   dapo                   fixed point near the optimum: floor O(1/G^2), noise O(eta K / G)
    1/G             tic_grpo               fixed point at the optimum: noise alone

    root            ||grad J||^2 at the exact fixed point, the floor of eta K -> 0
    first_order     root + eta K times an exact coefficient: the noise of eta K > 0, without the drift inside
                    an outer step, which moves a fixed point that is no optimum by O(eta K)
    floor           simulated, E||grad J||^2 over a tail, with its 95 % interval from standard errors over
                    replicates and the control variate of `tails.tail_floor`

Runs begin at the fixed point and forget it in 1 / (a eta K) outer steps, a exact: four times that are left
out, and the halves of the tail are compared. The terminal shows what of each floor is left at the largest G.

Writes results/length_floor.parquet, results/length_floor.json, figures/length_floor.png. A minute.

Paper: arXiv:2508.02833 v2, Theorems 5.1 and 5.2, whose O(1/G) this contradicts for Eq. 5 and Eq. 11.
"""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.floors import fixed_point_tables as tables
from ticgrpo_theory.floors.simulated_floors import Effort, floor_row
from ticgrpo_theory.plots import fixed_points as plots_fixed_points
from ticgrpo_theory.worlds import WORLDS

SCALES = {
    "grpo": "1/(G |s|)",
    "tic_grpo_eq11": "1/(G |s|)",
    "dapo": "1/sum |s|",
    "tic_grpo": "1/G",
}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is simulated, and where it goes."""

    estimators: tuple[str, ...] = tuple(SCALES)
    """Estimators, by name."""
    group_sizes: tuple[int, ...] = (4, 16, 64, 256)
    """Responses G of a group."""
    step: float = 0.05
    """Length eta K of an outer step."""
    inner_steps: int = 4
    """K, all on one group."""
    burn_in: float = 4.0
    """Relaxation times left out at the beginning."""
    tail: float = 12.0
    """Relaxation times that are averaged."""
    replicates: int = 64
    """Independent runs of each cell."""
    seed: int = 0
    """Name of the random numbers."""

    @property
    def effort(self) -> Effort:
        return Effort(self.burn_in, self.tail, self.replicates, self.seed)


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    _ = cfg.effort  # refuses what it cannot be
    experiment.check_lists(cfg, "estimators", "group_sizes")
    experiment.check_names(cfg, estimators=SCALES)
    tables.check_sizes(cfg.group_sizes, cfg.step, cfg.inner_steps)


def made(name: str) -> Estimator:
    """The catalogue's estimator, clip included, with delta = 0."""
    return replace(ESTIMATORS[name], advantage=standardised(0.0))


def keys(cfg: Config) -> list[tuple[str, int]]:
    return [(name, G) for name in cfg.estimators for G in cfg.group_sizes]


def cell(cfg: Config, name: str, G: int) -> list[dict[str, Any]]:
    mdp = WORLDS["length-trap"].build()
    found = floor_row(mdp, made(name), cfg.effort, group_size=G, step=cfg.step, inner_steps=cfg.inner_steps)
    about = {"line": name, "group_size": G, "eta_K": cfg.step, "inner_steps": cfg.inner_steps}
    return [about | found]


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Exact and simulated floors, and how they change with G."""
    console.print(tables.fixed_point_table(made, cfg.estimators, "length-trap, optimum p = 0.5"))
    tables.print_changes(made, cfg.estimators, console)
    tables.print_tails(made, console)


def draw(made: pd.DataFrame) -> Figure:
    return plots_fixed_points.length_floor(
        made, {name: SCALES[name] for name in SCALES if name in set(made.line)}
    )


# One row for each (estimator, G).
EXPERIMENT = experiment.Experiment(
    name="length_floor",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="estimators x G",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
