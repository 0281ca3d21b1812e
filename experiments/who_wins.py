"""Claim: the trajectory ratio is the better one. Neither is: it hangs on world, G, T, eta K and clip.

    python experiments/who_wins.py             # about three minutes on one core

Two measures from one theta_old, A of the group (delta = 0) or z = (r - mu) / sigma ("population"):

    gain    E[J(theta_K) - J(theta_old)] of one outer step, K = 4 steps on one group
    mse     E||g_hat - c grad J(theta)||^2 of one fresh group at the theta to which K steps of the mean
            gradient at theta_old lead: how good the next inner gradient is

of tic (trajectory ratio), grpo (token ratio), no_is (weight 1) and stale (gradient held at theta_old); tic
and grpo without clip, or with clips of eps. Exact over all groups where those are few, else simulated with
95 % intervals of paired differences.

    lead        by how much tic is better than grpo; `half`: half-width of its interval, 0 where it is exact
    predicted   for gain eta^2 K (K-1) / 2 times the lead of exact/reuse/leading_order.py, for mse bias^2 +
                (V_grpo - V_tic) / G, V and bias of one response; both for population z and no clip
    crossover   the G at which `predicted` changes sign
    best        all that cannot be told from the best of the four, joined by "="

Worlds with T tokens from one row: "all-ones" (all must be token 1, pi(0) = 0.3 at first: a sparse reward) and
"majority" (half must be 0, pi(0) = 1/2). With a row for each prefix: "match-tree" (two tokens, right when
equal) and "differ-tree" (three, right when the first two differ), whose crossover lies between 3 and 4.

Writes results/who_wins.parquet, results/who_wins.json, figures/who_wins.png.

Paper: arXiv:2508.02833 v2, Sec. 4: "faster convergence" of TIC-GRPO.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory import worlds
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import Advantage, population, standardised
from ticgrpo_theory.estimators.clipping import Clip, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.estimator import current, old
from ticgrpo_theory.estimators.ratios import none, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import gradient_moments, reuse_bias
from ticgrpo_theory.exact.mean.mean_field import MeanField
from ticgrpo_theory.exact.moments.estimator_moments import Moments
from ticgrpo_theory.exact.reuse.leading_order import second_order
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import style
from ticgrpo_theory.plots import wins as plots_wins
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.stats.rounding import ROUNDING

World = tuple[TokenMDP, torch.Tensor]


def one_row(build: Callable[[int], TokenMDP], probability: float, T: int) -> World:
    mdp = build(T)
    return mdp, worlds.first_token(probability)(mdp)


def match_tree(T: int) -> World:
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=T, reward=lambda y: float(y[0] == y[1]))
    return mdp, torch.tensor([[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1]], dtype=torch.float64)


def differ_tree(T: int) -> World:
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=T, reward=lambda y: float(y[0] != y[1]))
    return mdp, worlds.graded(mdp)


BUILD: dict[str, Callable[[int], World]] = {
    "all-ones": partial(one_row, worlds.all_ones, 0.3),
    "majority": partial(one_row, worlds.majority, 0.5),
    "match-tree": match_tree,
    "differ-tree": differ_tree,
}


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    worlds: tuple[tuple[str, int], ...] = (
        *(("all-ones", 2), ("all-ones", 4), ("all-ones", 8)),
        *(("majority", 2), ("majority", 4), ("majority", 8)),
        *(("match-tree", 2), ("differ-tree", 3)),
    )
    """World and response length T; "match-tree" has two tokens, "differ-tree" at least three."""
    group_sizes: tuple[int, ...] = (2, 4, 8, 16)
    """Responses G of a group."""
    eta_K: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Learning rate times K."""
    K: int = 4
    """Inner steps on one group."""
    eps: float = 0.2
    """Clip of grpo on both sides, of tic above."""
    exact_groups: int = 1_000
    """Up to so many groups (multisets of responses) gains are exact, above they are simulated."""
    tokens: int = 2**16
    """Tokens drawn for a simulated gain: tokens / (G T) groups, at most 2**13."""
    seed: int = 0
    """Names the random numbers."""


