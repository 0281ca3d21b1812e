"""Claim: of the terms of Eq. 7 and 11 one vanishes with G, two with the drift, and one with neither.

    python experiments/decomposition_terms.py

g_hat = main + gradient_error + sampling_error_1 + sampling_error_2 + clip_error; Eq. 7 is grpo, Eq. 11 is
tic_grpo_eq11. Expected over groups, as corrected, the terms are followed in the group size at one drift
where the clip acts, and in the drift x = ||theta - theta_old|| (eta K times a gradient) at one G:

    sampling_error_1    falls as 1/G, and is no smaller at theta_old
    gradient_error      falls as x, at no G; Eq. 11 has none
    clip_error          is 0 below the drift at which the clip acts; above it, it stays at every G
    sampling_error_2    with unequal lengths is there at every G and x; with equal lengths it is 0

    quantity            a term, or the residual g_hat - sum of the terms: as printed, with one repair
                        alone, and with both (see REPAIRS)
    value               its norm
    clip_fraction       share of tokens that the clip switches off, at the one G
    along               "G" and "drift": expected over groups, G = inf included; "group": one group of four

Worlds: "short-tree" has lengths 1, 2, 3, 3 and moves towards a fixed theta, where the group is taken too;
the others are named worlds, which move along grad J(theta_old): "long-answers" has unequal lengths,
"few-values" equal ones and three values of the reward.

Writes results/decomposition_terms.parquet, results/decomposition_terms.json,
figures/decomposition_terms.png.

Paper: arXiv:2508.02833 v2, Eq. 7 and 11, whose error terms are said to vanish.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Column, Table

from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo_eq11
from ticgrpo_theory.exact import decompose, policy_gradient
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.decomposition.expected_terms import Decomposition
from ticgrpo_theory.exact.decomposition.group_terms import decompose_group
from ticgrpo_theory.exact.decomposition.terms import TERMS
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import terms as plots_terms
from ticgrpo_theory.stats.power_law import growth
from ticgrpo_theory.worlds import WORLDS

REPAIRS = {
    "residual as printed": (),
    "first terms repaired": ("main", "gradient_error"),
    "sign repaired": ("sampling_error_2",),
    "both repaired": ("main", "gradient_error", "sampling_error_2"),
}
"""Residuals: the terms named are taken as corrected, the others as printed. First terms: no indicator in
Eq. 7, the current score in Eq. 11. Sign: that of sampling_error_2."""

GROUP = (0, 2, 3, 1)
"""The single group of "short-tree": one of each response."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("short-tree", "long-answers", "few-values")
    """"short-tree" or the name of a world."""
    equations: tuple[int, ...] = (7, 11)
    """7 for grpo, 11 for tic_grpo_eq11."""
    group_sizes: tuple[float, ...] = (4, 16, 64, 128, 256, 512, math.inf)
    """Group sizes G, at `drift`."""
    drifts: tuple[float, ...] = (0.0, 0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6)
    """Distances of theta from theta_old, at `group_size`."""
    drift: float = 0.8
    """The distance at which G varies: far enough for the clip to act."""
    group_size: int = 8
    """The G at which the distance varies."""
    eps_low: float = 0.2
    eps_high: float = 0.28
    delta: float = 0.0
    """Added to the standard deviation of a group."""


