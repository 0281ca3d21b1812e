"""Claim: against the gradient of the current policy the token ratio errs by O(eta K), trajectory_is by 0.

    python experiments/bias_vs_K.py

From theta_0 = theta_old each estimator follows its own mean, theta_{k+1} = theta_k + eta E[g_hat], k < K, the
groups always drawn from theta_old. For every k the columns say, without sampling and so without error bars:

    bias_current, bias_old                  ||E g_hat - grad J(theta_k)||, ||E g_hat - grad J(theta_old)||
    bias_current_scaled, bias_old_scaled    the same with c grad J, c being the column `scale`
    direction_error_current, .._old         1 - cos of the angle between E g_hat and the gradient
    clip_fraction                           share of tokens whose weight the clip switches off or holds;
                                            missing for what declares no clip
    drift                                   ||theta_k - theta_old||

scale_kind "known": c = kappa a, where all responses have T tokens and all prompts the same a. kappa is 1 for
a sequence sum, else 1/T; a is the slope of E[A_i | r_i] on r_i: 1 - 1/G for centred, 1 for leave-one-out and
raw rewards. "least_squares": c = argmin ||E g_hat - c grad J(theta_old)|| at k = 0, where both gradients are
one; it is kept for every k, so that it absorbs no drift; c < 0 says that the estimator leads downhill.
"none": c = 1, where grad J(theta_old) is zero. A zero vector has no direction: that error is missing.

The terminal shows how bias_current_scaled grows with eta k: the log-log slope where it is a power law, and
where it stops being one. Writes results/bias_vs_K.parquet, results/bias_vs_K.json and figures/bias_vs_K.png.
Killed and started again it goes on where it was.
"""

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any

import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import CITATIONS, FIRST
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.resolve import check_group_size
from ticgrpo_theory.exact import Problem
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.mean.mean_path import distances, mean_path
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.estimator_names import named_estimators, reads_reference
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.plots import style
from ticgrpo_theory.stats.power_law import growth
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds import WORLDS

MAY_BE_MISSING = ("direction_error_current", "direction_error_old", "clip_fraction")

DRAWN_WORLDS = {
    "right-answer": "right-answer: sparse reward",
    "count-mod-3": "count-mod-3: T = 10, shared rows",
    "few-values": "few-values: three reward values",
}
DRAWN_ESTIMATORS = ("grpo", "gspo", "stale", "prefix_is", "tic_grpo", "trajectory_is")
DRAWN = ((DRAWN_WORLDS, "world"), (DRAWN_ESTIMATORS, "estimator"))
MOST_LINES = 7
"""Estimators of the figure."""

LEGEND = (
    "1.01 to 4: error = const (eta k)^1.01 up to eta k = 4. <2: until the clip acts, at eta k = 2. "
    "exact: zero. +0.005: that large at k = 0 already. -: no power law."
)


