"""Figures of maps, which estimator is the better one where: they draw rows of a result and claim nothing."""

import math

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ticgrpo_theory.plots.style import TEXT_WIDTH, select, style

SIGNS = ListedColormap(["#9CC9E6", "#FFFFFF", "#F2B48C"])
"""grpo ahead, undecided, tic ahead: light enough for letters, of unequal lightness in grey."""

LETTERS = {-1.0: "G", 0.0: "=", 1.0: "T"}

MAPS = {
    ("gain", "none"): "gain, no clip",
    ("gain", "eps"): "gain, clipped",
    ("mse", "none"): "error of next\ngradient, no clip",
}


def who_wins(rows: pd.DataFrame) -> Figure:
    """A map over eta K and G for each world and T (columns) and each measure (rows)."""
    rows = select(rows, advantage="standardised")
    places = sorted(set(zip(rows.world, rows["T"], strict=True)))
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 5.0), layout="constrained")
        axes = figure.subplots(len(MAPS), len(places), sharex=True, sharey=True, squeeze=False)
        for (world, T), column in zip(places, axes.T, strict=True):
            here = select(rows, world=world, T=T)
            for (measure, clip), ax in zip(MAPS, column, strict=True):
                _map(ax, select(here, measure=measure, clip_rule=clip))
            column[0].set_title(f"{world}\n$T={T}$", fontsize=7)
            column[-1].set_xlabel(r"$\eta K$")
        for label, ax in zip(MAPS.values(), axes[:, 0], strict=True):
            ax.set_ylabel(f"{label}\n$G$")
        figure.suptitle(
            "Neither ratio is the better one: T, the trajectory ratio; G, the token ratio; =, undecided; "
            "$\\bullet$, weight 1\nor the gradient held at $\\theta_{\\rm old}$ better than both. "
            "Hatched: T predicted; dashed: $G$ at which that ends",
            fontsize=9,
        )
    return figure


def _map(ax: Axes, part: pd.DataFrame) -> None:
    sizes, steps = sorted(set(part.group_size)), sorted(set(part.eta_K))
    signs = part.pivot(index="group_size", columns="eta_K", values="sign").loc[sizes, steps]
    ax.imshow(signs.to_numpy(), cmap=SIGNS, vmin=-1, vmax=1, origin="lower", aspect="auto")
    for row in part.to_dict("records"):
        x, y = steps.index(row["eta_K"]), sizes.index(row["group_size"])
        neither = not {"tic", "grpo"} & set(row["best"].split("="))
        text = LETTERS[row["sign"]] + (r"$\bullet$" if neither else "")
        ax.text(x, y, text, ha="center", va="center", fontsize=6.5)
        if row["predicted"] > 0:
            ax.add_patch(
                Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.6", linewidth=0)
            )
    _curve(ax, part, sizes, steps)
    ax.set_xticks(range(len(steps)), [f"{step:g}" for step in steps], fontsize=6.5)
    ax.set_yticks(range(len(sizes)), [str(size) for size in sizes])
    ax.grid(visible=False)


def _curve(ax: Axes, part: pd.DataFrame, sizes: list[int], steps: list[float]) -> None:
    """The predicted G at which the sign changes, against eta K, where it lies in the map."""
    found = part.groupby("eta_K").crossover.first().loc[steps].to_numpy()
    place = np.array([math.log2(G) if G > 0 else math.nan for G in found])
    y = np.interp(place, np.log2(sizes), np.arange(len(sizes)), left=math.nan, right=math.nan)
    ax.plot(range(len(steps)), y, color="black", linestyle="--", marker="o", markersize=2.5)