ADVANTAGES: dict[str, Advantage] = {"standardised": standardised(delta=0.0), "population": population()}


def estimators(cfg: Config, advantage: str, clip: str) -> dict[str, Estimator]:
    """tic and grpo with this clip; no_is and stale have weights of 1, which no clip moves."""
    A = ADVANTAGES[advantage]
    both: tuple[Clip, Clip] = (unclipped(), unclipped())
    if clip == "eps":
        both = (upper_only(cfg.eps), two_sided(cfg.eps, cfg.eps))
    return {
        "tic": Estimator(trajectory, A, both[0], sequence_mean),
        "grpo": Estimator(token, A, both[1], sequence_mean),
        "no_is": Estimator(none, A, unclipped(), sequence_mean, score=current),
        "stale": Estimator(none, A, unclipped(), sequence_mean, score=old),
    }


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "group_sizes", "eta_K")
    for world, T in cfg.worlds:
        if world not in BUILD:
            raise ValueError(f"unknown world {world!r}: choose from {', '.join(BUILD)}")
        least = {"match-tree": 2, "differ-tree": 3}.get(world, 2)
        if T < least or (world == "match-tree" and T > 2):
            raise ValueError(
                f"world {world!r} with T = {T}: match-tree has T = 2, differ-tree 3 or more, the others 2 or "
                f"more, since one token has one ratio"
            )
    if min(cfg.group_sizes) < 2 or cfg.K < 2:
        raise ValueError(
            f"group_sizes = {cfg.group_sizes}, K = {cfg.K}: a group of one moves nothing, and one inner step "
            f"is the same for all; give 2 or more"
        )
    if not 0 < min(cfg.eta_K) <= max(cfg.eta_K) < math.inf:
        raise ValueError(f"eta_K = {cfg.eta_K}: steps are finite and above 0; for instance --eta-K 0.5 1")


def keys(cfg: Config) -> list[tuple[str, int, str, str]]:
    # Where groups can be listed the prediction is also met on its own ground.
    kinds = [("standardised", "none"), ("standardised", "eps"), ("population", "none")]
    listed = {
        world: kinds if world[0] in ("match-tree", "differ-tree") else kinds[:2] for world in cfg.worlds
    }
    return [(*world, *kind) for world in cfg.worlds for kind in listed[world]]


def cell(cfg: Config, world: str, T: int, advantage: str, clip: str) -> list[dict[str, Any]]:
    mdp, theta_old = BUILD[world](T)
    chosen = estimators(cfg, advantage, clip)
    free = estimators(cfg, "population", "none")
    expansion = second_order(mdp, theta_old, free["tic"], free["grpo"])
    mean = MeanField(mdp, free["stale"])(theta_old[None], theta_old[None])[0]
    key, made = {"world": world, "T": T, "advantage": advantage, "clip_rule": clip}, []
    for step in cfg.eta_K:
        theta = theta_old + step * mean
        single = {name: gradient_moments(mdp, theta, theta_old, free[name], 1) for name in ("tic", "grpo")}
        variance, bias = single["grpo"].variance - single["tic"].variance, bias_sq(single)
        for G in cfg.group_sizes:
            here = key | {"group_size": G, "eta_K": step}
            eta = step / cfg.K
            predicted = eta**2 * cfg.K * (cfg.K - 1) / 2 * expansion.lead(G)
            gains, exact = gains_of(cfg, mdp, theta_old, chosen, G, eta)
            made.append(here | {"measure": "gain"} | summary(gains, exact, predicted, expansion.crossover))
            found = {name: gradient_moments(mdp, theta, theta_old, each, G) for name, each in chosen.items()}
            errors = {name: table(-each.mse_scaled) for name, each in found.items()}
            crossover = -variance / bias if bias > 0 else math.nan
            made.append(here | {"measure": "mse"} | summary(errors, True, bias + variance / G, crossover))
    return made


def table(value: float) -> torch.Tensor:
    """An exact value as one replicate [1, 1]."""
    return torch.full((1, 1), value, dtype=torch.float64)


