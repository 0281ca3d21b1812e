"""Figures of the experiments on bias: each function draws rows of a result, and computes no claim."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, ScalarFormatter

from ticgrpo_theory.plots.style import (
    HOLLOW,
    TEXT_WIDTH,
    foot_below,
    legend_below,
    line_of,
    looks_of,
    style,
    ticks,
    zero_at_the_foot,
)
from ticgrpo_theory.stats.rounding import ROUNDING

GROUP_SIZE = "group size $G$ [responses]"
FLOOR = r"$\Vert\nabla J\Vert^2$ at the fixed point [(reward / logit)$^2$]"


def bias_vs_G(rows: pd.DataFrame, worlds: Sequence[str]) -> Figure:
    """Bias at theta_old against G (left), one line for each world; floors (right), one for each delta."""
    smallest = rows.loc[rows.delta == rows.delta.min()]
    floors = rows.loc[rows.floor.notna()]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        counts = smallest.groupby("world").reward_values.first()
        labels = {name: f"{name}: {counts[name]} reward values" for name in worlds}
        curves(left, smallest, "group_size", "bias_norm", "world", labels)
        guide(left, smallest, "group_size", "bias_norm", -1)
        left.set_title(rf"bias at $\theta_{{\rm old}}$, $\delta = {rows.delta.min():g}$")
        left.set_ylabel(r"$\Vert\,\mathbb{E}\hat g - (c_G / T)\,\nabla J\Vert$ [1 / logit]")
        if len(floors):
            named = floors.assign(line=[_floor_of(*of) for of in _worlds_and_deltas(floors)])
            lines = [_floor_of(*of) for name in worlds for of in _worlds_and_deltas(floors) if of[0] == name]
            curves(right, named, "group_size", "floor", "line", {line: line for line in dict.fromkeys(lines)})
            guide(right, floors, "group_size", "floor", -2)
        right.set_title("what small steps on fresh groups leave")
        right.set_ylabel(FLOOR)
        for ax in (left, right):
            group_axis(ax, rows.group_size)
            ax.legend(loc="center left", bbox_to_anchor=(0.0, 0.3))
        figure.suptitle(
            "Group normalisation points along the gradient exactly for two reward values;\n"
            r"with more it errs by $O(1/G)$, which leaves a floor of $O(1/G^2)$",
            fontsize=9,
        )
    return figure


def _worlds_and_deltas(floors: pd.DataFrame) -> list[tuple[str, float | None]]:
    """World and delta of each row; no delta where the floors of the world are zero whatever delta."""
    largest = floors.groupby("world").floor.max()
    return [
        (name, delta if largest[name] > ROUNDING else None)
        for name, delta in zip(floors.world, floors.delta, strict=True)
    ]


def _floor_of(world: str, delta: float | None) -> str:
    return rf"{world}, every $\delta$" if delta is None else rf"{world}, $\delta = {delta:g}$"


def curves(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    labels: Mapping,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """One line for each value of column `by` that is in `labels`; zero lies at the foot and says so.

    Open markers, each larger than the next: lines that coincide are all seen. `looks` are those of the
    estimators, where the lines are estimators.
    """
    used = rows.loc[rows[by].isin(list(labels))]
    foot = foot_below(used[y])
    looks = line_of([str(name) for name in labels]) if looks is None else looks
    for i, (name, label) in enumerate(labels.items()):
        of = used.loc[used[by] == name].sort_values(x)
        shown = of[y].clip(lower=foot).where(of[y] > ROUNDING, foot)
        size = 3.0 + 1.3 * (len(labels) - 1 - i)
        ax.loglog(of[x], shown, label=label, markersize=size, **HOLLOW, **looks[str(name)])
    zero_at_the_foot(ax, foot, max(float(used[y].max()), 10 * foot))


def guide(ax: Axes, rows: pd.DataFrame, x: str, y: str, slope: int) -> None:
    """A line of the given slope below the smallest error at the largest x: only its slope means anything."""
    seen = rows.loc[rows[y] > ROUNDING]
    if seen.empty:
        return
    ends = np.array([np.sqrt(rows[x].min() * rows[x].max()), rows[x].max()], dtype=float)
    line = 0.4 * seen.loc[seen[x] == seen[x].max(), y].min() * (ends / ends[1]) ** slope
    ax.plot(ends, line, color="0.6", linewidth=0.8)  # loglog would put the ticks back
    below: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top", "color": "0.4"}
    ax.annotate(f"slope {slope}", (float(ends[1]), float(line[1])), (0, -4), **below)


def group_axis(ax: Axes, sizes: pd.Series) -> None:
    """Ticks at the group sizes, every second of many; G = inf stands right of the last."""
    finite = np.unique(sizes[np.isfinite(sizes)]).tolist()
    shown = finite if len(finite) < 9 else finite[::2]
    labels = {size: f"{size:g}" for size in shown}
    ax.set_xlabel(GROUP_SIZE)
    ticks(ax.xaxis, labels | ({infinity(sizes): r"$\infty$"} if np.isinf(sizes).any() else {}))


def infinity(sizes: pd.Series) -> float:
    """Where G = inf is drawn."""
    return 4 * float(max(sizes[np.isfinite(sizes)], default=1.0))


def placed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a place on the axis for G = inf."""
    sizes = rows.group_size
    return rows.assign(group_size=sizes.where(np.isfinite(sizes), infinity(sizes)))


