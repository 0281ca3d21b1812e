"""Figures about floors at fixed points that may be no optimum: each draws rows and computes no claim."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.bias import GROUP_SIZE
from ticgrpo_theory.plots.floors import FLOOR, ticks_at
from ticgrpo_theory.plots.style import HOLLOW, TEXT_WIDTH, legend_below, points_of, select, style
from ticgrpo_theory.stats.rounding import ROUNDING


def at_fixed_points(ax: Axes, rows: pd.DataFrame, estimators: Mapping[str, str]) -> None:
    """Against G: exact for eta K -> 0 (solid), with the noise of this eta K (dotted), simulated (points).

    `estimators` maps their names to labels. An exact floor of 0, which has no place on a logarithmic axis, is
    left out.
    """
    for i, (name, look) in enumerate(points_of(estimators).items()):
        line = select(rows, line=name).sort_values("group_size")
        if line.empty:
            continue
        if float(line.root.max()) > ROUNDING:
            ax.plot(line.group_size, line.root, color=look["color"], zorder=1)
        ax.plot(line.group_size, line.first_order, color=look["color"], linestyle=":", zorder=1)
        bars: dict[str, Any] = {**HOLLOW, "elinewidth": 0.8, "capsize": 1.5}
        # Larger markers below: lines that coincide are all seen.
        size = 3.5 + 1.5 * (len(estimators) - 1 - i)
        bars |= {"markersize": size, "label": estimators[name]}
        ax.errorbar(line.group_size, line.floor, yerr=line.half, **look, **bars)
    ax.set_yscale("log")
    ticks_at(ax, sorted(set(rows.group_size)))
    ax.set_xlabel(GROUP_SIZE)


def steps_of(rows: pd.DataFrame) -> str:
    return rf"$\eta K={rows.eta_K.iloc[0]:g}$, $K={rows.inner_steps.iloc[0]}$"


def length_floor(rows: pd.DataFrame, scales: Mapping[str, str]) -> Figure:
    """Floors on length-trap against G, a line for each estimator."""
    formulas = {name: scale.replace("sum |s|", r"\Sigma_j |s_j|") for name, scale in scales.items()}
    labels = {name: f"{name}: ${formula}$" for name, formula in formulas.items()}
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
        ax = figure.subplots()
        at_fixed_points(ax, rows, labels)
        ax.set_ylabel(FLOOR)
        ax.set_title(f"world length-trap, {steps_of(rows)}")
        figure.legend(loc="outside right center")
        figure.suptitle(
            r"The scale $1/|s|$ leaves the same floor at every $G$; without it the floor falls with $G$."
            "\n"
            r"Solid: exact for $\eta K\to 0$; dotted: exact to first order in $\eta K$; bars: 95 %",
            fontsize=9,
        )
    return figure


DIVIDED = {
    "grpo": "grpo: divided by the std of each group",
    "dr_grpo": "dr_grpo: not divided",
}


def prompt_floor(rows: pd.DataFrame) -> Figure:
    """Floors on prompt-trap against G, a panel for each number of prompts."""
    counts = sorted(set(rows.prompts))
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
        axes = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
        for P, ax in zip(counts, axes, strict=True):
            here = select(rows, prompts=P)
            at_fixed_points(ax, here.assign(line=here.estimator), DIVIDED)
            drawn = f"$P={P}$ prompt{'s' if P > 1 else ''} in an outer step"
            ax.set_title(f"{drawn}, {steps_of(rows)}")
        axes[0].set_ylabel(FLOOR)
        figure.suptitle(
            r"Dividing by each group's std leaves a floor (solid) that grows with $G$ and that no number of"
            "\n"
            r"prompts averages away; undivided there is noise alone, $O(\eta K/P)$. "
            r"Dotted: to first order; bars: 95 %",
            fontsize=9,
        )
        legend_below(figure, axes[0], 2)
    return figure
