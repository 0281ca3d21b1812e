"""Claim: published defaults can turn an update round: token means of small micro-batches where lengths
differ, and deviations of groups, or of a batch of few prompts, where prompts differ, in large groups.

    python experiments/batch_normalisers.py

An update holds P groups, their prompts drawn by weight, of G responses each, B = P G rows. Token ratio, no
clip; the policy is theta_old (drift 0), or `drift` away along sin(1), sin(2), ... in the order of the table.
Columns: `cosine`, `scale`, `residual`, `bias` of E[g_hat] beside grad J(theta), see
ticgrpo_theory/stats/direction.py. Worlds, all prompts on the same rows:

    lengths      three prompts, V = 3, T = 3, EOS: stop at once; two tokens 0; some token 1
    length-trap  one row, T = 3, EOS: right at length 2 (weight 0.7), or at 2 and 3; theta_old a little beyond
                 the optimum, where what short responses weigh too much decides the sign
    easy-hard    one row, four tokens of two kinds: at least two tokens 0 (0.3), or none; theta_old uniform

Lines: sums over tokens divided by B ("1/B"), by the tokens of the response, of the group, of the micro-batch
of m rows, in order or shuffled, or of the batch, of rewards minus the mean of their group; and advantages
standardised in a group, a batch, over tokens ("whitened"). Published defaults: TRL 1.16, `loss_type` "dapo"
and "bnpo" (micro-batches by device), `scale_rewards` "group" and "batch" of trainer/grpo_trainer.py, 1e-4
beside deviations with n - 1; verl 0.8.0.dev, commit b178a3c, trainer/ppo/core_algos.py: REINFORCE++ whitens
over tokens (`masked_whiten`) and divides by those of the batch; its 1e-8 under the root is here beside it.

Nothing is sampled. Writes results/batch_normalisers.parquet, results/batch_normalisers.json and
figures/batch_normalisers.png; 20 s on one core.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import Estimator, ratios
from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    centred,
    group_centred_batch_std,
    standardised,
    token_whitened,
)
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.scales import (
    Scale,
    batch_token_mean,
    micro_batch_token_mean,
    sequence_mean,
    sequence_sum,
    token_mean,
)
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import updates as plots_updates
from ticgrpo_theory.stats.direction import against, sine
from ticgrpo_theory.worlds.catalogue import all_ones, first_token, graded, majority


def made(advantage: Any, scale: Scale) -> Estimator:
    """The estimator of an advantage and a scale: token ratio, no clip."""
    return Estimator(ratios.token, advantage, unclipped(), scale)


LINES: dict[str, Estimator] = {
    "1/B": made(centred(), sequence_sum),
    "response token mean": made(centred(), sequence_mean),
    "group token mean": made(centred(), token_mean),
    "batch token mean": made(centred(), batch_token_mean),
    "group std": made(standardised(0.0), sequence_sum),
    "TRL default": made(standardised(1e-4, 1), batch_token_mean),
    "batch-standardised": made(batch_standardised(0.0), sequence_sum),
    "whitened": made(token_whitened(0.0), sequence_sum),
    "whitened, n - 1": made(token_whitened(0.0, 1), sequence_sum),
    "verl reinforce++": made(token_whitened(1e-8, 1), batch_token_mean),
    "batch rms": made(group_centred_batch_std(0.0), sequence_sum),
    "batch std": made(group_centred_batch_std(0.0, of="rewards"), sequence_sum),
    "TRL scale_rewards=batch": made(group_centred_batch_std(1e-4, 1, "rewards"), batch_token_mean),
}

ORDERS = {"in order": "in_order", "shuffled": "shuffled"}


def ended_at(right: set[int]) -> TokenMDP:
    """At most three tokens from one row, token 1 ends; right at these lengths."""
    return TokenMDP.automaton(
        [[0, 0]], vocab_size=2, horizon=3, reward=lambda _, n: float(n in right), rows="state", eos=1
    )


def lengths() -> TokenMDP:
    rights = (lambda y: len(y) == 1, lambda y: y.count(0) >= 2, lambda y: 1 in y)
    trees = [
        TokenMDP.prefix_tree(vocab_size=3, horizon=3, eos=2, reward=lambda y, right=right: float(right(y)))
        for right in rights
    ]
    return TokenMDP.mixture(trees, [1 / 3] * 3, share_rows=True)


def length_trap() -> TokenMDP:
    return TokenMDP.mixture([ended_at({2}), ended_at({2, 3})], [0.7, 0.3], share_rows=True)


def easy_hard() -> TokenMDP:
    return TokenMDP.mixture([majority(4), all_ones(4)], [0.3, 0.7], share_rows=True)


WORLDS = {
    "lengths": (lengths, graded),
    "length-trap": (length_trap, first_token(0.75)),
    "easy-hard": (easy_hard, first_token(0.5)),
}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """Where each normaliser of a whole update points."""

    worlds: tuple[str, ...] = tuple(WORLDS)
    """"lengths", "length-trap" or "easy-hard"."""
    prompts: tuple[int, ...] = (2, 4, 8)
    """Groups P of an update."""
    group_sizes: tuple[int, ...] = (4, 8, 16)
    """Responses G of a group."""
    micro_batches: tuple[int, ...] = (1, 2, 4, 8)
    """Rows m of a micro-batch; P G is a multiple of each."""
    drifts: tuple[float, ...] = (0.0, 0.5)
    """||theta - theta_old||."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "prompts", "group_sizes", "micro_batches", "drifts")
    experiment.check_names(cfg, worlds=WORLDS)
    for P in cfg.prompts:
        if P < 1:
            raise ValueError(f"P = {P}: an update has at least one group; give --prompts 2 or more")
    for G in cfg.group_sizes:
        if G < 2:
            raise ValueError(f"G = {G}: a group has a mean of its own; give --group-sizes 2 or more")
    for drift in cfg.drifts:
        if not 0 <= drift < math.inf:
            raise ValueError(f"drift = {drift}: a distance is finite and at least 0; give for instance 0.5")
    for m in cfg.micro_batches:
        for P, G in ((P, G) for P in cfg.prompts for G in cfg.group_sizes):
            micro_batch_token_mean(m).check_rows(P * G)


