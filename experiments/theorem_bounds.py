"""Claim: with explicit constants the convergence bounds hold on every run; how tight is each of them?

    python experiments/theorem_bounds.py

Algorithms 1 and 2, R replicates of N outer steps, one group reused for K steps, started away from the
optimum. Each run is held against these bounds, which know less and less of it:

    C1    sum <g_n, Delta_n> <= J(theta_N) - J(theta_0) + (L_J / 2) sum ||Delta_n||^2   every single replicate
    C2    E sum <g_n, m_n>, with exact moments of the first step along the path and a bound on the drift
          of the other K - 1; with its control variate, in standard errors
    C2*   E sum <g_n, E Delta_n>, with exact moves over all groups, clip included; micro worlds, small G
    T1    mean E||g_n||^2, theorem 1, from constants alone;   T2: theorem 2, which asks for small steps

g_n = grad J(theta_n), Delta_n = theta_{n+1} - theta_n, m_n = E of the first step. `ratio` is right over left
(C1: median over replicates): 1 is tight, below 1 a violation; there is none where a run climbs away from
grad J, so that the left side is below 0. `slack` is right minus left (C1: least over replicates). A bound of
which a hypothesis fails has no right side; the row says which.

With K = 1 stale, grpo and tic (1/T) take the same steps. Writes results/theorem_bounds.parquet,
results/theorem_bounds.json, figures/theorem_bounds.png.

Paper: arXiv:2508.02833 v2, Theorems 5.1 and 5.2, whose constants are not given.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.bounds import (
    InstanceConstants,
    check_c1,
    check_c2,
    check_c2_all_groups,
    instance_constants,
    theorem_1,
    theorem_2,
)
from ticgrpo_theory.bounds.expected_steps import Sampled
from ticgrpo_theory.bounds.theorems import Bound
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.catalogue import grpo, stale, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import bounds as plots_bounds
from ticgrpo_theory.simulate import Trace, simulate
from ticgrpo_theory.worlds import Start, few_values, first_token, graded, length_trap, xor

"""Its default takes longer than a minute."""


def two_answers() -> TokenMDP:
    """Three of eight responses are right, no row is read twice: binary rewards on a prefix tree."""
    return TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[1, 0, 0, 1, 0, 1, 0, 0])


BUILD: dict[str, tuple[Callable[[], TokenMDP], Start]] = {
    "xor": (xor, first_token(1 / (1 + math.exp(-1.5)))),
    "tree": (two_answers, graded),
    "few-values": (few_values, graded),
    "length-trap": (length_trap, first_token(0.6)),
}
ESTIMATORS: dict[str, Callable[[float], Estimator]] = {
    "stale": stale,
    "grpo": lambda delta: grpo(0.2, 0.2, delta),
    "tic, 1/T": lambda delta: tic_grpo_eq11(0.2, delta),
    "tic, sum": lambda delta: tic_grpo(0.2, delta),
}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("xor", "tree")
    """Worlds of two reward values and one length: "xor" (one shared row), "tree"."""
    others: tuple[str, ...] = ("few-values", "length-trap")
    """Worlds of three reward values or of several lengths, at the two middle step sizes, K > 1 alone."""
    estimators: tuple[str, ...] = ("stale", "grpo", "tic, 1/T", "tic, sum")
    """ "stale", "grpo", "tic, 1/T" (scale 1/|s|), "tic, sum" (no 1/|s|); every clip at 0.2."""
    inner_steps: tuple[int, ...] = (1, 4)
    """K."""
    spans: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """eta K."""
    group_sizes: tuple[int, ...] = (4, 16, 64)
    """G."""
    all_groups_up_to: int = 4
    """Largest G for which all groups of an outer step are followed (world xor)."""
    outer_steps: int = 200
    """N."""
    replicates: int = 64
    """R."""
    delta: float = 0.0
    """Added to the standard deviation of a group."""
    seed: int = 0
    """Of the random numbers."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "estimators", "inner_steps", "spans", "group_sizes")
    experiment.check_names(cfg, worlds=BUILD, others=BUILD, estimators=ESTIMATORS)
    if min(cfg.spans) <= 0 or min(cfg.inner_steps) < 1 or min(cfg.group_sizes) < 2:
        raise ValueError(
            f"spans = {cfg.spans}, inner_steps = {cfg.inner_steps}, group_sizes = {cfg.group_sizes}: bounds "
            f"are for eta K > 0, K >= 1 and groups of at least 2"
        )
    if cfg.replicates < 2 or cfg.outer_steps < 1:
        raise ValueError(
            f"replicates = {cfg.replicates}, outer_steps = {cfg.outer_steps}: C2 is judged by the spread of "
            f"at least 2 replicates, and a run has at least 1 outer step"
        )


