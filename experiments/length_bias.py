"""Claim: 1/|s| moves the fixed point of GRPO away from the optimum, by the same amount for every G and delta.

    python experiments/length_bias.py

World length-trap: right when the length is 2, J = p (1 - p), p the probability of token 0, best at p = 1/2.
At theta = theta_old no ratio and no clip acts, so an estimator is its advantage and its scale. `fixed_point`
is the p at which E[g_hat] = 0, the limit of small steps on fresh groups, `floor` ||grad J||^2 there:

    1/(G |s|)       p = 0.6614, the root of 3 - 3 p - p^2 - 2 p^3, floor 1.045e-2, for every G and delta
    1/sum_j |s_j|   floor O(1/G^2): the lengths of the others vary less and less about their mean
    1/G, 1/(G T)    no floor: p = 1/2

The root: one scale for each response and two reward values leave E[g_hat] a positive multiple of
E[S / |s| | r = 1] - E[S / |s| | r = 0], S the score of the response, and neither G nor delta is in it.
The terminal shows floors and fitted powers of G. Nothing is sampled: no error bars. Writes
results/length_bias.parquet, results/length_bias.json and figures/length_bias.png; 20 s on one core.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.estimators import Estimator, catalogue
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.exact.fixed_points import fixed_point, mean_step, policy
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.plots import bias as plots_bias
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds import WORLDS

WORLD = "length-trap"

SCALES: dict[str, str] = {
    "grpo": "1/(G |s|)",
    "tic_grpo_eq11": "1/(G |s|)",
    "dapo": "1/sum |s|",
    "tic_grpo": "1/G",
    "dr_grpo": "1/(G T)",
}


@dataclass(frozen=True)
class Config(Folders):
    """The fixed point of each scale when lengths vary."""

    estimators: tuple[str, ...] = tuple(SCALES)
    """Estimators, by name."""
    deltas: tuple[float, ...] = (0.0, 0.1, 1.0)
    """Constants delta that are added to the standard deviation; dr_grpo has none."""
    group_sizes: tuple[float, ...] = (2, 4, 8, 16, 32, 64, math.inf)
    """Responses G in a group; inf takes mean and standard deviation of theta_old."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "estimators", "deltas", "group_sizes")
    experiment.check_names(cfg, estimators=SCALES)
    for name in cfg.estimators:
        for delta in cfg.deltas:
            made(name, delta)
    for G in cfg.group_sizes:
        if not (G == math.inf or (G >= 2 and G == int(G))):
            raise ValueError(f"group size {G}: give whole numbers of 2 or more, or inf, to --group-sizes")


def made(name: str, delta: float) -> Estimator:
    """The catalogue's estimator with this delta; dr_grpo does not divide by a standard deviation."""
    factories: dict[str, Callable[..., Estimator]] = {
        "grpo": catalogue.grpo,
        "tic_grpo_eq11": catalogue.tic_grpo_eq11,
        "dapo": catalogue.dapo,
        "tic_grpo": catalogue.tic_grpo,
    }
    return catalogue.dr_grpo() if name == "dr_grpo" else factories[name](delta=delta)


def keys(cfg: Config) -> list[tuple[str, float]]:
    return [(name, delta) for name in cfg.estimators for delta in cfg.deltas]


def trace(cfg: Config, name: str, delta: float) -> list[dict[str, Any]]:
    """The rows of one estimator and delta: every G."""
    mdp, estimator = WORLDS[WORLD].build(), made(name, delta)
    found = []
    for G in cfg.group_sizes:
        rest = fixed_point(mdp, estimator, G)
        at = policy(mdp, rest)
        found.append(
            {
                "estimator": name,
                "scale": SCALES[name],
                "delta": delta,
                "group_size": float(G),
                "mean_at_optimum": mean_step(mdp, 0.5, estimator, G),
                "fixed_point": rest,
                "expected_return": expected_return(mdp, at),
                "floor": float(policy_gradient(mdp, at).square().sum()),
            }
        )
    return found


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """Floors at the smallest and largest finite G, and how they fall with it."""
    finite = [G for G in cfg.group_sizes if G < math.inf]
    ends = sorted({min(finite, default=math.inf), max(finite, default=math.inf), max(cfg.group_sizes)})
    heads = ["estimator", "delta", *(f"G = {G:g}" for G in ends), "changes", "fixed point p"]
    table = Table(*heads, title="||grad J||^2 left at the fixed point; the optimum is p = 0.5")
    for name, delta in keys(cfg):
        of = made[(made.estimator == name) & (made.delta == delta)].set_index("group_size")
        numbers = [f"{0.0 if of.floor[G] <= ROUNDING else of.floor[G]:.3e}" for G in ends]
        rest = of.fixed_point.agg(["min", "max"]).map("{:.4f}".format)
        span = rest["min"] if rest.nunique() == 1 else f"{rest['min']} to {rest['max']}"
        table.add_row(name, f"{delta:g}", *numbers, fall(of), span)
    console.print(table)
    console.print("G^-1.99 (8): slope of the fit from G = 8 up. -: no power law in these G.", style="dim")


def fall(of: pd.DataFrame) -> str:
    """How the floor depends on G, in words or as a power."""
    finite = of[of.index < math.inf]
    if finite.floor.max() <= ROUNDING:
        return "is 0"
    if finite.floor.max() - finite.floor.min() <= ROUNDING:
        return "never"
    fit = fit_power_law(1 / finite.index.to_numpy(), finite.floor.to_numpy())
    return "-" if fit is None else f"G^{-fit.slope:.2f} ({1 / fit.end:.0f})"


def draw(made: pd.DataFrame) -> Figure:
    """Fixed points and floors at the smallest delta."""
    names = [name for name in SCALES if name in set(made.estimator)]
    formulas = {name: SCALES[name].replace("sum |s|", r"\Sigma_j |s_j|") for name in names}
    return plots_bias.length_bias(made, {name: f"{name}: ${formulas[name]}$" for name in names})


# One row for each (estimator, delta, G).
EXPERIMENT = experiment.Experiment(
    name="length_bias",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=trace,
    show=show,
    draw=draw,
    what="estimators x deltas",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
