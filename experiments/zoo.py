"""Claim: on policy most lines point along grad J to a few degrees; after a drift of one logit the defaults of
trainers go downhill on some worlds, and the full ratio, which never does, has less signal than others there.

    python experiments/zoo.py

Every line of the catalogue on every named world, at three distances of theta from theta_old, along sin(1),
sin(2), ... in the order of the table. An update is one group of G responses. Columns:

    cosine, scale, residual, bias     of E[g_hat] beside grad J(theta), see ticgrpo_theory/stats/direction.py
    variance                          E||g_hat - E g_hat||^2 / ||grad J(theta)||^2
    signal                            <E g_hat, grad J> / (||grad J|| sqrt(E||g_hat - E g_hat||^2)): what an
                                      update gains along the gradient over its standard deviation, scale-free
    method                            how it is known; "" where the groups are too many to be listed

Responses are drawn by theta_old (mismatch 0). Lines that read a sampler are there a second time, with the
losses that they correct, under theta_old with noise of `mismatch` logits. Dividing by one group, a line of
whole updates is its line of groups: batch_normalisers.py has what many prompts change.

Nothing is sampled. Writes results/zoo.parquet, results/zoo.json and figures/zoo.png; 3 minutes on one core.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.catalogue import FACTORIES, trl_bnpo
from ticgrpo_theory.exact import gradient_moments, policy_gradient
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.plots import zoo as plots_zoo
from ticgrpo_theory.stats.direction import against, sine
from ticgrpo_theory.worlds.catalogue import WORLDS
from ticgrpo_theory.worlds.samplers import noise

CORRECTED = ("grpo", "trl_dapo", "verl_grpo")
"""Losses that lines with a correction start from."""
DEFAULTS = {"trl_dapo": "TRL", "verl_grpo": "verl"}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """Where every line points, and how loud its noise is."""

    worlds: tuple[str, ...] = tuple(WORLDS)
    """Named worlds."""
    lines: tuple[str, ...] = tuple(ESTIMATORS)
    """Lines of the catalogue."""
    drifts: tuple[float, ...] = (0.0, 0.3, 1.0)
    """||theta - theta_old|| [logit]."""
    group_size: int = 4
    """Responses G of an update."""
    mismatch: float = 0.3
    """Standard deviation of the noise on the sampler's logits, for lines that read it [logit]."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "lines", "drifts")
    experiment.check_names(cfg, worlds=WORLDS, lines=ESTIMATORS)
    for drift in cfg.drifts:
        if not 0 <= drift < math.inf:
            raise ValueError(f"drift = {drift}: a distance is finite and at least 0; give for instance 0.3")
    if cfg.group_size < 2 or cfg.group_size % 2:
        raise ValueError(
            f"group_size = {cfg.group_size}: a group has a mean, and two micro-batches of one size; give an "
            f"even number of 2 or more"
        )
    if not 0 < cfg.mismatch < math.inf:
        raise ValueError(f"mismatch = {cfg.mismatch}: give a finite noise above 0, for instance 0.3")


def keys(cfg: Config) -> list[tuple[str, float]]:
    return [(world, drift) for world in cfg.worlds for drift in cfg.drifts]


def reads_sampler(name: str) -> bool:
    """Whether a line is another one under a sampler that is not theta_old than the loss it starts from."""
    return ESTIMATORS[name].correction is not None or name in ("opsm", *CORRECTED)


def of(name: str, G: int) -> Estimator:
    """The line, for an update of G rows."""
    return trl_bnpo(G // 2) if name == "trl_bnpo" else ESTIMATORS[name]


def cell(cfg: Config, world: str, drift: float) -> list[dict[str, Any]]:
    """The rows of one world and drift: every line."""
    mdp = WORLDS[world].build()
    old = WORLDS[world].theta_old(mdp)
    theta, mu = old + drift * sine(old), noise(cfg.mismatch, 0)(old)
    gradient = policy_gradient(mdp, theta)
    about, found = {"world": world, "drift": drift, "group_size": cfg.group_size}, []
    for mismatch, sampler in ((0.0, old), (cfg.mismatch, mu)):
        for name in cfg.lines:
            if mismatch and not reads_sampler(name):
                continue
            given = (mdp, theta, old, of(name, cfg.group_size), cfg.group_size)
            row = measured(given, sampler, gradient)
            found.append({**about, "mismatch": mismatch, "line": name, **row})
    return found


UNKNOWN = dict.fromkeys(("cosine", "scale", "residual", "bias", "variance", "signal"))


def measured(given: Any, sampler: torch.Tensor, gradient: torch.Tensor) -> dict[str, Any]:
    """Direction, variance and signal to noise of one line; None where nothing can be listed."""
    try:
        moments = gradient_moments(*given, theta_sampler=sampler, prompts=1)
    except NotAffordable:
        return {**UNKNOWN, "method": ""}
    square = float(gradient.square().sum())
    aside, variance = against(moments.mean, gradient), moments.variance / square
    scale = aside["scale"]
    # A line that gives one number in every group has no noise to compare with.
    loud = variance > 0 and scale is not None
    signal = scale / math.sqrt(variance) if loud and scale is not None else None
    return {**aside, "variance": variance, "signal": signal, "method": moments.method}


def best(rows: pd.DataFrame, column: str) -> pd.Series:
    """The row with the largest number, the first one of those that differ by rounding alone."""
    known = rows.dropna(subset=[column])
    return known[known[column] >= known[column].max() - 1e-9].iloc[0]


def choices(rows: pd.DataFrame) -> pd.DataFrame:
    """Which line to take when, by world and drift: the nearest, the one with most signal, the defaults."""
    rows, found = rows.sort_values("line", key=lambda x: x.map(list(ESTIMATORS).index), kind="stable"), []
    for (world, drift), here in rows[rows.mismatch == 0].groupby(["world", "drift"], sort=False):
        near, loud, at = best(here, "cosine"), best(here, "signal"), here.set_index("line")
        row = {"world": world, "drift": drift, "nearest": near.line, "cosine": near.cosine}
        row |= {"most signal": loud.line, "signal": loud.signal, "its cosine": loud.cosine}
        for name, trainer in DEFAULTS.items():
            if name in at.index:
                row |= {f"{trainer} cosine": at.cosine[name], f"{trainer} signal": at.signal[name]}
        found.append(row)
    return pd.DataFrame(found)


def show(cfg: Config, rows: pd.DataFrame, console: Console) -> None:
    """Which line to take when, and the least cosine of every line."""
    made = choices(rows)
    for drift in cfg.drifts:
        table = Table(*[c for c in made if c != "drift"], title=f"which line to take, drift {drift:g}")
        for entry in made[made.drift == drift].drop(columns="drift").itertuples(index=False):
            table.add_row(*(x if isinstance(x, str) else f"{x:.4g}" for x in entry))
        console.print(table)
    least = rows[rows.mismatch == 0].groupby(["line", "drift"], sort=False).cosine.min().unstack()
    table = Table("line", *(f"drift {x:g}" for x in cfg.drifts), title="least cosine over all worlds")
    for name in cfg.lines:
        table.add_row(name, *(f"{least.loc[name, x]:+.4f}" for x in cfg.drifts))
    console.print(table)


def draw(rows: pd.DataFrame) -> Figure:
    return plots_zoo.zoo(rows, {made.__name__: made.__module__ for made in FACTORIES})


# One row for each (world, drift, mismatch, line).
EXPERIMENT = experiment.Experiment(
    name="zoo",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x drifts",
    may_be_missing=("cosine", "scale", "residual", "bias", "variance", "signal"),
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
