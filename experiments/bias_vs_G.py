"""Claim: group normalisation is unbiased up to a scale for two reward values, and errs by O(1/G) for more.

    python experiments/bias_vs_G.py

At theta = theta_old, where no ratio and no clip acts, A = (r - mean_G) / (std_G + delta) at one length gives

    E[g_hat] = c grad J + b,   c = c_G / T,   c_G = Cov(E[A_1 | r_1], r_1) / Var(r)

Two reward values: b = 0, because every function of r is then affine. Three or more: ||b|| ~ C / G. Where one
row serves all tokens, `fixed_point` is the probability of token 0 at which E[g_hat] = 0, the limit of small
steps on fresh groups, and `floor` the ||grad J||^2 that is left there: O(1/G^2). Other columns:

    c_G, bias_norm = ||b||, bias_times_G        leading_order    C, from the third moment of r alone
    direction_error                             1 - cos of the angle between E[g_hat] and grad J

The terminal shows fitted powers of 1/G. Nothing is sampled: no error bars. Writes results/bias_vs_G.parquet,
results/bias_vs_G.json and figures/bias_vs_G.png; 20 s on one core.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.fixed_points import fixed_point, policy
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.objective import expected_value_gradient
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import bias as plots_bias
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds import WORLDS, World, Worlds, first_token

MAY_BE_MISSING = ("fixed_point", "floor")
"""They need one row of two logits."""


def three_values() -> TokenMDP:
    """Two tokens from one shared row; 00, 01, 10, 11 earn 0, 1, 1 and 0.3. The smallest world with three
    reward values and an optimum inside the simplex, p = 7/17, away from which group normalisation leads."""
    second = [[0, 0], [0, 1], [1, 2]]
    return TokenMDP.automaton(
        [[[1, 2], [0, 0], [0, 0]], second],
        vocab_size=2,
        horizon=2,
        reward=[0.0, 1.0, 0.3],
        rows=[0, 0, 0],
    )


CATALOGUE = Worlds(WORLDS | {"three-values": World(three_values, first_token(0.6))})


@dataclass(frozen=True)
class Config(Folders):
    """Where group normalisation leads, for how large a group."""

    worlds: tuple[str, ...] = ("xor", "right-answer", "few-values", "three-values")
    """Worlds of one prompt and one length, by name: those of bias_vs_K --list, and three-values."""
    deltas: tuple[float, ...] = (0.0, 0.1, 1.0)
    """Constants delta that are added to the standard deviation."""
    group_sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    """Responses G in a group."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "deltas", "group_sizes")
    experiment.check_names(cfg, worlds=CATALOGUE)
    for G in cfg.group_sizes:
        if G < 2:
            raise ValueError(f"group size {G}: in a group of one every A is 0; give --group-sizes 2 or more")
    for delta in cfg.deltas:
        grpo(delta=delta)  # refuses a negative constant
    for name in cfg.worlds:
        mdp, theta_old = CATALOGUE[name].build(), CATALOGUE[name].theta_old
        _, kind = known_scale(mdp, theta_old(mdp), grpo(), 2)
        if len(mdp.prompts) > 1 or kind != "known":
            raise ValueError(
                f"world {name!r} has several prompts or lengths, where c_G grad J is no common target; "
                f"see prompt_std_bias.py and length_bias.py, or leave it out of --worlds"
            )


def keys(cfg: Config) -> list[tuple[str, float]]:
    return [(world, delta) for world in cfg.worlds for delta in cfg.deltas]


