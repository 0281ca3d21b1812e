"""Claim: reusing one group makes even an unbiased gradient biased, by eta k C / G; fresh groups do not.

    python experiments/reuse_bias.py

Two tokens, right when they are equal. From theta_0 = theta_old an estimator takes K steps theta_{k+1} =
theta_k + eta g_hat_k, all on one group ("reused") or each on a whole group of its own ("disjoint"). Every
group is followed: exact. c is the multiple of grad J that the estimator gives at theta_old.

    scale               c
    bias                ||E[g_hat_k - c grad J(theta_k)]||
    predicted           ||eta k C / G||, C = E[F' x] - M m (exact/reuse/leading_order.py), for "trajectory z"
                        where a group is reused
    miss                ||bias vector - predicted vector||
    mse                 E||g_hat_k - c grad J(theta_k)||^2
    gain                E[J(theta_k)] - J(theta_old)

The estimators have the scale 1/T, tic_grpo has 1 and so steps T times as long. "trajectory z", "token z":
no clip, z = (r - mu) / sigma of theta_old; "trajectory", "token": the group's statistics instead; stale:
gradient held at theta_old; grpo, tic_grpo_eq11, tic_grpo: the statistics of the group and clips of eps.
The token ratio and the clips have a bias of their own, at every G and with either kind of groups.

World "match-tree": a row of logits for each prefix. "match-row": both tokens from one row, pi(0) = 0.7.

Writes results/reuse_bias.parquet, results/reuse_bias.json, figures/reuse_bias.png.

Paper: arXiv:2508.02833 v2, Algorithm 2 and Sec. 4, where g_hat is called unbiased for grad J(theta_k).
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory import worlds
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.estimators.catalogue import grpo, stale, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.resolve import check_group_size
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import reuse_bias
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.reuse.leading_order import leading_order
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.estimator_names import named_estimators, reads_reference
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import terms as plots_terms
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.stats.rounding import ROUNDING

MAY_BE_MISSING = ("predicted", "miss")

PREDICTED = "trajectory z"
"""The estimator without bias at a theta that does not depend on the group."""

FAMILIES = {"no clip": ("trajectory", "token", "stale"), "clipped": ("tic_grpo_eq11", "grpo")}
"""Estimators whose gains are compared: the same first step, the same kind of clip."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("match-tree", "match-row")
    """"match-tree" or "match-row"."""
    estimators: tuple[str, ...] = (
        "trajectory z",
        "token z",
        "trajectory",
        "token",
        "stale",
        "tic_grpo_eq11",
        "grpo",
        "tic_grpo",
    )
    """Estimators, by the names above, or file.py:name of one, an objective or a loss of yours."""
    group_sizes: tuple[int, ...] = (2, 4, 8, 10, 12, 16)
    """Responses G of a reused group."""
    etas: tuple[float, ...] = (0.00625, 0.025, 0.1, 0.5)
    """Learning rates of the inner steps."""
    K: int = 4
    """Inner steps on a reused group; there is a row for each k = 0..K."""
    disjoint_sizes: tuple[int, ...] = (2, 3)
    """Responses G of groups that are drawn anew: all sequences of them are followed, so keep them small."""
    disjoint_K: int = 2
    """Inner steps on such groups."""
    eps: float = 0.2
    """Clip of grpo on both sides, of tic_grpo_eq11 and tic_grpo above."""
    delta: float = 0.0
    """Added to the standard deviation of a group."""


def match_tree() -> tuple[TokenMDP, torch.Tensor]:
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.0, 1.0])
    return mdp, torch.tensor([[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1]], dtype=torch.float64)


def match_row() -> tuple[TokenMDP, torch.Tensor]:
    mdp = worlds.shared_row(2, lambda a, b: a == b)
    return mdp, worlds.first_token(0.7)(mdp)


BUILD = {"match-tree": match_tree, "match-row": match_row}


def estimators(cfg: Config) -> dict[str, Estimator]:
    group = standardised(cfg.delta)
    return {
        "trajectory z": Estimator(trajectory, population(), unclipped(), sequence_mean),
        "token z": Estimator(token, population(), unclipped(), sequence_mean),
        "trajectory": Estimator(trajectory, group, unclipped(), sequence_mean),
        "token": Estimator(token, group, unclipped(), sequence_mean),
        "stale": stale(delta=cfg.delta),
        "tic_grpo_eq11": tic_grpo_eq11(cfg.eps, cfg.delta),
        "grpo": grpo(cfg.eps, cfg.eps, cfg.delta),
        "tic_grpo": tic_grpo(cfg.eps, cfg.delta),
    }


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "estimators", "group_sizes", "etas", "disjoint_sizes")
    experiment.check_names(cfg, worlds=BUILD)
    for estimator in named_estimators(cfg.estimators, estimators(cfg)).values():
        check_group_size(min(*cfg.group_sizes, *cfg.disjoint_sizes), estimator)
    if min(*cfg.group_sizes, *cfg.disjoint_sizes) < 2:
        raise ValueError("a group of one has A = 0 and moves nothing: give group sizes of 2 or more")
    for option in ("K", "disjoint_K"):
        if getattr(cfg, option) < 1:
            raise ValueError(f"{option} = {getattr(cfg, option)}: theta moves at k = 1; give 1 or more")
    for eta in cfg.etas:
        if not 0 < eta < math.inf:
            raise ValueError(f"eta = {eta}: a learning rate is finite and above 0; for instance --etas 0.1")