def lines(cfg: Config) -> dict[str, tuple[Estimator, int | None]]:
    """Name of a line: the estimator, and the rows of its micro-batches, None where there are none."""
    found: dict[str, tuple[Estimator, int | None]] = {name: (made, None) for name, made in LINES.items()}
    for m in cfg.micro_batches:
        for name, order in ORDERS.items():
            found[f"micro-batches {name}, m = {m}"] = made(centred(), micro_batch_token_mean(m, order)), m
    return found


def keys(cfg: Config) -> list[tuple[str, int, int, float]]:
    return [
        (world, P, G, drift)
        for world in cfg.worlds
        for P in cfg.prompts
        for G in cfg.group_sizes
        for drift in cfg.drifts
    ]


def cell(cfg: Config, world: str, P: int, G: int, drift: float) -> list[dict[str, Any]]:
    """The rows of one world, update and drift: every line."""
    build, start = WORLDS[world]
    mdp = build()
    old = start(mdp)
    theta = old + drift * sine(old)
    gradient = policy_gradient(mdp, theta)
    about = {"world": world, "prompts": P, "group_size": G, "drift": drift}
    found = []
    for name, (estimator, m) in lines(cfg).items():
        mean = expected_gradient(mdp, theta, old, estimator, G, prompts=P)
        found.append({**about, "line": name, "micro_batch": m, **against(mean, gradient)})
    return found


def show(cfg: Config, rows: pd.DataFrame, console: Console) -> None:
    """Cosine and best multiple on policy and after the drift, in the smallest and the largest update."""
    ends = [(min(cfg.prompts), min(cfg.group_sizes)), (max(cfg.prompts), max(cfg.group_sizes))]
    sizes = list(dict.fromkeys(ends))
    at = rows.set_index(["world", "line", "prompts", "group_size", "drift"])
    for drift in cfg.drifts:
        for P, G in sizes:
            table = Table("line", *cfg.worlds, title=f"cosine (multiple), P = {P}, G = {G}, drift {drift:g}")
            for name in lines(cfg):
                entries = (at.loc[(world, name, P, G, drift)] for world in cfg.worlds)
                table.add_row(name, *(f"{x.cosine:+.5f} ({x.scale:+.3f})" for x in entries))
            console.print(table)


def draw(rows: pd.DataFrame) -> Figure:
    return plots_updates.batch_normalisers(rows)


# One row for each (world, P, G, drift, line).
EXPERIMENT = experiment.Experiment(
    name="batch_normalisers",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x updates x drifts",
    may_be_missing=("cosine", "micro_batch"),
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
