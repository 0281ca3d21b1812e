"""The figure of all lines: angles to the gradient on every world, and signal to noise."""

import itertools
from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import ANGLES, OKABE_ITO, style

EDGES = (0.0, 0.5, 3.0, 10.0, 30.0, 60.0, 90.0, 180.0)
"""Degrees at which the colour changes; beyond 90 an update goes downhill."""
NAMES = ("below 0.5", "3", "10", "30", "60", "90", "downhill")


def zoo(rows: pd.DataFrame, family: Mapping[str, str]) -> Figure:
    """For each drift the angle of every line on every world, and beside them its signal to noise.

    `family` is that of every line, in the order of the catalogue.
    """
    labelled = rows.assign(name=names(rows), place=rows.line.map(list(family).index))
    labelled = labelled.sort_values(["mismatch", "place"], kind="stable")
    order = list(dict.fromkeys(labelled.name))
    drifts, worlds = sorted(set(rows.drift)), list(dict.fromkeys(rows.world))
    with matplotlib.rc_context(style()):
        height = 1.6 + 0.155 * len(order)
        figure = Figure(figsize=(11.5, height), layout="constrained")
        widths = [len(worlds)] * len(drifts) + [0.55 * len(worlds)]
        axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        for n, (ax, drift) in enumerate(zip(axes, drifts, strict=False)):
            _angles(ax, pd.DataFrame(labelled[labelled.drift == drift]), order, worlds)
            ax.set_title(f"drift {drift:g} logits")
            ax.set_yticks(range(len(order)), order if n == 0 else [""] * len(order), fontsize=6.5)
        _signals(axes[-1], labelled, order, drifts)
        for ax in axes:
            for place in borders(order, family):
                ax.axhline(place, color="black", linewidth=0.7)
        picture = axes[0].images[0]
        bar = figure.colorbar(picture, ax=list(axes[:-1]), orientation="horizontal", aspect=60, pad=0.01)
        bar.set_ticks([(a + b) / 2 for a, b in itertools.pairwise(EDGES)], labels=NAMES)
        bar.set_label(
            r"degrees between $E\hat g$ and $\nabla J(\theta)$, up to; grey: nothing left, or not listed"
        )
        figure.suptitle(
            "Where every line points, and how much of an update is signal\n"
            f"(groups of {int(rows.group_size.iloc[0])}, exact; lines with * under a sampler "
            f"{rows.mismatch.max():g} logits from theta_old)",
            fontsize=10,
        )
    return figure


def names(rows: pd.DataFrame) -> list[str]:
    """The name of every row's line, with a star under a sampler that is not theta_old."""
    return [f"{line} *" if far else line for line, far in zip(rows.line, rows.mismatch > 0, strict=True)]


def borders(order: list[str], family: Mapping[str, str]) -> list[float]:
    """Where one family of the catalogue ends and the next one begins."""
    kinds = [(family[name.partition(" ")[0]] if "*" not in name else "*") for name in order]
    return [n + 0.5 for n, (one, other) in enumerate(itertools.pairwise(kinds)) if one != other]


def _angles(ax: Axes, rows: pd.DataFrame, order: list[str], worlds: list[str]) -> None:
    table = rows.pivot(index="name", columns="world", values="cosine").reindex(index=order, columns=worlds)
    degrees = np.degrees(np.arccos(table.to_numpy(dtype=float).clip(-1.0, 1.0)))
    colours = ListedColormap(ANGLES).with_extremes(bad="0.75")
    picture = ax.imshow(
        np.ma.masked_invalid(degrees), cmap=colours, norm=BoundaryNorm(EDGES, len(ANGLES)), aspect="auto"
    )
    picture.set_interpolation("nearest")
    for (i, j), value in np.ndenumerate(degrees):
        if value >= 0.5:
            dark = "white" if value > 30 else "black"
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=5, color=dark)
    ax.set_xticks(range(len(worlds)), worlds, rotation=90, fontsize=6.5)
    ax.tick_params(length=0)
    ax.grid(False)


def _signals(ax: Axes, rows: pd.DataFrame, order: list[str], drifts: list[float]) -> None:
    """The median over worlds of the signal to noise over that of the first line on the same world."""
    first = rows.line.iloc[0]
    base = rows[rows.line == first].query("mismatch == 0").set_index(["world", "drift"]).signal
    over = (
        rows.signal.astype(float).to_numpy()
        / base.astype(float).loc[list(zip(rows.world, rows.drift, strict=True))].to_numpy()
    )
    middle = rows.assign(over=over).groupby(["name", "drift"]).over.median()
    for drift, colour, marker in zip(drifts, OKABE_ITO[1:], "os^Dvx", strict=False):
        found = [middle.get((name, drift), np.nan) for name in order]
        ax.plot(found, range(len(order)), marker, color=colour, markersize=2.6, label=f"drift {drift:g}")
    ax.axvline(1.0, color="0.6", linewidth=0.8)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_yticks(range(len(order)), [""] * len(order))
    ax.set_xlabel(f"signal to noise\nover that of {first},\nmedian over worlds")
    ax.legend(loc="lower left", fontsize=6.5)
