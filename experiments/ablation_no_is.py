"""Claim: importance sampling can be left out of GRPO and nothing is lost (Figure 1).

    python experiments/ablation_no_is.py       # about a minute and a half on one core

What is left out decides. `no_is` has weight 1 and the score at theta: what the runs behind the figure
differentiate. `stale` holds the gradient at theta_old: what the text around it describes. `grpo` has the
token ratio and its clip, `token` the ratio alone. All take the same eta, K steps on one group ("reused") or
on K groups ("disjoint"), and the same random numbers. With K = 1, one update for each rollout, which is how
the figure was made, theta is theta_old and the four are one algorithm.

J is exact at every policy that is reached; means and 95 % intervals are over replicates.

    J          mean return after n outer steps
    gap        mean of the difference to grpo at n
    mean_gap   the same, averaged over the training so far
    ..._half   half-widths of their intervals

Writes results/ablation_no_is.parquet, results/ablation_no_is.json, figures/ablation_no_is.png.

Paper: arXiv:2508.02833 v2, Figure 1 and the end of Sec. 3.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.plots import runs as plots_runs
from ticgrpo_theory.simulate.learning_curves import Course, compared, verdict
from ticgrpo_theory.worlds import WORLDS

REFERENCE = "grpo"


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("right-answer", "bigram", "long-answers", "count-mod-3", "few-values")
    """Names of worlds."""
    etas: tuple[float, ...] = (0.25, 1.0)
    """Learning rates of the inner steps."""
    inner_steps: tuple[int, ...] = (1, 4)
    """Inner steps K between two refreshes of theta_old."""
    group_size: int = 16
    """Responses G of a group."""
    length: float = 80.0
    """Outer steps N times eta K, so that all runs go about equally far."""
    replicates: int = 64
    """Runs with random numbers of their own."""
    records: int = 20
    """Outer steps at which J is recorded."""
    seed: int = 0
    """Names the random numbers."""


UNCLIPPED = Estimator(token, standardised(delta=1e-6), unclipped(), sequence_mean)


def estimators() -> dict[str, Estimator]:
    return {name: ESTIMATORS[name] for name in (REFERENCE, "no_is", "stale")} | {"token": UNCLIPPED}


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "etas", "inner_steps")
    experiment.check_names(cfg, worlds=WORLDS)
    for option in ("length", "records"):
        if not 0 < getattr(cfg, option) < math.inf:
            raise ValueError(
                f"{option} = {getattr(cfg, option)}: a run has steps and records; give 1 or more"
            )
    if cfg.replicates < 2:
        raise ValueError(f"replicates = {cfg.replicates}: intervals need 2 or more")


def keys(cfg: Config) -> list[tuple[str, float, int, str]]:
    kinds = [(K, batches) for K in cfg.inner_steps for batches in ("reused", "disjoint")[: min(K, 2)]]
    return [(world, eta, *kind) for world in cfg.worlds for eta in cfg.etas for kind in kinds]


def cell(cfg: Config, world: str, eta: float, K: int, batches: str) -> list[dict[str, Any]]:
    mdp = WORLDS[world].build()
    every = max(1, round(cfg.length / (eta * K * cfg.records)))
    course = Course(
        group_size=cfg.group_size,
        inner_steps=K,
        outer_steps=every * cfg.records,
        replicates=cfg.replicates,
        seed=cfg.seed,
        batches=batches,
        record_every=every,
    )
    runs = {name: (estimator, eta) for name, estimator in estimators().items()}
    made = compared(mdp, WORLDS[world].theta_old(mdp), runs, course, REFERENCE)
    return [{"world": world, "eta": eta, "K": K, "batches": batches} | row for row in made]


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """What the intervals of the mean difference over the whole training allow to say."""
    end = made[made.n == made.groupby(["world", "eta", "K", "batches"]).n.transform("max")]
    for K in cfg.inner_steps:
        here = end[(end.K == K) & (end.estimator != REFERENCE)]
        widest = made[made.K == K].gap.abs().max()
        if widest == 0:
            console.print(f"K = {K}: all four have the same J at every step of every replicate, to the bit")
            continue
        table = Table("world", "eta", "groups", "estimator", "mean of J - J of grpo over the training")
        table.title = f"K = {K}"
        for row in here.itertuples():
            said = verdict(row.mean_gap, row.mean_gap_half)
            table.add_row(row.world, f"{row.eta:g}", row.batches, row.estimator, said)
        console.print(table)
        loss = (here.mean_gap_half - here.mean_gap).max()
        console.print(f"largest mean loss that one of these intervals leaves possible: {max(loss, 0.0):.4f}")


def draw(made: pd.DataFrame) -> Figure:
    return plots_runs.ablation_no_is(made)


# One row for each (world, eta, K, kind of groups, estimator, n).
EXPERIMENT = experiment.Experiment(
    name="ablation_no_is",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x eta x K x groups",
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
