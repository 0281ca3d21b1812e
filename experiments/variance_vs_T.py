"""Claim: the trajectory ratio is unbiased at a price that grows exponentially with the response.

    python experiments/variance_vs_T.py

T tokens are drawn from one uniform row of two logits, and theta is that row moved by x (1, -1) / sqrt 2. One
response, no clip, z = (r - mu) / sigma of theta_old, scale 1/T: only the pooling of the ratio differs. Exact.

    variance_token, variance_trajectory   traces of the covariance of g_hat from one response
    bias_token                            ||E g_hat - c grad J(theta)|| of the token ratio, c = 1 / (T sigma)
    crossover                             group size above which the trajectory ratio has the smaller mean
                                          squared error: (variance_trajectory - variance_token) / bias_token^2
    ratio_second_moment                   E_old[w'^2]
    predicted_second_moment               (1 + chi^2)^T, with chi^2 of one token

World "majority", r = 1{at least T/2 tokens 0}: theta moves towards the reward, and the variances part as
E w'^2 does. World "all-ones", r = 1{all tokens 1}: theta moves away from it, w' is small where the reward is,
and the trajectory ratio wins in variance too.

Writes results/variance_vs_T.parquet, results/variance_vs_T.json, figures/variance_vs_T.png.

Paper: arXiv:2508.02833 v2, Sec. 4, where the variance of w' is met by an upper clip alone.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import Ratio, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import gradient_moments, policy_gradient
from ticgrpo_theory.exact.moments.estimator_moments import Moments
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import noise as plots_noise
from ticgrpo_theory.worlds import all_ones, majority


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[str, ...] = ("majority", "all-ones")
    """"majority" or "all-ones"."""
    horizons: tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    """Response lengths T, at least 2: with one token the two ratios are one number."""
    drifts: tuple[float, ...] = (0.2, 0.4, 0.6)
    """Distances x = ||theta - theta_old|| of the two logits."""


BUILD = {"majority": majority, "all-ones": all_ones}


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "horizons", "drifts")
    experiment.check_names(cfg, worlds=BUILD)
    if min(cfg.horizons) < 2:
        raise ValueError(
            f"horizons = {cfg.horizons}: with T = 1 the token ratio is the trajectory ratio; give T >= 2"
        )
    for drift in cfg.drifts:
        if not 0 < drift < math.inf:
            raise ValueError(
                f"drift = {drift}: a distance is finite and above 0; give for instance --drifts 0.4"
            )


def keys(cfg: Config) -> list[tuple[str, int]]:
    return [(world, T) for world in cfg.worlds for T in cfg.horizons]


def one_response(mdp: TokenMDP, theta: torch.Tensor, theta_old: torch.Tensor, ratio: Ratio) -> Moments:
    """Moments of z ratio / T from a single response, unclipped."""
    estimator = Estimator(ratio, population(), unclipped(), sequence_mean)
    return gradient_moments(mdp, theta, theta_old, estimator, group_size=1)


def cell(cfg: Config, world: str, T: int) -> list[dict[str, Any]]:
    mdp = BUILD[world](T)
    theta_old = torch.zeros(1, 2, dtype=torch.float64)
    made = []
    for drift in cfg.drifts:
        theta = theta_old + drift * torch.tensor([[1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
        by_token, by_trajectory = (
            one_response(mdp, theta, theta_old, ratio) for ratio in (token, trajectory)
        )
        # The mean of the trajectory ratio is c grad J(theta): the target, whatever c.
        bias = float((by_token.mean - by_trajectory.mean).norm())
        gap = by_trajectory.variance - by_token.variance
        second = float((torch.softmax(theta, dim=-1).square() * 2).sum())
        made.append(
            {
                "world": world,
                "T": T,
                "drift": drift,
                "variance_token": by_token.variance,
                "variance_trajectory": by_trajectory.variance,
                "bias_token": bias,
                "crossover": gap / bias**2,
                "ratio_second_moment": by_trajectory.ratio_second_moment,
                "predicted_second_moment": second**T,
                "gradient_norm": float(policy_gradient(mdp, theta).norm()),
            }
        )
    return made


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Variance ratio and crossover, T down, drift across."""
    for world in cfg.worlds:
        table = Table(
            "T", *(f"x = {drift:g}" for drift in cfg.drifts), title=f"{world}: variance ratio (crossover G)"
        )
        for T in cfg.horizons:
            found = made[(made.world == world) & (made["T"] == T)].set_index("drift")
            table.add_row(str(T), *(entry(found.loc[drift]) for drift in cfg.drifts))
        console.print(table)
    worst = (made.ratio_second_moment / made.predicted_second_moment - 1).abs().max()
    console.print(f"E w'^2 against (1 + chi^2)^T: largest relative difference {worst:.1e}")


def entry(row: pd.Series) -> str:
    ratio = row.variance_trajectory / row.variance_token
    return f"{ratio:.3g} ({'any G' if row.crossover <= 0 else f'G > {row.crossover:.1f}'})"


def draw(made: pd.DataFrame) -> Figure:
    return plots_noise.variance_vs_T(made)


# One row for each (world, T, drift).
EXPERIMENT = experiment.Experiment(
    name="variance_vs_T",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x T",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