@dataclass(frozen=True)
class Config(Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = tuple(WORLDS)
    """Worlds, by name (see --list)."""
    estimators: tuple[str, ...] = FIRST
    """Estimators, by name (see --list), or file.py:name of one, an objective or a loss of yours."""
    etas: tuple[float, ...] = (0.1, 1.0)
    """Learning rates eta of the inner steps."""
    K: int = 8
    """Inner steps between two refreshes of theta_old; there is a row for each k = 0..K."""
    group_size: int = 8
    """Responses G in a group."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = field(default=False, metadata=UNRECORDED)
    """Name the worlds with their reasons and the estimators with their citations, and stop."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "estimators", "etas")
    experiment.check_names(cfg, worlds=WORLDS)
    if cfg.K < 1:
        raise ValueError(
            f"K = {cfg.K}: it takes at least 1 inner step to leave theta_old; give --K 1 or more"
        )
    for eta in cfg.etas:
        if not 0 < eta < math.inf:
            raise ValueError(
                f"eta = {eta}: a learning rate is finite and above 0; give for instance --etas 0.1"
            )
    for estimator in named_estimators(cfg.estimators, ESTIMATORS).values():
        check_group_size(cfg.group_size, estimator)


def keys(cfg: Config) -> list[tuple[str, str]]:
    return [(world, estimator) for world in cfg.worlds for estimator in cfg.estimators]


def trace(cfg: Config, world: str, name: str) -> list[dict[str, Any]]:
    """The rows of one estimator on one world: every eta, k = 0..K."""
    mdp, estimator = WORLDS[world].build(), named_estimators([name], ESTIMATORS)[name]
    theta_old = WORLDS[world].theta_old(mdp)
    reference = theta_old if reads_reference(estimator) else None
    start = Problem(mdp, theta_old, theta_old, estimator, cfg.group_size, theta_ref=reference)
    made = []
    for eta in cfg.etas:
        path, drift, columns = [], [], []
        for problem in islice(mean_path(start, eta), cfg.K + 1):
            path.append(problem.theta)
            drift.append(problem.drift)
            columns.append(columns_of(problem))
        fractions = [math.nan] * len(path)
        if estimator.properties.known and estimator.penalty is None:
            fractions = clip_fractions(mdp, path, theta_old, estimator, cfg.group_size)
        for k, (of_k, clip_fraction) in enumerate(zip(columns, fractions, strict=True)):
            about = {"world": world, "estimator": name, "eta": eta, "k": k}
            made.append(about | of_k | {"clip_fraction": clip_fraction, "drift": drift[k]})
    return made


def columns_of(problem: Problem) -> dict[str, Any]:
    """What one theta gives by itself."""
    scale, scale_kind = problem.scale
    return distances(problem) | {
        "scale": scale,
        "scale_kind": scale_kind,
        "direction_error_current": direction_error(problem.mean, problem.gradient),
        "direction_error_old": direction_error(problem.mean, problem.old.gradient),
    }


def direction_error(mean: torch.Tensor, gradient: torch.Tensor) -> float:
    """1 - cos = ||u - v||^2 / 2 of the unit vectors, which keeps its digits near 0; NaN for a zero vector."""
    if mean.norm() <= ROUNDING or gradient.norm() <= ROUNDING:
        return math.nan
    return float((mean / mean.norm() - gradient / gradient.norm()).square().sum() / 2)


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Growth of bias_current_scaled with eta k: worlds across, estimators down."""
    for first in range(0, len(cfg.worlds), 4):
        worlds = cfg.worlds[first : first + 4]
        table = Table("estimator", *worlds, title="||E g_hat - c grad J(theta_k)||: slope in eta k")
        for name in cfg.estimators:
            table.add_row(name, *(grown(made, world, name) for world in worlds))
        console.print(table)
    console.print(LEGEND, style="dim")
    built = [(WORLDS[world].build(), WORLDS[world].theta_old) for world in cfg.worlds]
    used: dict[str, list] = {}
    estimators = named_estimators(cfg.estimators, ESTIMATORS)
    for name in cfg.estimators:
        policies = ((mdp, theta_old(mdp)) for mdp, theta_old in built)
        methods = {Problem(mdp, old, old, estimators[name], cfg.group_size).method for mdp, old in policies}
        used.setdefault(" or ".join(sorted(methods)), []).append(name)
    for methods, names in used.items():
        console.print(f"by {methods}: {', '.join(names)}")


def grown(made: pd.DataFrame, world: str, name: str) -> str:
    of = made[(made.world == world) & (made.estimator == name)]
    columns = (of.eta * of.k, of.bias_current_scaled, of.clip_fraction > 0)
    return str(growth(*(column.to_numpy() for column in columns)))


def draw(made: pd.DataFrame) -> Figure:
    """The figure of DRAWN_WORLDS, DRAWN_ESTIMATORS and those of a user's own; else of the first ones."""
    worlds, estimators = ([name for name in known if name in set(made[column])] for known, column in DRAWN)
    worlds = worlds or [name for name in WORLDS if name in set(made.world)][:3]
    own = [name for name in dict.fromkeys(made.estimator) if name not in ESTIMATORS]
    estimators = estimators + own[: MOST_LINES - len(estimators)]
    estimators = estimators or [name for name in FIRST if name in set(made.estimator)][:MOST_LINES]
    labels = dict(zip(estimators, map(label_of, estimators), strict=True))
    return style.bias_vs_K(made, {name: DRAWN_WORLDS.get(name, name) for name in worlds}, labels)


def label_of(name: str) -> str:
    """The name with ratio and clip, of which nothing is known for what is a user's own."""
    if name not in ESTIMATORS:
        return name
    entry = ESTIMATORS[name]
    clip = "" if isinstance(entry.clip, unclipped) else ", clipped"
    return f"{name} ({entry.ratio.__name__.replace('_', ' ')}{clip})"


def show_names(console: Console) -> None:
    """Worlds with their reasons, estimators with their citations."""
    reasons = {name: world.reason for name, world in WORLDS.items()}
    for heads, entries in ((("world", "why it exists"), reasons), (("estimator", "source"), CITATIONS)):
        table = Table(*heads)
        for entry in entries.items():
            table.add_row(*entry)
        console.print(table)


# One row for each (world, estimator, eta, k).
EXPERIMENT = experiment.Experiment(
    name="bias_vs_K",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=trace,
    show=show,
    draw=draw,
    what="worlds x estimators",
    may_be_missing=MAY_BE_MISSING,
)
rows = EXPERIMENT.rows


def main(cfg: Config) -> None:
    if cfg.list:
        return show_names(Console())
    EXPERIMENT.main(cfg)


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