def keys(cfg: Config) -> list[tuple[str, str]]:
    return [(world, name) for world in cfg.worlds for name in cfg.estimators]


def cell(cfg: Config, world: str, name: str) -> list[dict[str, Any]]:
    mdp, theta_old = BUILD[world]()
    estimator = named_estimators([name], estimators(cfg))[name]
    reference = theta_old if reads_reference(estimator) else None
    first_order = leading_order(mdp, theta_old, estimator) if name == PREDICTED else None
    plan = [("reused", G, cfg.K) for G in cfg.group_sizes]
    plan += [("disjoint", G, cfg.disjoint_K) for G in cfg.disjoint_sizes]
    made = []
    for batches, G, K in plan:
        scale, _ = known_scale(mdp, theta_old, estimator, G, reference)
        how = {"scale": scale, "batches": batches, "theta_ref": reference}
        for eta in cfg.etas:
            steps = reuse_bias(mdp, theta_old, estimator, G, K, eta, **how)
            for k in range(K + 1):
                predicted = miss = math.nan
                if first_order is not None and batches == "reused":
                    vector = eta * k / G * first_order
                    predicted, miss = float(vector.norm()), float((steps.bias[k] - vector).norm())
                made.append(
                    {
                        "world": world,
                        "estimator": name,
                        "batches": batches,
                        "group_size": G,
                        "eta": eta,
                        "k": k,
                        "scale": scale,
                        "bias": float(steps.bias[k].norm()),
                        "predicted": predicted,
                        "miss": miss,
                        "mse": float(steps.mse[k]),
                        "gain": float(steps.expected_return[k] - steps.expected_return[0]),
                    }
                )
    return made


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """How the bias grows, reused and disjoint; then the gain of K steps with the largest eta."""
    small, large = min(cfg.etas), max(cfg.etas)
    for world in cfg.worlds:
        here = made[made.world == world]
        table = Table("estimator", "in G", "in eta k", "fresh groups", title=f"{world}: bias / c")
        for name in cfg.estimators:
            own = here[here.estimator == name].assign(error=lambda x: x.bias / x.scale.abs())
            fresh = own[own.batches == "disjoint"].error.max()
            table.add_row(name, *slopes(own, small), "0" if fresh <= ROUNDING else f"{fresh:.1e}")
        console.print(table)
        known = here[(here.k > 0) & (here.eta == small) & here.predicted.notna()]
        if len(known):
            ratio = known.bias / known.predicted
            console.print(
                f"{PREDICTED}, reused, eta = {small:g}: bias / predicted = "
                f"{ratio.min():.4f} to {ratio.max():.4f}"
            )
    for world in cfg.worlds:
        table = Table("estimator", *(f"G = {G}" for G in cfg.group_sizes))
        table.title = f"{world}: gain in J of K = {cfg.K} steps on one group, eta = {large:g}"
        ends = made[(made.world == world) & (made.batches == "reused") & (made.eta == large)]
        ends = ends[ends.k == cfg.K].pivot(index="estimator", columns="group_size", values="gain")
        for name in cfg.estimators:
            table.add_row(name, *(f"{ends.loc[name, G]:.5f}" for G in cfg.group_sizes))
        winners = []
        for what, names in FAMILIES.items():
            there = [name for name in names if name in ends.index]
            if len(there) > 1:
                most = ends.loc[there].idxmax()
                sizes = {name: ", ".join(f"{G}" for G in most.index[most == name]) for name in most}
                winners.append(
                    f"most, {what}: " + "; ".join(f"{name} at G = {sizes[name]}" for name in sizes)
                )
        console.print(table, *winners, sep="\n")
    console.print(
        f"in G: at k = 1 and eta = {small:g}, from the G in brackets up; in eta k: at the largest G, up to "
        "the end in brackets. -: no power law; fresh groups: the largest bias at any G, eta and k",
        style="dim",
    )


def slopes(own: pd.DataFrame, eta: float) -> tuple[str, str]:
    """Powers of the bias in G (k = 1, one eta) and in eta k (largest G), as text."""
    reused = own[(own.batches == "reused") & (own.k > 0)]
    first = reused[(reused.k == 1) & (reused.eta == eta)]
    largest = reused[reused.group_size == reused.group_size.max()]
    in_G = fit_power_law(1 / first.group_size.to_numpy(dtype=float), first.error.to_numpy())
    in_step = fit_power_law((largest.eta * largest.k).to_numpy(), largest.error.to_numpy())
    return (
        "-" if in_G is None else f"G^{-in_G.slope:.2f} ({1 / in_G.end:.0f})",
        "-" if in_step is None else f"(eta k)^{in_step.slope:.2f} ({in_step.end:.2g})",
    )


def draw(made: pd.DataFrame) -> Figure:
    return plots_terms.reuse_bias(made)


# One row for each (world, estimator, kind of groups, G, eta, k).
EXPERIMENT = experiment.Experiment(
    name="reuse_bias",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x estimators",
    may_be_missing=MAY_BE_MISSING,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
