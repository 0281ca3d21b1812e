"""Claim: a correction of single tokens can point further from grad J than none, and a mask of long responses
turns their gradient round; only the weight of the whole response is unbiased, and it pays with variance.

    python experiments/sampler_mismatch.py

Responses are drawn by mu, which is theta_old with other logits. One response, A = r - E_mu[r], which is what
leave-one-out gives in expectation at any G; trajectory ratio theta/theta_old, no clip, scale 1/G; a masked
response counts in G. Lines that start with "theta/mu" take mu for theta_old. Columns:

    cosine, scale, residual, bias     of E[g_hat] beside grad J(theta), see ticgrpo_theory/stats/direction.py
    variance                          E||g_hat - E g_hat||^2 / ||grad J(theta)||^2
    mass                              E_mu[phi(W)]: for a mask, the share of theta_old that it leaves

Worlds "count-mod-3" and "long-answers" with several horizons; mu is theta_old with noise of this standard
deviation on its logits, or theta_old times 1 + mismatch, a temperature below 1. Worlds "share" and "half": T
tokens of two kinds from one row, mu (1/2, 1/2), theta = theta_old `mismatch` logits away, r the share of
tokens 0, or 1 where they are at least as many as theta_old expects; sums over the T + 1 counts, exact.

Published settings have the names of their trainers: TRL 1.16, trainer/grpo_config.py and grpo_trainer.py;
verl 0.8.0.dev, commit b178a3c, RolloutCorrectionConfig of trainer/config/algorithm.py, whose bounds are on
mu/theta_old, without those that bound k3; verl leaves rejected responses out of its normaliser, too.

Writes results/sampler_mismatch.parquet, results/sampler_mismatch.json, figures/sampler_mismatch.png; 20 s.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor

from ticgrpo_theory.estimators import Estimator, ratios
from ticgrpo_theory.estimators.advantages import known_moments, raw
from ticgrpo_theory.estimators.clipping import dual, saturating, unclipped, upper_only
from ticgrpo_theory.estimators.corrections import (
    LEVELS,
    Bounded,
    Correction,
    masked,
    product,
    rejected,
    truncated,
)
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import correction_mass, expected_return, gradient_moments, policy_gradient
from ticgrpo_theory.exact.dynamic.shared_row import counts_of, pooled_weight
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import samplers as plots_samplers
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.stats.direction import against, sine
from ticgrpo_theory.worlds.catalogue import graded
from ticgrpo_theory.worlds.samplers import Sampler, noise, temperature

BOUND = 3.0
"""The upper bound of TRL 1.16, `vllm_importance_sampling_clip_max`, for every level here."""

TOKEN_TIS, SEQ_TIS = truncated("token", None, 2.0), truncated("sequence", None, 2.0)
GEO_RS = rejected("geometric", 1 / 1.001, 1 / 0.999)
CORRECTIONS: dict[str, Correction | None] = {
    "none": None,
    **{level: truncated(level) for level in LEVELS},
    **{f"{level} truncated": truncated(level, None, BOUND) for level in LEVELS},
    # "sequence masked" is the default of TRL 1.16, `sequence_mask`.
    **{f"{level} masked": masked(level, None, BOUND) for level in LEVELS},
    "verl token_is": TOKEN_TIS,
    "verl seq_is": SEQ_TIS,
    "verl seq_is_rs": product((SEQ_TIS, rejected("sequence", 0.5, 2.0))),
    "verl geo_rs": GEO_RS,
    "verl geo_rs_seq_tis": product((SEQ_TIS, GEO_RS)),
    "verl geo_rs_token_tis": product((TOKEN_TIS, GEO_RS)),
}

DIRECT: dict[str, Estimator] = {
    "theta/mu, token": Estimator(ratios.token, raw(), unclipped(), sequence_sum),
    "theta/mu, trajectory": Estimator(ratios.trajectory, raw(), unclipped(), sequence_sum),
    "theta/mu, verl ppo_clip": Estimator(ratios.token, raw(), dual(0.2, 0.2, 3.0, 20.0), sequence_sum),
    # min(w, 2), held: the bound of upper_only is 1 + eps_high.
    "theta/mu, verl pg_is": Estimator(ratios.trajectory, raw(), saturating(upper_only(1.0)), sequence_sum),
}
"""Without a policy between theta and mu: theta_old is what the sampler reported."""


def count_mod_3(horizon: int) -> TokenMDP:
    """Right when the number of tokens 0 is 2 modulo 3; the policy sees that count alone."""
    return TokenMDP.automaton(
        [[1, 0], [2, 1], [0, 2]], vocab_size=2, horizon=horizon, reward=[0.0, 0.0, 1.0], rows="state"
    )


def long_answers(horizon: int) -> TokenMDP:
    """Right when the response holds two tokens 0 before it stops; EOS is token 2."""
    return TokenMDP.prefix_tree(vocab_size=3, horizon=horizon, eos=2, reward=lambda y: float(y.count(0) >= 2))


WORLDS = {"count-mod-3": count_mod_3, "long-answers": long_answers}
SAMPLERS = {"noise": lambda x: noise(x, 0), "temperature": lambda x: temperature(1 / (1 + x))}
ONE_ROW = ("share", "half")
PerCount = Float64[np.ndarray, " M"]
PerKind = Float64[np.ndarray, "M 2"]


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What a sampler that is not theta_old costs, and what each correction makes of it."""

    worlds: tuple[str, ...] = tuple(WORLDS)
    """"count-mod-3" or "long-answers"."""
    horizons: tuple[int, ...] = (3, 6)
    """Limits T of their responses."""
    samplers: tuple[str, ...] = tuple(SAMPLERS)
    """How mu differs from theta_old: "noise" or "temperature"."""
    mismatches: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """How far: standard deviation of the noise [logit], or 1/temperature - 1."""
    drifts: tuple[float, ...] = (0.0, 0.3)
    """||theta - theta_old||, along sin(1), sin(2), ... in the order of the table."""
    rewards: tuple[str, ...] = ONE_ROW
    """Rewards of one shared row: "share" or "half"."""
    lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    """Tokens of a response from one shared row."""
    gaps: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Logits between sampler and theta_old on one shared row."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    lists = ("worlds", "horizons", "samplers", "mismatches", "drifts", "rewards", "lengths", "gaps")
    experiment.check_lists(cfg, *lists)
    experiment.check_names(cfg, worlds=WORLDS, samplers=SAMPLERS, rewards=ONE_ROW)
    for T in (*cfg.horizons, *cfg.lengths):
        if T < 2:
            raise ValueError(
                f"T = {T}: right answers hold two tokens; give horizons and lengths of 2 or more"
            )
    for x in (*cfg.mismatches, *cfg.gaps):
        if not 0 < x < math.inf:
            raise ValueError(f"mismatch = {x}: give finite mismatches and gaps above 0, for instance 0.1")
    for drift in cfg.drifts:
        if not 0 <= drift < math.inf:
            raise ValueError(f"drift = {drift}: a distance is finite and at least 0; give for instance 0.3")


