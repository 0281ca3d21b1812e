"""Claim: new prompts in the place of groups of equal rewards keep the direction of an update where each group
has its own normaliser and no term is free of A; a token mean of the batch, other terms, and new responses to
the same prompts turn it, and so does leaving out, or punishing, what was cut.

    python experiments/filters.py

Two prompts on the same rows, as likely as each other, V = 3, T = 3, EOS: an easy one (a token 0) and a hard
one (two tokens 1), the harder the further the logits of token 1 are lowered. An update holds two groups, of
prompts that are drawn, or of each prompt once; theta = theta_old, any ratio is 1. Lines:

    own       A standardised in its group, 1/B: every group has its own normaliser
    tokens    the same, divided by the tokens of the batch
    raw       A = r, 1/B: not 0 where all rewards are equal
    penalty   own minus 0.1 k3 to a reference policy, a term without A; G = 2, where every update is listed

`cosine` is that of E[g_hat] and grad J, `beside` that of E[g_hat] with and without the filter; `scale` is the
best multiple of grad J; `kept` the share of groups with unequal rewards, or of responses in the loss;
`hard` the probability of a right answer to the hard prompt.

drop_equal: arXiv:2503.14476 v2 (DAPO), Eq. 11, for the refill; overlong: Sec. 3.4 and Eq. 13 there, its cache
a fifth of the limit. Nothing is sampled. Writes results/filters.parquet, results/filters.json and
figures/filters.png; 20 s on one core.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ticgrpo_theory.estimators import Estimator, ratios
from ticgrpo_theory.estimators.advantages import raw, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.filters import DROP, OVERLONG, Filter, drop_equal, overlong
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.scales import batch_token_mean, sequence_sum
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.plots import updates as plots_updates
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.stats.direction import against, cosine
from ticgrpo_theory.worlds.catalogue import graded

P, T, BETA = 2, 3, 0.1

LINES: dict[str, Estimator] = {
    "own": Estimator(ratios.token, standardised(0.0), unclipped(), sequence_sum),
    "tokens": Estimator(ratios.token, standardised(0.0), unclipped(), batch_token_mean),
    "raw": Estimator(ratios.token, raw(), unclipped(), sequence_sum),
    "penalty": Estimator(
        ratios.token, standardised(0.0), unclipped(), sequence_sum, penalty=kl_loss(k3, BETA)
    ),
}

FILTERS: dict[str, Filter | None] = {
    "none": None,
    **{mode: drop_equal(mode) for mode in DROP},
    **{f"overlong {mode}": overlong(mode) for mode in OVERLONG},
}

DRAWN: dict[str, int | str] = {"drawn": P, "each": "each"}
"""How the prompts of an update come about."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """Which filter of an update keeps its direction."""

    shifts: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)
    """By how much the logits of token 1 are lowered [logit]."""
    group_sizes: tuple[int, ...] = (2, 4, 8, 16)
    """Responses G of a group."""
    lines: tuple[str, ...] = tuple(LINES)
    """Normalisers and other terms: own, tokens, raw, penalty."""
    prompts: tuple[str, ...] = tuple(DRAWN)
    """"drawn" by weight, or "each" once."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "shifts", "group_sizes", "lines", "prompts")
    experiment.check_names(cfg, lines=LINES, prompts=DRAWN)
    for shift in cfg.shifts:
        if not math.isfinite(shift):
            raise ValueError(f"shift = {shift}: give a finite number of logits, for instance 1.0")
    for G in cfg.group_sizes:
        if G < 2:
            raise ValueError(f"G = {G}: one reward equals itself; give --group-sizes 2 or more")


def keys(cfg: Config) -> list[tuple[float, int]]:
    return [(shift, G) for shift in cfg.shifts for G in cfg.group_sizes]