def short_tree() -> tuple[TokenMDP, torch.Tensor, torch.Tensor]:
    """World, theta_old, and the theta that it moves towards."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[1.0, 0.0, 0.0, 1.0], eos=1)
    old = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
    ahead = [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
    return mdp, *(torch.tensor(table, dtype=torch.float64) for table in (old, ahead))


def build(world: str) -> tuple[TokenMDP, torch.Tensor, torch.Tensor]:
    """World, theta_old, and the direction of the drift, of length 1."""
    if world == "short-tree":
        mdp, old, ahead = short_tree()
        direction = ahead - old
    else:
        mdp = WORLDS[world].build()
        old = WORLDS[world].theta_old(mdp)
        direction = policy_gradient(mdp, old)
    return mdp, old, direction / direction.norm()


def estimator_of(cfg: Config, equation: int) -> Estimator:
    return (
        grpo(cfg.eps_low, cfg.eps_high, cfg.delta)
        if equation == 7
        else tic_grpo_eq11(cfg.eps_high, cfg.delta)
    )


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "equations", "group_sizes", "drifts")
    experiment.check_names(cfg, worlds=("short-tree", *WORLDS))
    for equation in cfg.equations:
        if equation not in (7, 11):
            raise ValueError(f"equation {equation} has no terms: give 7 (grpo) or 11 (tic_grpo_eq11)")
    for drift in (*cfg.drifts, cfg.drift):
        if not 0 <= drift < math.inf:
            raise ValueError(f"drift = {drift}: a distance is finite and not below 0; for instance 0.4")
    if 0.0 not in cfg.drifts or math.inf not in cfg.group_sizes:
        raise ValueError(
            f"drifts = {cfg.drifts} and group_sizes = {cfg.group_sizes} must hold 0 and inf: what is left "
            f"there is what does not vanish"
        )
    if min(*cfg.group_sizes, cfg.group_size) < 2:
        raise ValueError("the decompositions divide by E[sigma_G]: give group sizes of 2 or more")


def keys(cfg: Config) -> list[tuple[str, int]]:
    return [(world, equation) for world in cfg.worlds for equation in cfg.equations]


def cell(cfg: Config, world: str, equation: int) -> list[dict[str, Any]]:
    mdp, old, direction = build(world)
    estimator = estimator_of(cfg, equation)
    places = [("G", G, cfg.drift) for G in cfg.group_sizes]
    places += [("drift", float(cfg.group_size), x) for x in cfg.drifts]
    made = []
    for along, G, drift in places:
        theta = old + drift * direction
        found = decompose(mdp, theta, old, estimator, G if G == math.inf else int(G))
        clipped = clip_fractions(mdp, [theta], old, estimator, cfg.group_size)[0]
        made += measured(found, world, equation, along, G, drift, clipped)
    if world == "short-tree":
        _, _, ahead = short_tree()
        found = decompose_group(mdp, ahead, old, estimator, GROUP)
        drift = float((ahead - old).norm())
        clipped = clip_fractions(mdp, [ahead], old, estimator, cfg.group_size)[0]
        made += measured(found, world, equation, "group", float(len(GROUP)), drift, clipped)
    return made


def measured(
    found: Decomposition, world: str, equation: int, along: str, G: float, drift: float, clipped: float
) -> list[dict[str, Any]]:
    """The norms of all terms and residuals at one place."""
    norms = {"total": found.total} | {name: found.terms[name] for name in TERMS}
    for name, repaired in REPAIRS.items():
        terms = found.printed_terms | {term: found.terms[term] for term in repaired}
        norms[name] = found.total - sum(terms.values())
    about = {"world": world, "equation": equation, "along": along, "group_size": float(G), "drift": drift}
    return [
        about | {"clip_fraction": clipped, "quantity": name, "value": float(vector.norm())}
        for name, vector in norms.items()
    ]


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """How terms and residuals go with 1/G and with the drift; then what repairs the sum of one group."""
    for world in cfg.worlds:
        heads = [f"({equation}) in {axis}" for equation in cfg.equations for axis in ("1/G", "x")]
        table = Table(Column(no_wrap=True), *heads, title=f"{world}: growth of the expected terms")
        for name in (*TERMS, *REPAIRS):
            of = made[(made.world == world) & (made.quantity == name)]
            parts = [of[of.equation == equation] for equation in cfg.equations]
            table.add_row(name, *(grown(part, along) for part in parts for along in ("G", "drift")))
        console.print(table)
    console.print(
        f"(7) grpo, (11) tic_grpo_eq11; 1/G at x = {cfg.drift:g}, x at G = {cfg.group_size}. 1.00: "
        "vanishes, with that power (to: until the power law ends; <: until the clip acts). exact: 0. "
        "+0.02: does not vanish, what is left",
        style="dim",
    )
    single = made[made.along == "group"]
    for equation in sorted(set(single.equation)):
        of = single[single.equation == equation].set_index("quantity").value
        text = ", ".join(f"{name} {of[name]:.10f}" for name in REPAIRS)
        console.print(f"Eq. {equation}, group {GROUP} of short-tree: {text}")


def grown(of: pd.DataFrame, along: str) -> str:
    """Growth of one quantity with 1/G or with the drift, from the value at 0."""
    part = of[of.along == along]
    x = (1 / part.group_size if along == "G" else part.drift).to_numpy()
    # At one drift the clip is the same at every G.
    clipped = (part.clip_fraction > 0).to_numpy() & (along == "drift")
    return str(growth(x, part.value.to_numpy(), clipped))


def draw(made: pd.DataFrame) -> Figure:
    return plots_terms.decomposition_terms(made)


# One row for each (world, equation, place, quantity).
EXPERIMENT = experiment.Experiment(
    name="decomposition_terms",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x equations",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