def keys(cfg: Config) -> list[tuple[str, str, float, int, float]]:
    """(world, sampler, mismatch, T, drift)."""
    small = [
        (world, sampler, x, T, drift)
        for world in cfg.worlds
        for sampler in cfg.samplers
        for x in cfg.mismatches
        for T in cfg.horizons
        for drift in cfg.drifts
    ]
    return small + [(r, "one row", gap, T, 0.0) for r in cfg.rewards for gap in cfg.gaps for T in cfg.lengths]


def cell(
    cfg: Config, world: str, sampler: str, mismatch: float, T: int, drift: float
) -> list[dict[str, Any]]:
    """The rows of one world, sampler, length and drift: every correction."""
    about = {"world": world, "sampler": sampler, "mismatch": mismatch, "T": T, "drift": drift}
    if world in ONE_ROW:
        return [about | row for row in one_row(world, mismatch, T)]
    mdp = WORLDS[world](T)
    return [about | row for row in small_world(mdp, SAMPLERS[sampler](mismatch), drift)]


def small_world(mdp: TokenMDP, sampler: Sampler, drift: float) -> list[dict[str, Any]]:
    """Every correction, and theta/mu directly, by the moments over all responses."""
    old = graded(mdp)
    theta, mu = old + drift * sine(old), sampler(old)
    A = known_moments(expected_return(mdp, mu), 1.0)
    gradient = policy_gradient(mdp, theta)
    lines = [(name, made(correction, A), old) for name, correction in CORRECTIONS.items()]
    lines += [(name, replace(direct, advantage=A), mu) for name, direct in DIRECT.items()]
    found = []
    for name, estimator, before in lines:
        moments = gradient_moments(mdp, theta, before, estimator, 1, theta_sampler=mu)
        variance = moments.variance / float(gradient.square().sum())
        found.append(
            {"correction": name, **against(moments.mean, gradient), "variance": variance, "mass": None}
        )
    return found


def made(correction: Correction | None, A: known_moments) -> Estimator:
    return Estimator(ratios.trajectory, A, unclipped(), sequence_sum, correction=correction)


