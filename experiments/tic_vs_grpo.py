"""Claim: TIC-GRPO learns faster than GRPO (Figure 2). At one eta it does, because its steps are longer.

    python experiments/tic_vs_grpo.py          # about a minute and a half on one core

Eq. 9 differentiated literally has no 1/|s|: at equal eta its step is |s| times that of grpo. So there are
three conditions:

    equal eta     the same eta for all
    equal step    eta / E|s| for the estimators without 1/|s|, E|s| the mean length under the policy that the
                  run starts from: then all take the same first step on average (at one length for all
                  responses), and tic_grpo is tic_grpo_eq11
    adam          Adam, which divides any constant factor away, with an eta of its own

grpo: token ratio, two-sided clip; token: its ratio without clip. tic_grpo: eq. 9; tic_grpo_eq11: eq. 11, with
1/|s|; tic_grpo_released, seq_clip: the losses that the authors published and ran; trajectory: the trajectory
ratio without clip, with 1/|s|. K steps on one group ("reused") or on K groups ("disjoint", as in the runs
behind the figure); the same random numbers for all. J is exact; means and 95 % intervals are over replicates.

    J          mean return after n outer steps
    gap        mean of the difference to grpo at n
    mean_gap   the same, averaged over the training so far
    ..._half   half-widths of their intervals
    eta        learning rate of the row's estimator

Writes results/tic_vs_grpo.parquet, results/tic_vs_grpo.json, figures/tic_vs_grpo.png.

Paper: arXiv:2508.02833 v2, Figure 2, Eq. 9 and 11.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.resolve import check_group_size
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum
from ticgrpo_theory.exact.dynamic.forward_backward import outcome_distribution
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.estimator_names import named_estimators
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import runs as plots_runs
from ticgrpo_theory.simulate import Adam
from ticgrpo_theory.simulate.learning_curves import Course, compared, verdict
from ticgrpo_theory.worlds import WORLDS

REFERENCE = "grpo"
CONDITIONS = ("equal eta", "equal step", "adam")


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("right-answer", "bigram", "long-answers", "count-mod-3")
    """Names of worlds with one prompt."""
    estimators: tuple[str, ...] = (
        "grpo",
        "tic_grpo",
        "tic_grpo_eq11",
        "tic_grpo_released",
        "seq_clip",
        "trajectory",
        "token",
    )
    """Estimators, by the names above, grpo among them, or file.py:name of one, an objective or a loss of
    yours; what has no scale takes the eta of grpo."""
    conditions: tuple[str, ...] = CONDITIONS
    """"equal eta", "equal step" or "adam"."""
    batches: tuple[str, ...] = ("reused", "disjoint")
    """"reused" or "disjoint"."""
    eta: float = 0.25
    """Learning rate of grpo, by plain ascent."""
    adam_eta: float = 0.02
    """Learning rate of all estimators with Adam."""
    K: int = 4
    """Inner steps between two refreshes of theta_old."""
    group_size: int = 16
    """Responses G of a group."""
    outer_steps: int = 80
    """Outer steps N."""
    record_every: int = 4
    """Outer steps between two records of J."""
    replicates: int = 64
    """Runs with random numbers of their own."""
    seed: int = 0
    """Names the random numbers."""


def estimators() -> dict[str, Estimator]:
    named = ("grpo", "tic_grpo", "tic_grpo_eq11", "tic_grpo_released", "seq_clip")
    return {name: ESTIMATORS[name] for name in named} | {
        name: Estimator(ratio, standardised(delta=1e-6), unclipped(), sequence_mean)
        for name, ratio in (("trajectory", trajectory), ("token", token))
    }


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "estimators", "conditions", "batches")
    experiment.check_names(cfg, worlds=WORLDS, conditions=CONDITIONS)
    for estimator in named_estimators(cfg.estimators, estimators()).values():
        check_group_size(cfg.group_size, estimator)
    if REFERENCE not in cfg.estimators:
        raise ValueError(f"estimators = {cfg.estimators}: {REFERENCE} is what all are compared with; add it")
    for world in cfg.worlds:
        prompts = len(WORLDS[world].build().prompts)
        if prompts > 1:
            raise ValueError(
                f"world {world!r} has {prompts} prompts, whose responses have lengths of their own; choose "
                f"one with a single prompt, such as right-answer"
            )
    if cfg.replicates < 2:
        raise ValueError(f"replicates = {cfg.replicates}: intervals need 2 or more")


def keys(cfg: Config) -> list[tuple[str, str, str]]:
    return [(world, how, kind) for world in cfg.worlds for how in cfg.conditions for kind in cfg.batches]


def mean_length(mdp: TokenMDP, theta: torch.Tensor) -> float:
    """E|s| under theta."""
    return float(outcome_distribution(mdp.graph, theta.numpy()) @ mdp.graph.length)


def cell(cfg: Config, world: str, condition: str, batches: str) -> list[dict[str, Any]]:
    mdp = WORLDS[world].build()
    theta = WORLDS[world].theta_old(mdp)
    longer = mean_length(mdp, theta) if condition == "equal step" else 1.0
    eta = cfg.adam_eta if condition == "adam" else cfg.eta
    runs = {
        name: (estimator, eta / longer if getattr(estimator, "scale", None) is sequence_sum else eta)
        for name, estimator in named_estimators(cfg.estimators, estimators()).items()
    }
    course = Course(
        group_size=cfg.group_size,
        inner_steps=cfg.K,
        outer_steps=cfg.outer_steps,
        replicates=cfg.replicates,
        seed=cfg.seed,
        batches=batches,
        record_every=cfg.record_every,
        optimizer=Adam() if condition == "adam" else None,
    )
    made = compared(mdp, theta, runs, course, REFERENCE)
    return [
        {"world": world, "condition": condition, "batches": batches, "eta": runs[row["estimator"]][1]} | row
        for row in made
    ]


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """What the intervals of the mean difference over the whole training allow to say."""
    end = made[made.n == made.n.max()]
    for condition in cfg.conditions:
        here = end[(end.condition == condition) & (end.estimator != REFERENCE)]
        table = Table("world", "groups", "estimator", "eta", "mean of J - J of grpo over the training")
        table.title = condition
        for row in here.itertuples():
            said = verdict(row.mean_gap, row.mean_gap_half)
            table.add_row(row.world, row.batches, row.estimator, f"{row.eta:.4g}", said)
        console.print(table)


def draw(made: pd.DataFrame) -> Figure:
    return plots_runs.tic_vs_grpo(made)


# One row for each (world, condition, kind of groups, estimator, n).
EXPERIMENT = experiment.Experiment(
    name="tic_vs_grpo",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x conditions x groups",
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