def keys(cfg: Config) -> list[tuple[str, str, int, int]]:
    main = [
        (world, name, G, K)
        for world in cfg.worlds
        for name in cfg.estimators
        for G in cfg.group_sizes
        for K in cfg.inner_steps
    ]
    aside = [
        (world, name, cfg.group_sizes[0], max(cfg.inner_steps))
        for world in cfg.others
        for name in cfg.estimators
    ]
    return main + aside


def cell(cfg: Config, world: str, name: str, G: int, K: int) -> list[dict[str, Any]]:
    build, start = BUILD[world]
    mdp, estimator, made = build(), ESTIMATORS[name](cfg.delta), []
    for span in cfg.spans if world in cfg.worlds else cfg.spans[1:3] or cfg.spans:
        trace = simulate(
            mdp,
            start(mdp),
            estimator,
            group_size=G,
            learning_rate=span / K,
            inner_steps=K,
            outer_steps=cfg.outer_steps,
            replicates=cfg.replicates,
            seed=cfg.seed,
            record_theta=True,
        )
        constants = instance_constants(mdp, estimator, G, span / K, K)
        common = {
            "world": world,
            "estimator": name,
            "K": K,
            "eta_K": span,
            "G": G,
            "drift": constants.row if "row" in constants else "no bound",
        }
        every_group = world == "xor" and G <= cfg.all_groups_up_to and K > 1
        made += [common | row for row in judged(mdp, constants, trace, every_group)]
    return made


def judged(
    mdp: TokenMDP, constants: InstanceConstants, trace: Trace, every_group: bool
) -> list[dict[str, Any]]:
    """The run against every bound."""
    c1 = check_c1(mdp, trace)
    found = [
        {
            "bound": "C1",
            "left": float(c1.lhs.mean()),
            "right": float(c1.rhs.mean()),
            "slack": float(c1.slack.min()),
            "ratio": float((c1.rhs / c1.lhs).median()) if float(c1.lhs.min()) > 0 else None,
            "margin": None,
            "violations": int((c1.slack < -1e-9).sum()),
            "applies": True,
            "why_not": "",
        },
        of_sample("C2", check_c2(constants, trace)),
        of_theorem("T1", theorem_1(constants, trace)),
        of_theorem("T2", theorem_2(constants, trace)),
    ]
    if every_group:
        found.append(of_sample("C2*", check_c2_all_groups(constants, trace)))
    return found


def of_sample(name: str, check: Sampled) -> dict[str, Any]:
    """A bound in expectation; `margin` in standard errors of the paired difference."""
    left, right = float(check.lhs.mean()), float(check.rhs.mean())
    there = check.applies
    return {
        "bound": name,
        "left": left,
        "right": right if there else None,
        "slack": right - left if there else None,
        "ratio": right / left if there and left > 0 else None,
        "margin": check.standard_errors if there else None,
        "violations": int(there and not check.holds),
        "applies": there,
        "why_not": check.failed,
    }


def of_theorem(name: str, bound: Bound) -> dict[str, Any]:
    """A theorem; `margin` in standard errors of the left side."""
    left, error = bound.left or 0.0, bound.standard_error or math.inf
    there = bound.applies
    return {
        "bound": name,
        "left": left,
        "right": bound.right if there else None,
        "slack": bound.right - left if there else None,
        "ratio": bound.right / left if there else None,
        "margin": (bound.right - left) / error if there else None,
        "violations": int(there and not bound.holds),
        "applies": there,
        "why_not": bound.failed,
    }


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Right over left, median (largest), by world and by what bounds the drift; cells without a bound."""
    bounds = ("C1", "C2", "C2*", "T1", "T2")
    table = Table(
        "world", "drift within K steps", *bounds, title="right / left: median (largest), silent cells"
    )
    for (world, drift), part in made.groupby(["world", "drift"], sort=False):
        table.add_row(str(world), str(drift), *(entry(part[part.bound == bound]) for bound in bounds))
    console.print(table)
    runs = int(made[made.bound == "C1"].shape[0]) * cfg.replicates
    console.print(
        f"violations: {int(made.violations.sum())} in {len(made):,} bounds, C1 on {runs:,} replicates"
    )


def entry(part: pd.DataFrame) -> str:
    there, away = part[part.applies], part[part.left <= 0]
    silent = f", {len(part) - len(there)} silent" if len(there) < len(part) else ""
    if not len(there):
        return "-" if not len(part) else f"silent ({len(part)})"
    if len(away) == len(part):
        return f"left < 0{silent}"
    return f"{there.ratio.median():.3g} ({there.ratio.max():.3g}){silent}"


def draw(made: pd.DataFrame) -> Figure:
    return plots_bounds.theorem_bounds(made)


# One row for each (world, estimator, K, eta K, G, bound).
EXPERIMENT = experiment.Experiment(
    name="theorem_bounds",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x estimators x G x K",
    may_be_missing=("right", "slack", "ratio", "margin"),
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
