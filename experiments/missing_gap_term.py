"""Claim: the printed bound O(eta K) + O(1/|G|) is false for a fixed number N of outer steps.

    python experiments/missing_gap_term.py

As eta K -> 0 and G -> infinity nothing moves in N steps, and the left side, (1/N) sum E||grad J(theta_n)||^2,
tends to ||grad J(theta_1)||^2 > 0, while any C1 eta K + C2 / G tends to 0. What is missing is the distance to
the optimum, 2 (J* - J(theta_1)) / (c N eta K): with it, theorem 1 holds in every cell.

    left                    (1/N) sum ||grad J(theta_n)||^2, mean over replicates
    start                   ||grad J(theta_1)||^2
    printed                 theorem 1 without that term: the order eta K, with its constant
    corrected               theorem 1
    constant_needed         the C for which C (eta K + 1/G) would reach the left side

World "xor": two tokens from one row, right if they differ, started at pi(0) = 1 / (1 + exp(-1.5)); GRPO with
one inner step, where every algorithm takes the same one. At eta K = 1e-3 and G = 4096 the left side is
7.18e-2, 7.18e-2, 7.22e-2, 7.30e-2 for N = 1, 10, 100, 1000.

Writes results/missing_gap_term.parquet, results/missing_gap_term.json, figures/missing_gap_term.png.

Paper: arXiv:2508.02833 v2, Theorems 5.1 and 5.2.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.bounds import instance_constants, theorem_1
from ticgrpo_theory.bounds.hypotheses import check_settings
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.plots import bounds as plots_bounds
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import first_token, xor


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    outer_steps: tuple[int, ...] = (1, 10, 100, 1000)
    """N: the first so many steps of the same runs."""
    spans: tuple[float, ...] = (0.1, 0.03, 0.01, 0.001)
    """eta K."""
    group_sizes: tuple[int, ...] = (16, 256, 4096)
    """G."""
    start: float = 1 / (1 + math.exp(-1.5))
    """pi(0) of the first policy."""
    replicates: int = 4
    """R."""
    seed: int = 0
    """Of the random numbers."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "outer_steps", "spans", "group_sizes")
    if min(cfg.outer_steps) < 1 or min(cfg.spans) <= 0 or min(cfg.group_sizes) < 2:
        raise ValueError(
            f"outer_steps = {cfg.outer_steps}, spans = {cfg.spans}, group_sizes = {cfg.group_sizes}: give "
            f"N >= 1, eta K > 0 and groups of at least 2"
        )
    if not 0 < cfg.start < 1 or cfg.replicates < 2:
        raise ValueError(
            f"start = {cfg.start}, replicates = {cfg.replicates}: pi(0) lies between 0 and 1, and intervals "
            f"need at least 2 replicates"
        )


def keys(cfg: Config) -> list[tuple[float, int]]:
    return [(span, G) for span in cfg.spans for G in cfg.group_sizes]


def cell(cfg: Config, span: float, G: int) -> list[dict[str, Any]]:
    mdp, estimator = xor(), grpo(delta=0.0)
    trace = simulate(
        mdp,
        first_token(cfg.start)(mdp),
        estimator,
        group_size=G,
        learning_rate=span,
        inner_steps=1,
        outer_steps=max(cfg.outer_steps),
        replicates=cfg.replicates,
        seed=cfg.seed,
    )
    constants, made = instance_constants(mdp, estimator, G, span, 1), []
    check_settings(constants, trace)
    for N in cfg.outer_steps:
        left = trace.gradient_norm_sq[:, :N].mean(dim=1)
        bound = theorem_1(constants, initial_return=float(trace.initial_return[0]), outer_steps=N)
        made.append(
            {
                "N": N,
                "eta_K": span,
                "G": G,
                "left": float(left.mean()),
                "standard_error": float(left.std()) / math.sqrt(len(left)),
                "start": float(trace.gradient_norm_sq[0, 0]),
                "printed": bound.right - bound.terms["gap"],
                "corrected": bound.right,
                "constant_needed": float(left.mean()) / (span + 1 / G),
            }
        )
    return made


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Left side, printed and corrected right side at the largest group."""
    G = max(cfg.group_sizes)
    table = Table(
        "eta K",
        "no gap term",
        *(f"N = {N:,}: left <= corrected" for N in cfg.outer_steps),
        title=f"G = {G:,}; ||grad J||^2 at the start {made.start.iloc[0]:.4g}",
    )
    for span in cfg.spans:
        part = made[(made.G == G) & (made.eta_K == span)].set_index("N")
        entries = (f"{part.left[N]:.3e} <= {part.corrected[N]:.2e}" for N in cfg.outer_steps)
        table.add_row(f"{span:g}", f"{part.printed.iloc[0]:.2e}", *entries)
    console.print(table)
    broken = int((made.left > made.printed).sum())
    console.print(
        f"left > order eta K alone in {broken} of {len(made)} cells; left > corrected in "
        f"{int((made.left > made.corrected).sum())}"
    )


def draw(made: pd.DataFrame) -> Figure:
    return plots_bounds.missing_gap_term(made)


# One row for each (N, eta K, G).
EXPERIMENT = experiment.Experiment(
    name="missing_gap_term",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="eta K x G",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
