"""Figures of maps, which estimator is the better one where: they draw rows of a result and claim nothing."""

import math
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ticgrpo_theory.plots.style import TEXT_WIDTH, points_of, select, style, tint

AHEAD = {-1.0: "grpo", 1.0: "tic_grpo"}
"""Whose look a cell has: that of the token ratio where `sign` is -1, of the trajectory ratio where 1."""

NEITHER: dict[str, Any] = {"marker": "x", "color": "black", "linestyle": "none", "markersize": 3}
"""Beside the marker: weight 1, or the gradient held at theta_old, is better than both."""

PREDICTED: dict[str, Any] = {"fill": False, "hatch": "////", "edgecolor": "0.6", "linewidth": 0}
CROSSOVER: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2}

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
        figure = Figure(figsize=(TEXT_WIDTH, 5.2), layout="constrained")
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
            "Neither ratio is the better one: it depends on world, length, group, step and clip",
            fontsize=9,
        )
        figure.legend(handles=_legend(), loc="outside lower center", ncols=2)
    return figure


def _legend() -> list[Artist]:
    looks = points_of(AHEAD.values())
    return [
        Line2D([], [], **looks["grpo"], label="the token ratio is ahead"),
        Line2D([], [], **looks["tic_grpo"], label="the trajectory ratio is ahead"),
        Patch(facecolor="white", edgecolor="0.6", label="undecided (white)"),
        Line2D([], [], **NEITHER, label=r"weight 1 or the gradient held at $\theta_{\rm old}$ beats both"),
        Patch(**PREDICTED, label="the trajectory ratio predicted ahead"),
        Line2D([], [], **CROSSOVER, label="group size at which that ends"),
    ]


def _map(ax: Axes, part: pd.DataFrame) -> None:
    sizes, steps = sorted(set(part.group_size)), sorted(set(part.eta_K))
    signs = part.pivot(index="group_size", columns="eta_K", values="sign").loc[sizes, steps]
    looks = points_of(AHEAD.values())
    token, trajectory = (tint(looks[AHEAD[sign]]["color"]) for sign in (-1.0, 1.0))
    signs_to_colours = ListedColormap([token, "#FFFFFF", trajectory])
    ax.imshow(signs.to_numpy(), cmap=signs_to_colours, vmin=-1, vmax=1, origin="lower", aspect="auto")
    for row in part.to_dict("records"):
        x, y = steps.index(row["eta_K"]), sizes.index(row["group_size"])
        neither = not {"tic", "grpo"} & set(row["best"].split("="))
        if row["sign"]:
            ax.plot(x - 0.17 * neither, y, **looks[AHEAD[row["sign"]]], markersize=3)
        if neither:
            ax.plot(x + 0.2 * bool(row["sign"]), y, **NEITHER)
        if row["predicted"] > 0:
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **PREDICTED))
    _curve(ax, part, sizes, steps)
    ax.set_xticks(range(len(steps)), [f"{step:g}" for step in steps], fontsize=6.5)
    ax.set_yticks(range(len(sizes)), [str(size) for size in sizes])
    ax.grid(visible=False)


def _curve(ax: Axes, part: pd.DataFrame, sizes: list[int], steps: list[float]) -> None:
    """The predicted G at which the sign changes, against eta K, where it lies in the map."""
    found = part.groupby("eta_K").crossover.first().loc[steps].to_numpy()
    place = np.array([math.log2(G) if G > 0 else math.nan for G in found])
    y = np.interp(place, np.log2(sizes), np.arange(len(sizes)), left=math.nan, right=math.nan)
    ax.plot(range(len(steps)), y, **CROSSOVER)