def length_bias(rows: pd.DataFrame, estimators: Mapping[str, str]) -> Figure:
    """Fixed points (left) and floors (right) against G at the smallest delta, one line for each estimator."""
    data = placed(rows.loc[rows.delta == rows.delta.min()])
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        curves(right, data, "group_size", "floor", "estimator", estimators, looks_of(estimators))
        guide(right, data.loc[data.group_size <= 64], "group_size", "floor", -2)
        curves(left, data, "group_size", "fixed_point", "estimator", estimators, looks_of(estimators))
        left.set_yscale("linear")
        left.set_ylim(0.48, 0.02 + max(0.56, float(data.fixed_point.max())))
        left.yaxis.set_major_locator(MaxNLocator(6))
        left.yaxis.set_major_formatter(ScalarFormatter())
        left.axhline(0.5, color="0.6", linewidth=0.8)
        left.set_ylabel("probability of token 0 at the fixed point [1]")
        left.set_title("fixed point of the estimator (optimum: 0.5)")
        right.set_ylabel(FLOOR)
        right.set_title("what it leaves of the gradient")
        for ax in (left, right):
            group_axis(ax, rows.group_size)
        figure.suptitle(
            r"The scale $1/|s|$ moves the fixed point away from the optimum, alike for every $G$;"
            "\n"
            r"the mean over all tokens of the group by $O(1/G)$, scales without lengths not at all",
            fontsize=9,
        )
        handles, labels = right.get_legend_handles_labels()
        figure.legend(
            handles[: len(estimators)], labels[: len(estimators)], loc="outside lower center", ncols=3
        )
    return figure


def prompt_std_bias(rows: pd.DataFrame, deltas: Sequence[float]) -> Figure:
    """Floors against G, a line for each delta (left); share of the gradient against delta (right)."""
    trap, opposed = (rows.loc[rows.world == world] for world in ("prompt-trap", "opposed"))
    chosen = list(deltas)[:1] + list(deltas)[1:][-5:]  # the smallest differ from 0 by less than a line
    names = {delta: "no std" if np.isinf(delta) else rf"$\delta = {delta:g}$" for delta in chosen}
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        curves(left, placed(trap), "group_size", "floor", "delta", names)
        group_axis(left, rows.group_size)
        left.set_ylabel(FLOOR)
        left.set_title("prompt-trap: what is left at the fixed point")
        left.legend(loc="center right", bbox_to_anchor=(1.0, 0.35))
        positive = opposed.loc[(opposed.delta > 0) & np.isfinite(opposed.delta)]
        largest = positive.loc[positive.group_size == positive.group_size.max()]
        policies = {p: f"$p = {p:g}$" for p in np.unique(largest.p)}
        if len(largest):
            curves(right, largest, "delta", "share", "p", policies)
            right.legend(loc="lower right")
        right.set_xlabel(r"$\delta$ added to the standard deviation [reward]")
        right.set_ylabel(r"$\langle\mathbb{E}\hat g,\nabla J\rangle\,/\,\Vert\nabla J\Vert^2$ [1 / reward]")
        right.set_title("opposed: $\\mathbb{E}\\hat g$ = share $\\times$ gradient, 0 at $\\delta = 0$")
        figure.suptitle(
            "Dividing by each group's standard deviation weighs prompts anew: on shared parameters\n"
            r"a floor that grows with $G$ (left), or no step at all but for $\delta$ (right)",
            fontsize=9,
        )
    return figure


RATIOS = {
    "none": "rloo",
    "none, score at old": "stale",
    "prefix": "prefix_is",
    "trajectory": "trajectory_is",
}
"""The estimators that these ratios make with a leave-one-out advantage; the others go by their own names."""


def bias_vs_drift(rows: pd.DataFrame, worlds: Mapping[str, str], ratios: Sequence[str]) -> Figure:
    """Error against the current gradient (above), which gradient is nearer (below); worlds across."""
    data = rows.assign(error=rows.error_current / rows.moved)
    shown = {"error": "error against the current\ngradient / its change [1]", "nearer": "nearer gradient [1]"}
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.7), layout="constrained")
        axes = figure.subplots(2, len(worlds), sharex=True, sharey="row", squeeze=False)
        for (world, title), *column in zip(worlds.items(), *axes, strict=True):
            here = data.loc[data.world == world].sort_values("drift")
            for ax, y in zip(column, shown, strict=True):
                looks = looks_of(RATIOS.get(name, name) for name in ratios)
                for i, (name, look) in enumerate(zip(ratios, looks.values(), strict=True)):
                    of = here.loc[here.ratio == name]
                    size = 3.0 + (len(ratios) - 1 - i)
                    label = name.replace("_", " ")
                    ax.semilogx(of.drift, of[y], label=label, markersize=size, **HOLLOW, **look)
            column[0].set_title(title)
            column[1].axhline(0.5, color="0.6", linewidth=0.8)
            column[1].set_xlabel(r"drift $\Vert\theta - \theta_{\rm old}\Vert$ [logit]")
        for line, label in zip(axes, shown.values(), strict=True):
            line[0].set_ylabel(label)
            line[0].set_ylim(bottom=-0.06)
        axes[1, 0].yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        axes[1, 0].yaxis.set_major_formatter(FixedFormatter(["0 current", "0.5", "1 old"]))
        figure.suptitle(
            "Without a ratio it is the old gradient, with that of the response the current one;\n"
            "the token ratio's is neither, and at first nearer to the old one (level: error ~ drift)",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 3)
    return figure
