"""Claim: most KL penalties are not the gradient of the KL of responses; for T > 1 off-policy, few are.

    python experiments/kl_estimators.py

A penalty is a term of the loss (k1, k2, k3 of the sampled tokens or the exact divergence of whole rows, with
or without a ratio in front) or a part of the reward. Its exact contribution to the gradient, over -beta, is
compared with the gradients that it might be taken for, at theta = theta_old + drift u; drift 0 is on-policy:

    distance       ||contribution / (-beta) - target||
    target_norm    ||target||

The terminal names, for each penalty, the targets that it meets to 1e-12 in all worlds and at all drifts. The
proofs are in ticgrpo_theory/exact/penalties/penalised.py. Nothing is sampled: no error bars. Writes
results/kl_estimators.parquet, results/kl_estimators.json and figures/kl_estimators.png; 20 s on one core.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ticgrpo_theory.estimators import Estimator, ratios, scales
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.penalties import (
    Penalty,
    held,
    k1,
    k2,
    k2_of_response,
    k3,
    kl_exact,
    kl_loss,
    kl_reward,
)
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.exact.objective import expected_value_gradient
from ticgrpo_theory.exact.penalties import divergence as exact
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import kl as plots_kl
from ticgrpo_theory.plots import style
from ticgrpo_theory.worlds import WORLDS

# The penalty, and the ratio of the estimator that carries it, which only a penalty in the reward feels.
PENALTIES: dict[str, tuple[Penalty, ratios.Ratio]] = {
    "loss k1": (kl_loss(k1, 1.0), none),
    "loss k2": (kl_loss(k2, 1.0), none),
    "loss k3": (kl_loss(k3, 1.0), none),
    "loss k2 of response": (kl_loss(k2_of_response, 1.0), none),
    "loss exact": (kl_exact(1.0), none),
    "loss token k1": (kl_loss(k1, 1.0, token), none),
    "loss token k2": (kl_loss(k2, 1.0, token), none),
    "loss token k3": (kl_loss(k3, 1.0, token), none),
    "loss held token k2": (kl_loss(k2, 1.0, held(token)), none),
    "loss held token k3": (kl_loss(k3, 1.0, held(token)), none),
    "loss geometric mean k3": (kl_loss(k3, 1.0, geometric_mean), none),
    "loss prefix k3": (kl_loss(k3, 1.0, prefix), none),
    "loss prefix exact": (kl_exact(1.0, prefix), none),
    "loss trajectory k1": (kl_loss(k1, 1.0, trajectory), none),
    "loss trajectory k2": (kl_loss(k2, 1.0, trajectory), none),
    "loss trajectory k3": (kl_loss(k3, 1.0, trajectory), none),
    "loss trajectory exact": (kl_exact(1.0, trajectory), none),
    "loss held trajectory k2": (kl_loss(k2, 1.0, held(trajectory)), none),
    "reward k1": (kl_reward(k1, 1.0), none),
    "reward k2": (kl_reward(k2, 1.0), none),
    "reward k3": (kl_reward(k3, 1.0), none),
    "reward k1, token ratio": (kl_reward(k1, 1.0), token),
    "reward k1, trajectory ratio": (kl_reward(k1, 1.0), trajectory),
}
SCALES = {scale.__name__: scale for scale in (scales.sequence_sum, scales.sequence_mean)}


@dataclass(frozen=True)
class Place:
    """A world, the three policies, and the factor in front of a response; gradients of divergences there."""

    mdp: TokenMDP
    theta: Tensor
    old: Tensor
    reference: Tensor
    scale: scales.Scale

    def expected(self, reference: Tensor, cost: exact.Cost) -> Tensor:
        return exact.expected_divergence(self.mdp, self.theta, reference, cost, self.scale).gradient

    def frozen(self, visiting: Tensor, reference: Tensor, cost: exact.Cost) -> Tensor:
        return exact.frozen_divergence(self.mdp, self.theta, visiting, reference, cost, self.scale).gradient

    def length(self) -> Tensor:
        scale, T = self.scale, self.mdp.horizon
        scaled = ((q, m, exact.outcome_scale(m.graph, scale, T)) for q, m in self.mdp.prompts)
        return sum(q * expected_value_gradient(m, self.theta, value) for q, m, value in scaled)


KL, RKL, H = exact.kl_to_reference, exact.kl_from_reference, exact.half_squared

# What each is; E is the mean of the sum over a response, times 1/|y| where the scale is sequence_mean.
TARGETS: dict[str, tuple[str, Callable[[Place], Tensor]]] = {
    "zero": ("0", lambda p: torch.zeros_like(p.theta)),
    "KL": ("grad E_theta[KL(s)], the KL of responses", lambda p: p.expected(p.reference, KL)),
    "KL at old": (
        "E_old[grad KL(s)], states frozen at theta_old",
        lambda p: p.frozen(p.old, p.reference, KL),
    ),
    "KL at theta": ("E_theta[grad KL(s)], frozen at theta", lambda p: p.frozen(p.theta, p.reference, KL)),
    "RKL at old": ("E_old[grad KL(pi_ref || pi_theta)(s)]", lambda p: p.frozen(p.old, p.reference, RKL)),
    "RKL at theta": (
        "E_theta[grad KL(pi_ref || pi_theta)(s)]",
        lambda p: p.frozen(p.theta, p.reference, RKL),
    ),
    "H": ("grad E_theta[H(s)], H(s) = E_pi[d^2 / 2]", lambda p: p.expected(p.reference, H)),
    "H at old": ("E_old[grad H(s)]", lambda p: p.frozen(p.old, p.reference, H)),
    "KL minus KL to old": (
        "grad (KL(P_theta || P_ref) - KL(P_theta || P_old))",
        lambda p: p.expected(p.reference, KL) - p.expected(p.old, KL),
    ),
    "away from old": ("- E_old[grad KL(pi_old || pi_theta)(s)]", lambda p: -p.frozen(p.old, p.old, RKL)),
    "KL minus RKL": ("KL minus RKL at theta", lambda p: TARGETS["KL"][1](p) - TARGETS["RKL at theta"][1](p)),
    "H minus KL": ("H minus KL at theta", lambda p: TARGETS["H"][1](p) - TARGETS["KL at theta"][1](p)),
    "length": ("grad E_theta[scale(|y|)], which knows no reference", Place.length),
}

DRAWN_WORLDS = {"bandit": "bandit: T = 1", "bigram": "bigram: T = 5"}
DRAWN_TARGETS = {
    "KL": "KL of responses",
    "KL at old": r"KL, states frozen at $\theta_{\rm old}$",
    "RKL at old": r"reverse KL, frozen at $\theta_{\rm old}$",
}
DRAWN_PENALTIES = {
    "loss k1": "$k_1$ in the loss",
    "loss k2": "$k_2$ in the loss",
    "loss k3": "$k_3$ in the loss (GRPO)",
    "loss token k3": r"token ratio $\times\,k_3$ (TRL)",
    "loss trajectory k3": r"trajectory ratio $\times\,k_3$",
    "reward k1": "$k_1$ in the reward",
    "reward k3": "$k_3$ in the reward",
}


@dataclass(frozen=True)
class Config(Folders):
    """What every penalty contributes, against what it is taken for."""

    worlds: tuple[str, ...] = ("bandit", "xor", "few-values", "bigram", "long-answers")
    """Worlds, by name; in `xor` all states cost the same, in `long-answers` the lengths are unequal."""
    penalties: tuple[str, ...] = tuple(PENALTIES)
    """Penalties, by name."""
    targets: tuple[str, ...] = tuple(TARGETS)
    """Gradients that they are compared with, by name."""
    scales: tuple[str, ...] = tuple(SCALES)
    """The factor in front of a response: 1/G, or 1/(G |y|)."""
    drifts: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Distances ||theta - theta_old||; 0 is on-policy."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    known = {"worlds": WORLDS, "penalties": PENALTIES, "targets": TARGETS, "scales": SCALES}
    experiment.check_lists(cfg, *known, "drifts")
    experiment.check_names(cfg, **known)
    for drift in cfg.drifts:
        if not 0 <= drift < math.inf:
            raise ValueError(f"drift = {drift}: a distance is finite and at least 0; give for instance 0.1")


def reference(mdp: TokenMDP) -> Tensor:
    """theta_ref[s, a] = 0.2 ((2 s + 3 a) mod 5) - 0.4: no row equals that of theta_old."""
    s, a = np.arange(mdp.num_rows)[:, None], np.arange(mdp.vocab_size)
    return torch.from_numpy(0.2 * ((2 * s + 3 * a) % 5) - 0.4)


def direction(mdp: TokenMDP) -> Tensor:
    """u = x / ||x||, x = sin(1), sin(2), ... in the order of the table, minus the mean of each row."""
    x = torch.sin(torch.arange(1, mdp.num_rows * mdp.vocab_size + 1, dtype=torch.float64))
    x = x.reshape(mdp.num_rows, mdp.vocab_size)
    x = x - x.mean(dim=1, keepdim=True)
    return x / x.norm()


def places(cfg: Config) -> list[tuple[str, str, float]]:
    return [(world, scale, drift) for world in cfg.worlds for scale in cfg.scales for drift in cfg.drifts]


def distances(cfg: Config, world: str, scale: str, drift: float) -> list[dict[str, Any]]:
    """The rows of one world, scale and drift."""
    mdp = WORLDS[world].build()
    old = WORLDS[world].theta_old(mdp)
    place = Place(mdp, old + drift * direction(mdp), old, reference(mdp), SCALES[scale])
    lengths = {int(n) for _, prompt in mdp.prompts for n in np.unique(prompt.graph.length)}
    about = {
        "world": world,
        "T": mdp.horizon,
        "unequal_lengths": len(lengths) > 1,
        "scale": scale,
        "drift": drift,
    }
    targets = {name: TARGETS[name][1](place) for name in cfg.targets}
    made = []
    for name in cfg.penalties:
        penalty, ratio = PENALTIES[name]
        carrier = Estimator(ratio, raw(), unclipped(), place.scale)
        # beta is 1: the contribution is linear in it.
        found = -penalty_gradient(mdp, place.theta, old, place.reference, penalty, carrier)
        for target, gradient in targets.items():
            gap = {"distance": float((found - gradient).norm()), "target_norm": float(gradient.norm())}
            made.append({**about, "estimator": name, "target": target, **gap})
    return made


def met(made: pd.DataFrame) -> str:
    """The targets that lie within rounding in every one of the rows; "-" for none, nothing for no rows."""
    close = made.distance <= style.ROUNDING * np.maximum(1.0, made.target_norm)
    always = close.groupby(made.target).all()
    return ", ".join(name for name in TARGETS if always.get(name, False)) or "-" * (not made.empty)


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Which targets each penalty meets."""
    total, mean = made[made.scale == "sequence_sum"], made[made.scale == "sequence_mean"]
    for title, part in (
        ("Scale 1/G, T > 1", total[total["T"] > 1]),
        ("Scale 1/G, T = 1", total[total["T"] == 1]),
        ("Scale 1/(G |y|), unequal lengths", mean[mean.unequal_lengths]),
    ):
        table = Table("penalty", "on-policy", "at any drift", title=title)
        for name in cfg.penalties:
            of = part[part.estimator == name]
            table.add_row(name, met(of[of.drift == 0]), met(of[of.drift > 0]))
        console.print(table)
    for name in cfg.targets:
        console.print(f"{name:18}{TARGETS[name][0]}", style="dim", markup=False)


def draw(made: pd.DataFrame) -> Figure:
    """The figure of what is both in the results and among what the figure can show; else of what there is."""
    options = (
        (DRAWN_WORLDS, WORLDS, "world"),
        (DRAWN_PENALTIES, PENALTIES, "estimator"),
        (DRAWN_TARGETS, TARGETS, "target"),
    )
    chosen = []
    for drawn, known, column in options:
        there = [name for name in known if name in set(made[column])]
        labels = {name: label for name, label in drawn.items() if name in there}
        chosen.append(labels or {name: name for name in there[:3]})
    scale = next(name for name in SCALES if name in set(made.scale))
    return plots_kl.kl_estimators(made[made.scale == scale], *chosen)


# One row for each (world, scale, drift, penalty, target).
EXPERIMENT = experiment.Experiment(
    name="kl_estimators",
    version=2,
    config=Config,
    check=check,
    keys=places,
    cell=distances,
    show=show,
    draw=draw,
    what="worlds x scales x drifts",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
