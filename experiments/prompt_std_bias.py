"""Claim: with prompts on shared parameters, dividing by each group's standard deviation misleads at any G.

    python experiments/prompt_std_bias.py

A group belongs to one prompt, so E[g_hat] = sum_q weight_q c_q grad J_q: prompts whose rewards vary little
count more, whatever G. Two worlds of two equally likely prompts on one row of two logits, p the probability
of token 0, at theta = theta_old, where no ratio and no clip acts:

    opposed      one token; r = 1 for token 0, or 1/2 for token 1. At delta = 0 both prompts weigh the same,
                 E[g_hat] = 0 at *every* p, while ||grad J||^2 = (p (1 - p))^2 / 8; with delta > 0 it is a
                 multiple of grad J that is O(delta): column `share` = <E g_hat, grad J> / ||grad J||^2
    prompt-trap  two tokens; r = 1 when they differ, or when the first is 0. J is best at p = 3/4; the fixed
                 point, at which E[g_hat] = 0, moves away from there as G *grows*. (Groups of two whose
                 rewards 0 and 1 differ all have the same standard deviation: nothing moves.)

`floor` is the ||grad J||^2 left at the fixed point. Without the standard deviation (dr_grpo) nothing is left.
The terminal shows both. Nothing is sampled: no error bars. Writes results/prompt_std_bias.parquet,
results/prompt_std_bias.json and figures/prompt_std_bias.png; 20 s on one core.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import Estimator, catalogue
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.fixed_points import fixed_point, policy
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import bias as plots_bias
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds import WORLDS

MAY_BE_MISSING = ("fixed_point", "floor", "p", "mean_norm", "gradient_norm_sq", "share")
"""A row is about a given policy or about a fixed point."""

NO_STD = math.inf
"""The `delta` of dr_grpo, which does not divide: (r - mean) / (std + delta) up to its scale, delta -> inf."""


def opposed() -> TokenMDP:
    """Two equally likely prompts on one row, T = 1: token 0 earns 1, or token 1 earns 1/2."""
    first = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    second = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 0.5])
    return TokenMDP.mixture([first, second], [0.5, 0.5], share_rows=True)


@dataclass(frozen=True)
class Config(Folders):
    """What standard deviations of groups do to a mixture of prompts."""

    deltas: tuple[float, ...] = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, NO_STD)
    """Constants delta that are added to the standard deviation; inf is dr_grpo, which does not divide."""
    group_sizes: tuple[float, ...] = (2, 4, 16, 64, 256, math.inf)
    """Responses G in a group; inf takes mean and standard deviation of theta_old."""
    policies: tuple[float, ...] = (0.1, 0.3, 0.5, 0.8)
    """Probabilities of token 0 at which world `opposed` is looked at."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "deltas", "group_sizes", "policies")
    for delta in cfg.deltas:
        made(delta)
    for G in cfg.group_sizes:
        if not (G == math.inf or (G >= 2 and G == int(G))):
            raise ValueError(f"group size {G}: give whole numbers of 2 or more, or inf, to --group-sizes")
    for p in cfg.policies:
        if not 0 < p < 1:
            raise ValueError(
                f"policy {p}: a probability between 0 and 1, both excluded; give for instance 0.5"
            )


def made(delta: float) -> Estimator:
    """GRPO with this delta, or dr_grpo for delta = inf."""
    return catalogue.dr_grpo() if delta == NO_STD else catalogue.grpo(delta=delta)


def keys(cfg: Config) -> list[tuple[float, float]]:
    return [(delta, float(G)) for delta in cfg.deltas for G in cfg.group_sizes]


def trace(cfg: Config, delta: float, G: float) -> list[dict[str, Any]]:
    """The rows of one delta and G."""
    empty = dict.fromkeys(MAY_BE_MISSING)
    about = {"delta": delta, "group_size": G}
    mdp, estimator = opposed(), made(delta)
    found = []
    for p in cfg.policies:
        theta = policy(mdp, p)
        mean, gradient = expected_gradient(mdp, theta, theta, estimator, G), policy_gradient(mdp, theta)
        square = float(gradient.square().sum())
        at = {"p": p, "mean_norm": float(mean.norm()), "gradient_norm_sq": square}
        at["share"] = float((mean * gradient).sum()) / square
        found.append({"world": "opposed", **about, **empty, **at})
    mdp = WORLDS["prompt-trap"].build()
    rest = fixed_point(mdp, estimator, G)
    left = float(policy_gradient(mdp, policy(mdp, rest)).square().sum())
    found.append({"world": "prompt-trap", **about, **empty, "fixed_point": rest, "floor": left})
    return found


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Both worlds: what is left at the fixed point, and how much of the gradient there is at all."""
    sizes = sorted(cfg.group_sizes)
    shown = sizes if len(sizes) < 5 else [sizes[0], sizes[1], *sizes[-2:]]
    trap, other = (made[made.world == world] for world in ("prompt-trap", "opposed"))
    heads = [f"G = {G:g}" for G in shown]
    table = Table("delta", *heads, title="prompt-trap: ||grad J||^2 left at the fixed point")
    for delta in cfg.deltas:
        of = trap[trap.delta == delta].set_index("group_size").floor
        table.add_row(called(delta), *(f"{0.0 if of[G] <= ROUNDING else of[G]:.3e}" for G in shown))
    console.print(table)
    table = Table("delta", *heads, title="opposed: share of grad J in E[g_hat], largest over p")
    for delta in cfg.deltas:
        of = other[other.delta == delta].groupby("group_size").share.max()
        table.add_row(called(delta), *(f"{0.0 if of[G] <= ROUNDING else of[G]:.2e}" for G in shown))
    console.print(table)
    positive = other[(other.delta > 0) & (other.delta < NO_STD) & (other.group_size == sizes[-1])]
    largest = positive.groupby("delta").share.max()
    fit = fit_power_law(largest.index.to_numpy(), largest.to_numpy()) if len(largest) else None
    if fit is not None:
        console.print(
            f"share ~ delta^{fit.slope:.2f} up to delta = {fit.end:g} (G = {sizes[-1]:g})", style="dim"
        )


def called(delta: float) -> str:
    return "no std" if delta == NO_STD else f"{delta:g}"


def draw(made: pd.DataFrame) -> Figure:
    """Floors against G, a line for each delta; the share of the gradient against delta."""
    return plots_bias.prompt_std_bias(made, sorted(set(made.delta)))


# One row for each (delta, G, given p) of `opposed`, and for each (delta, G) of `prompt-trap`.
EXPERIMENT = experiment.Experiment(
    name="prompt_std_bias",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=trace,
    show=show,
    draw=draw,
    what="deltas x group sizes",
    may_be_missing=MAY_BE_MISSING,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