def bias_sq(single: dict[str, Moments]) -> float:
    """||E g_hat - c grad J||^2 of the token ratio; the mean of the trajectory ratio is the target."""
    return float((single["grpo"].mean - single["tic"].mean).square().sum())


def gains_of(
    cfg: Config, mdp: TokenMDP, theta_old: torch.Tensor, chosen: dict[str, Estimator], G: int, eta: float
) -> tuple[dict[str, torch.Tensor], bool]:
    """Gains of every replicate [R, 1] on common random numbers, or exact ones with R = 1."""
    if math.comb(len(mdp.responses) + G - 1, G) <= cfg.exact_groups:
        found = {name: reuse_bias(mdp, theta_old, each, G, cfg.K, eta) for name, each in chosen.items()}
        ends = {name: each.expected_return[-1] - each.expected_return[0] for name, each in found.items()}
        return {name: table(float(gain)) for name, gain in ends.items()}, True
    run = partial(
        simulate,
        group_size=G,
        learning_rate=eta,
        inner_steps=cfg.K,
        outer_steps=1,
        replicates=max(2, min(2**13, cfg.tokens // (G * mdp.horizon))),
        seed=cfg.seed,
        # One step of each: compiling a formula for each G and T takes longer.
        engine="hybrid",
    )
    gains = {}
    for name, each in chosen.items():
        trace = run(mdp, theta_old, each)
        gains[name] = (trace.final_return - trace.initial_return).where(trace.frozen < 0, math.nan)[:, None]
    return gains, False


def summary(
    values: dict[str, torch.Tensor], exact: bool, predicted: float, crossover: float
) -> dict[str, Any]:
    """Means, the lead of tic over grpo, and which are the best; larger is better."""

    def apart(one: str, other: str) -> tuple[float, float]:
        difference = values[one] - values[other]
        if exact:
            # On one row no_is and stale differ by rounding alone.
            return float(difference), ROUNDING
        found = interval(difference, comparisons=len(values) - 1)
        return float(found.mean), max(float(found.half), ROUNDING)

    means = {name: float(value.mean()) for name, value in values.items()}
    top = max(means, key=lambda name: means[name])
    best = [name for name in values if apart(top, name)[0] <= apart(top, name)[1]]
    lead = values["tic"] - values["grpo"]
    return means | {
        "method": "exact" if exact else "simulated",
        "lead": float(lead.mean()),
        "half": 0.0 if exact else float(interval(lead).half),
        "predicted": predicted,
        "crossover": crossover,
        "best": "=".join(best),
    }


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """How often who is ahead, how often as predicted, and which of the four is best most often."""
    for measure in ("gain", "mse"):
        table = Table("world, T, A, clips", "tic", "grpo", "=", "predicted", "most often best", title=measure)
        for world, T, advantage, clip in keys(cfg):
            part = style.select(made, measure=measure, world=world, T=T, advantage=advantage, clip_rule=clip)
            sign = sign_of_lead(part)
            decided = part[sign != 0]
            agree = (decided.lead * decided.predicted > 0).sum()
            often = part.best.value_counts()
            counts = (f"{(sign == each).sum()}" for each in (1, -1, 0))
            most = f"{often.index[0]} {often.iloc[0]}"
            where = f"{world} {T} {advantage} {clip}"
            table.add_row(where, *counts, f"{agree} of {len(decided)}", most)
        console.print(table)
    console.print("cells where tic is ahead, grpo, neither; and how many leads have the sign predicted")


def sign_of_lead(rows: pd.DataFrame) -> pd.Series:
    """1 where tic is ahead of grpo, -1 where it is behind, 0 where the interval includes 0."""
    return np.sign(rows.lead).where(rows.lead.abs() > rows.half.clip(lower=ROUNDING), 0.0)


def draw(made: pd.DataFrame) -> Figure:
    return plots_wins.who_wins(made.assign(sign=sign_of_lead(made)))


# One row for each (world, T, advantage, clip, G, eta K) and measure.
EXPERIMENT = experiment.Experiment(
    name="who_wins",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x T x A x clips",
    may_be_missing=("crossover",),
    slow=True,
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