def world() -> TokenMDP:
    """An easy and a hard prompt on the same rows."""
    rights = (lambda y: 0 in y, lambda y: y.count(1) >= 2)
    trees = [
        TokenMDP.prefix_tree(vocab_size=3, horizon=T, eos=2, reward=lambda y, right=right: float(right(y)))
        for right in rights
    ]
    return TokenMDP.mixture(trees, [0.5, 0.5], share_rows=True)


def policy(mdp: TokenMDP, shift: float) -> Float[Tensor, "S V"]:
    """theta = theta_old: the logits of token 1 lowered by `shift`."""
    return graded(mdp) - shift * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def cell(cfg: Config, shift: float, G: int) -> list[dict[str, Any]]:
    """The rows of one policy and group size: every line, filter and way to draw prompts."""
    mdp = world()
    theta, reference = policy(mdp, shift), graded(mdp)
    gradient = policy_gradient(mdp, theta)
    returns = [expected_return(prompt, theta) for _, prompt in mdp.prompts]
    found = []
    for line in (line for line in cfg.lines if line != "penalty" or G == 2):
        for drawn in cfg.prompts:
            means: dict[str, Tensor] = {}
            for name, left_out in FILTERS.items():
                if left_out == drop_equal("refill") and drawn == "each":
                    continue  # there are no other prompts
                estimator = dataclasses.replace(LINES[line], filter=left_out)
                means[name] = expected_gradient(
                    mdp, theta, theta, estimator, G, theta_ref=reference, prompts=DRAWN[drawn]
                )
                about = {"shift": shift, "group_size": G, "line": line, "prompts": drawn, "filter": name}
                beside = against(means[name], gradient)
                found.append(
                    {
                        **about,
                        "hard": returns[1],
                        "kept": kept(left_out, mdp, theta, returns, G),
                        "cosine": beside["cosine"],
                        "scale": beside["scale"],
                        "beside": cosine(means[name], means["none"]),
                    }
                )
    return found


def kept(
    left_out: Filter | None, mdp: TokenMDP, theta: Float[Tensor, "S V"], returns: list[float], G: int
) -> float:
    """Share of groups with unequal rewards (0 or 1 here), or of responses that are in the loss."""
    if isinstance(left_out, drop_equal):
        mixed = [1 - J**G - (1 - J) ** G for J in returns]
        return sum(share * p for (share, _), p in zip(mdp.prompts, mixed, strict=True))
    return 1 - cut(theta) if left_out == overlong("mask") else 1.0


def cut(theta: Float[Tensor, "S V"]) -> float:
    """Probability that a response reaches the limit without EOS: that of a reward for nothing else."""
    ends = TokenMDP.prefix_tree(vocab_size=3, horizon=T, eos=2, reward=lambda y: float(y[-1] != 2))
    return expected_return(ends, theta)


def show(cfg: Config, rows: pd.DataFrame, console: Console) -> None:
    """How far each filter turns the direction, for the hardest and the easiest policy, in small groups."""
    G = min(cfg.group_sizes)
    for drawn in cfg.prompts:
        for shift in sorted({min(cfg.shifts), max(cfg.shifts)}):
            of = select(rows, prompts=drawn, shift=shift, group_size=G)
            at, lines = of.set_index(["line", "filter"]), list(of.line.unique())
            title = f"prompts {drawn}, {of.hard.iloc[0]:.2%} right, G = {G}: 1 - cosine to no filter"
            table = Table("filter", "kept", *lines, title=title)
            for name in of["filter"].unique():
                entries = (at.loc[(line, name)] for line in lines)
                numbers = [f"{max(0.0, 1 - x.beside):.1e}" for x in entries]
                table.add_row(name, f"{at.kept[lines[0], name]:.1%}", *numbers)
            console.print(table)


def draw(rows: pd.DataFrame) -> Figure:
    return plots_updates.filters(rows)


# One row for each (shift, G, line, way to draw prompts, filter).
EXPERIMENT = experiment.Experiment(
    name="filters",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="policies x group sizes",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
