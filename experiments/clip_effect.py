"""Claim: where A < 0, only an upper bound on w' reduces the variance; the lower bound of PPO does not.

    python experiments/clip_effect.py

PPO's minimum leaves w' unbounded from above where A < 0 and switches a response off where w' < 1 - eps_low.
The paper keeps the upper bound for either sign instead. Both are measured, one sign of A at a time: A is
max(z, 0) or min(z, 0), z = (r - mu) / sigma of theta_old, trajectory ratio, scale 1/T, one response, exact.

    second_moment   E||g_hat||^2 of that sign's responses
    kept            second_moment over that of no clip: what is left of the noise
    bias            ||E g_hat - E g_hat without clip||: what is lost of the gradient
    bias_share      bias over the root of the second moment without clip

T tokens from one uniform row; theta moves towards token 0 (drift > 0) or away from it. World "majority",
r = 1{at least T/2 tokens 0}: w' and the reward rise and fall together, and the claim turns round for a policy
that drifts towards the reward. World "parity", r = 1{an even number of tokens 0}: w' says nothing about the
sign of A, and the claim holds.

Writes results/clip_effect.parquet, results/clip_effect.json, figures/clip_effect.png.

Paper: arXiv:2508.02833 v2, Sec. 4, the text on the clip of Eq. 9.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import Advantage, population
from ticgrpo_theory.estimators.clipping import Clip, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.ratios import trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import gradient_moments
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.plots import noise as plots_noise
from ticgrpo_theory.worlds import majority, parity

BUILD = {"majority": majority, "parity": parity}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("majority", "parity")
    """"majority" or "parity"."""
    T: int = 8
    """Tokens of a response."""
    drifts: tuple[float, ...] = (-0.6, -0.4, -0.2, -0.1, -0.05, -0.02, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
    """Signed distances of theta from theta_old, above 0 towards token 0."""
    eps_low: float = 0.2
    """Lower clip of the two-sided rule."""
    eps_high: float = 0.28
    """Upper clip of both rules."""


@dataclass(frozen=True)
class one_sign(Advantage):
    """max(A, 0) for sign 1, min(A, 0) for sign -1."""

    advantage: Advantage
    sign: int

    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        A = self.advantage.of_moments(reward, mean, variance, group_size)
        return self.sign * (self.sign * A).clamp(min=0.0)

    def at(self, mean: Tensor | float, std: Tensor | float) -> Advantage:
        return dataclasses.replace(self, advantage=self.advantage.at(mean, std))


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "drifts")
    experiment.check_names(cfg, worlds=BUILD)
    if cfg.T < 2:
        raise ValueError(f"T = {cfg.T}: a majority needs at least 2 tokens; give --T 2 or more")
    for drift in cfg.drifts:
        if drift == 0 or not math.isfinite(drift):
            raise ValueError(
                f"drift = {drift}: a clip acts only away from 0; give for instance --drifts -0.3 0.3"
            )
    clips(cfg)  # the clips refuse their own parameters


def clips(cfg: Config) -> dict[str, Clip]:
    return {
        "none": unclipped(),
        "two_sided": two_sided(cfg.eps_low, cfg.eps_high),
        "upper_only": upper_only(cfg.eps_high),
    }


def keys(cfg: Config) -> list[tuple[str, float]]:
    return [(world, drift) for world in cfg.worlds for drift in cfg.drifts]


def cell(cfg: Config, world: str, drift: float) -> list[dict[str, Any]]:
    mdp = BUILD[world](cfg.T)
    theta_old = torch.zeros(1, 2, dtype=torch.float64)
    theta = theta_old + drift * torch.tensor([[1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    made = []
    for sign in (1, -1):
        found = {
            name: gradient_moments(
                mdp,
                theta,
                theta_old,
                Estimator(trajectory, one_sign(population(), sign), clip, sequence_mean),
                group_size=1,
            )
            for name, clip in clips(cfg).items()
        }
        free = found["none"]
        for name, moments in found.items():
            bias = float((moments.mean - free.mean).norm())
            made.append(
                {
                    "world": world,
                    "drift": drift,
                    "sign": "A >= 0" if sign > 0 else "A < 0",
                    "rule": name,
                    "second_moment": moments.second_moment,
                    "kept": moments.second_moment / free.second_moment,
                    "bias": bias,
                    "bias_share": bias / math.sqrt(free.second_moment),
                }
            )
    return made


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """What each rule keeps of the noise and loses of the gradient where A < 0."""
    for world in cfg.worlds:
        table = Table("drift", *clips(cfg), title=f"{world}, A < 0: noise kept (gradient lost)")
        found = made[(made.world == world) & (made.sign == "A < 0")].set_index(["drift", "rule"])
        for drift in sorted(cfg.drifts):
            entries = (found.loc[(drift, rule)] for rule in clips(cfg))
            table.add_row(f"{drift:+g}", *(f"{row.kept:.1%} ({row.bias_share:.1%})" for row in entries))
        console.print(table)


def draw(made: pd.DataFrame) -> Figure:
    return plots_noise.clip_effect(made)


# One row for each (world, drift, sign of A, rule).
EXPERIMENT = experiment.Experiment(
    name="clip_effect",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x drifts",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