def trace(cfg: Config, world: str, delta: float) -> list[dict[str, Any]]:
    """The rows of one world and delta: every G."""
    mdp, estimator = CATALOGUE[world].build(), grpo(delta=delta)
    old = CATALOGUE[world].theta_old(mdp)
    gradient = policy_gradient(mdp, old)
    limit = leading_order(mdp, old, delta)
    one_row = (mdp.num_rows, mdp.vocab_size) == (1, 2)
    made = []
    for G in cfg.group_sizes:
        mean = expected_gradient(mdp, old, old, estimator, group_size=G)
        scale, _ = known_scale(mdp, old, estimator, G)
        bias = float((mean - scale * gradient).norm())
        rest = fixed_point(mdp, estimator, G) if one_row else None
        left = None if rest is None else float(policy_gradient(mdp, policy(mdp, rest)).square().sum())
        made.append(
            {
                "world": world,
                "reward_values": len(np.unique(mdp.graph.reward)),
                "delta": delta,
                "group_size": G,
                "c_G": scale * mdp.horizon,
                "bias_norm": bias,
                "bias_times_G": G * bias,
                "leading_order": limit,
                "direction_error": float((mean / mean.norm() - gradient / gradient.norm()).square().sum())
                / 2,
                "fixed_point": rest,
                "floor": left,
            }
        )
    return made


def leading_order(mdp: TokenMDP, theta: Float[Tensor, "S V"], delta: float) -> float:
    """lim G ||b|| = sigma^2 / (2 T (sigma + delta)^2) ||grad_theta E_theta[z^3 - E[z^4] z]||.

    z = (r - mu) / sigma. With u = r_1 - (mean of the others) the variance of the group is a + u^2 / G up to
    O(1/G^2), a that of the others, so A_1 = u / (sqrt(a) + delta) - u^3 / (2 G sigma (sigma + delta)^2) + ...
    The first is affine in r_1; so is E[z^4] z, which the regression on r_1 takes away from the second.
    """
    (_, prompt), *_ = mdp.prompts
    reward, p = prompt.graph.reward, forward_backward.outcome_distribution(prompt.graph, theta.numpy())
    mean = p @ reward
    std = math.sqrt(p @ (reward - mean) ** 2)
    z = (reward - mean) / std
    cubic = expected_value_gradient(prompt, theta, z**3 - (p @ z**4) * z)
    return float(cubic.norm()) * std**2 / (2 * mdp.horizon * (std + delta) ** 2)


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Powers of 1/G of bias and floor: what the claim says in numbers."""
    largest = max(cfg.group_sizes)
    title = f"||b|| and floor fall like G^slope; G ||b|| and floor at G = {largest}"
    table = Table("world", "values", "delta", "||b||", "G ||b||", "limit", "floor", "", title=title)
    for world, delta in keys(cfg):
        of = made[(made.world == world) & (made.delta == delta)]
        last = of[of.group_size == largest].iloc[0]
        floor = "" if of.floor.isna().any() else f"{last.floor:.1e}"
        bias = [f"{last[column]:.5f}" for column in ("bias_times_G", "leading_order")]
        cells = (slope(of, "bias_norm"), *bias, floor and slope(of, "floor"), floor)
        table.add_row(world, str(last.reward_values), f"{delta:g}", *cells)
    console.print(table)
    console.print(
        "exact: zero for every G. -1.01 (32): slope of the fit from G = 32 up. -: no power law in these G.",
        style="dim",
    )


def slope(of: pd.DataFrame, column: str) -> str:
    """The power of G over the longest range of G, from the largest down, in which there is one."""
    if of[column].max() <= ROUNDING:
        return "exact"
    fit = fit_power_law(1 / of.group_size.to_numpy(), of[column].to_numpy())
    return "-" if fit is None else f"{-fit.slope:.2f} ({1 / fit.end:.0f})"


def draw(made: pd.DataFrame) -> Figure:
    """The bias of every world at the smallest delta, and the floors of those that have one."""
    return plots_bias.bias_vs_G(made, [name for name in CATALOGUE if name in set(made.world)])


# One row for each (world, delta, G).
EXPERIMENT = experiment.Experiment(
    name="bias_vs_G",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=trace,
    show=show,
    draw=draw,
    what="worlds x deltas",
    may_be_missing=MAY_BE_MISSING,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
