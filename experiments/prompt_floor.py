"""Claim: with prompts on shared rows, dividing by each group's std leaves a floor that grows with G.

    python experiments/prompt_floor.py

Floors of Algorithm 1 as it is run, clip and reuse included, on world prompt-trap: two equally likely prompts
on one row, J best at p = 3/4. An outer step draws P prompts, each with a group of its own, and averages.

    grpo (delta = 0)    its fixed point moves away from p = 3/4 as G grows, up to (3 + sqrt 3) / 6: the floor
                        grows with G up to 3.3e-4, and stays as eta K falls and P grows
    dr_grpo             the same without the standard deviation: fixed point 3/4, noise alone, O(eta K / P)

    root            ||grad J||^2 at the exact fixed point, the floor of eta K -> 0
    first_order     root + eta K times an exact coefficient. At the optimum of J the two prompts still pull
                    in opposite directions, so that the draw of prompts is noise of its own, O(eta K / P) at
                    every G; that of responses is O(eta K / (P G))
    floor           simulated, E||grad J||^2 over a tail, with its 95 % interval from standard errors over
                    replicates and the control variate of `tails.tail_floor`

Runs begin at the fixed point and forget it in 1 / (a eta K) outer steps, a exact: four times that are left
out, and the halves of the tail are compared. The terminal shows what of each floor is left at the largest G.

Writes results/prompt_floor.parquet, results/prompt_floor.json, figures/prompt_floor.png. 90 seconds.

Paper: arXiv:2508.02833 v2, Theorems 5.1 and 5.2, whose O(1/G) this contradicts for several prompts.
"""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.floors import fixed_point_tables as tables
from ticgrpo_theory.floors.simulated_floors import Effort, floor_row
from ticgrpo_theory.plots import fixed_points as plots_fixed_points
from ticgrpo_theory.worlds import WORLDS

"""Its default takes longer than a minute."""

ESTIMATED = {
    "grpo": replace(ESTIMATORS["grpo"], advantage=standardised(0.0)),
    "dr_grpo": ESTIMATORS["dr_grpo"],
}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is simulated, and where it goes."""

    estimators: tuple[str, ...] = tuple(ESTIMATED)
    """With the standard deviation of each group, or without."""
    prompts: tuple[int, ...] = (1, 8)
    """Prompts P of an outer step, drawn independently."""
    group_sizes: tuple[int, ...] = (4, 16, 64, 256)
    """Responses G to each of them."""
    step: float = 0.1
    """Length eta K of an outer step."""
    inner_steps: int = 4
    """K, all on the same groups."""
    burn_in: float = 4.0
    """Relaxation times left out at the beginning."""
    tail: float = 10.0
    """Relaxation times that are averaged."""
    replicates: int = 48
    """Independent runs of each cell."""
    seed: int = 0
    """Name of the random numbers."""

    @property
    def effort(self) -> Effort:
        return Effort(self.burn_in, self.tail, self.replicates, self.seed)


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    _ = cfg.effort  # refuses what it cannot be
    experiment.check_lists(cfg, "estimators", "prompts", "group_sizes")
    experiment.check_names(cfg, estimators=ESTIMATED)
    for P in cfg.prompts:
        if P < 1:
            raise ValueError(f"prompts = {P}: an outer step draws at least 1; give whole numbers from 1 on")
    tables.check_sizes(cfg.group_sizes, cfg.step, cfg.inner_steps)


def keys(cfg: Config) -> list[tuple[str, int, int]]:
    return [(name, P, G) for name in cfg.estimators for P in cfg.prompts for G in cfg.group_sizes]


def cell(cfg: Config, name: str, P: int, G: int) -> list[dict[str, Any]]:
    mdp, estimator = WORLDS["prompt-trap"].build(), ESTIMATED[name]
    settings = {"inner_steps": cfg.inner_steps, "prompts_per_step": P}
    found = floor_row(mdp, estimator, cfg.effort, group_size=G, step=cfg.step, groups=P, **settings)
    about = {"line": line(name, P), "estimator": name, "prompts": P, "group_size": G, "eta_K": cfg.step}
    return [about | {"inner_steps": cfg.inner_steps} | found]


def line(name: str, P: int) -> str:
    return f"{name}, P = {P}"


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Exact and simulated floors, and how they change with G."""
    names = [line(name, P) for name in cfg.estimators for P in cfg.prompts]
    console.print(tables.fixed_point_table(made, names, "prompt-trap, optimum p = 0.75"))
    tables.print_changes(made, names, console)
    tables.print_tails(made, console)


def draw(made: pd.DataFrame) -> Figure:
    return plots_fixed_points.prompt_floor(made)


# One row for each (estimator, P, G).
EXPERIMENT = experiment.Experiment(
    name="prompt_floor",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="estimators x prompts x G",
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