def one_row(reward: str, gap: float, T: int) -> list[dict[str, Any]]:
    """Every correction on T tokens of one row, by the T + 1 counts of token 0; theta = theta_old."""
    old, mu = np.array([gap / 2, -gap / 2]), np.zeros(2)
    log_old = torch.log_softmax(torch.from_numpy(old), dim=0).numpy()
    pi, d, counts = np.exp(log_old), log_old + math.log(2), counts_of(T, 2)
    log_prob = stats.binom.logpmf(counts[:, 0], T, 0.5)
    r = counts[:, 0] / T if reward == "share" else (counts[:, 0] >= T * pi[0]).astype(np.float64)
    A = r - np.exp(log_prob) @ r
    target, _ = moments(log_prob, A, counts, log_phi(truncated("sequence"), counts, d, T), pi)
    found = []
    for name, correction in CORRECTIONS.items():
        mean, variance = moments(log_prob, A, counts, log_phi(correction, counts, d, T), pi)
        found.append(
            {
                "correction": name,
                **against(mean, target),
                "variance": variance / float(target.square().sum()),
                "mass": mass(correction, old, mu, T),
            }
        )
    return found


def mass(correction: Correction | None, old: np.ndarray, mu: np.ndarray, T: int) -> float | None:
    """E_mu[phi(W)], of corrections of whole responses."""
    if correction is None or any(part.level == "token" for part in parts(correction)):
        return None
    return correction_mass(correction, old, mu, T)


def parts(correction: Correction | None) -> list[Bounded]:
    return [] if correction is None else [part for part in correction.parts if isinstance(part, Bounded)]


def log_phi(correction: Correction | None, counts: PerKind, d: Float64[np.ndarray, " 2"], T: int) -> PerKind:
    """log phi of a token of each kind in responses with these counts, by the formulas of the corrections."""
    found = np.zeros_like(counts)
    for part in parts(correction):
        if part.level == "token":
            v = torch.from_numpy(d)[:, None, None]
            found = found + part.log_weight(v, torch.ones(v.shape, dtype=torch.bool))[:, 0, 0].numpy()
        else:
            found = found + pooled_weight(part, counts, d, T)[:, None]
    return found


def moments(
    log_prob: PerCount, A: PerCount, counts: PerKind, log_phi: PerKind, pi: Float64[np.ndarray, " 2"]
) -> tuple[Float[Tensor, "1 2"], float]:
    """Mean and variance of A sum_t phi_t grad log pi(a_t), of two logits one minus the other.

    sum_t phi_t d log pi(a_t) / d theta_0 = n_0 phi_0 pi_1 - n_1 phi_1 pi_0. phi may be e^200 where the
    probability is e^-400: its largest value is taken off first.
    """
    top = log_phi.max(axis=1, initial=-700.0)
    weighed = counts * np.exp(log_phi - top[:, None])
    x = A * (weighed[:, 0] * pi[1] - weighed[:, 1] * pi[0])
    first = float(np.exp(log_prob + top) @ x)
    square = float(np.exp(log_prob + 2 * top) @ x**2)
    return torch.tensor([[first, -first]], dtype=torch.float64), 2 * (square - first**2)


def show(cfg: Config, rows: pd.DataFrame, console: Console) -> None:
    """Cosine and variance at the largest mismatch, and what is left of one row's gradient."""
    for sampler in cfg.samplers:
        near = select(rows, sampler=sampler, drift=min(cfg.drifts), T=max(cfg.horizons))
        of = near.set_index(["world", "correction", "mismatch"])
        table = Table("correction", *cfg.worlds, title=f"{sampler}: cosine to grad J (variance)")
        for name in [*CORRECTIONS, *DIRECT]:
            entries = (of.loc[(world, name, max(cfg.mismatches))] for world in cfg.worlds)
            table.add_row(name, *(f"{x.cosine:.4f} ({x.variance:.3g})" for x in entries))
        console.print(table)
    for reward in cfg.rewards:
        gap = cfg.gaps[len(cfg.gaps) // 2]
        of = rows[(rows.world == reward) & (rows.mismatch == gap)].set_index(["correction", "T"]).scale
        heads = ["correction", *(f"T = {T}" for T in cfg.lengths)]
        table = Table(*heads, title=f"{reward}, {gap:g} logits: what is left of grad J")
        for name in CORRECTIONS:
            table.add_row(name, *(f"{of[name, T]:+.1%}" for T in cfg.lengths))
        console.print(table)


def draw(rows: pd.DataFrame) -> Figure:
    return plots_samplers.sampler_mismatch(rows)


# One row for each (world, sampler, mismatch, T, drift, correction).
EXPERIMENT = experiment.Experiment(
    name="sampler_mismatch",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="worlds x samplers x mismatches x lengths x drifts",
    may_be_missing=("cosine", "mass"),
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
