"""Figures about floors: each function draws rows of a result and computes no claim of its own."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from ticgrpo_theory.plots.style import (
    HALF,
    HOLLOW,
    TEXT_WIDTH,
    legend_below,
    looks_of,
    points_of,
    select,
    style,
    ticks,
)

SERIES = {
    "one-step": "$K=1$: stale = grpo = TIC Eq. 11",
    "grpo": "grpo, $K=4$",
    "tic-eq11": "TIC Eq. 11, $K=4$",
    "tic-literal": "TIC Eq. 9, $K=4$ (step $T=2$ times longer)",
    "grpo-disjoint": r"grpo, $K=4$ disjoint groups of $G/4$",
}
ESTIMATOR = {
    "one-step": "stale",
    "tic-eq11": "tic_grpo_eq11",
    "tic-literal": "tic_grpo",
    "grpo-disjoint": "grpo",
}
"""Whose look a series takes: that of the estimator of its name, but for these."""
FLOOR = r"tail mean of $\Vert\nabla J\Vert^2$ [(reward / logit)$^2$]"
ETA_K = r"$\eta K$ [logit$^2$]"
RESPONSES = "$G$ [responses of an outer step]"


def ticks_at(ax: Axes, values: Iterable[float | int]) -> None:
    """Ticks of the x axis at these values, on a logarithmic axis."""
    ax.set_xscale("log")
    ticks(ax.xaxis, {float(value): f"{value:g}" for value in values})


def looks(series: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each series; disjoint groups are a condition of an estimator, half filled."""
    named = {name: ESTIMATOR.get(name, name) for name in series}
    of = points_of(named.values())
    return {name: of[one] | (HALF if name == "grpo-disjoint" else HOLLOW) for name, one in named.items()}


def points(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    half: str,
    series: Sequence[str],
    spread: float,
    full: bool = False,
) -> None:
    """One marker with a 95 % bar for each row; series stand side by side, `spread` apart in log x."""
    for i, (name, look) in enumerate(looks(series).items()):
        part = rows[rows.series == name]
        aside = np.exp(spread * (i - (len(series) - 1) / 2))
        bars: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.5, "label": "_" * full + SERIES[name]}
        face = {"markerfacecolor": look["color"]} if full else {}
        ax.errorbar(part[x] * aside, part[y], yerr=part[half], **{**look, **face}, **bars)


def exact_lines(ax: Axes, rows: pd.DataFrame, x: str, by: str, series: str, name: str) -> None:
    """The exact first order of one series, a grey line for each value of column `by`, named at its end."""
    for value, line in select(rows, series=series).sort_values(x).groupby(by):
        ax.plot(line[x], line.first_order, color="0.55", linewidth=0.8, zorder=0)
        ax.annotate(
            name.format(value),
            (line[x].iloc[-1], line.first_order.iloc[-1]),
            (10, 0),
            textcoords="offset points",
            va="center",
            color="0.3",
        )


def present(rows: pd.DataFrame) -> list[str]:
    return [name for name in SERIES if name in set(rows.series)]


def convergence_eta_K(rows: pd.DataFrame) -> Figure:
    """Floors against eta K (left), beside their exact first order (middle); runs from p = 0.7 (right)."""
    floors = select(rows, kind="floor", world="xor")
    floors = floors.assign(relative=floors.floor / floors.first_order, bar=floors.half / floors.first_order)
    series = present(floors)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        points(left, floors, "eta_K", "floor", "half", series, 0.05)
        exact_lines(left, floors, "eta_K", "responses", series[0], "$G={}$")
        left.set_yscale("log")
        left.set_ylabel(FLOOR)
        left.set_title(r"floor $\propto \eta K$ at every $G$")
        # Disjoint groups have bars five times as wide: the others would not be seen.
        few, many = floors.responses.min(), floors.responses.max()
        precise = [name for name in series if name != "grpo-disjoint"]
        points(middle, select(floors, responses=few), "eta_K", "relative", "bar", precise, 0.1)
        if many > few:
            points(middle, select(floors, responses=many), "eta_K", "relative", "bar", precise, 0.1, True)
        middle.axhline(1, color="0.55", linewidth=0.8, zorder=0)
        middle.set_ylabel(r"floor / exact limit for $\eta K\to 0$ [1]")
        middle.set_title(f"next order; open $G={few}$, full $G={many}$")
        for ax in (left, middle):
            ticks_at(ax, sorted(set(floors.eta_K)))
            ax.set_xlabel(ETA_K)
        left.set_xlim(right=float(floors.eta_K.max()) * 2.6)
        _paths(right, select(rows, kind="path"))
        figure.suptitle(
            r"Where the optimum keeps noise, both algorithms come down to a floor proportional to $\eta K/G$;"
            "\n"
            "on a tree the noise dies with the gradient and there is none. Bars: 95 %",
            fontsize=9,
        )
        legend_below(figure, left, 2)
    return figure


def _paths(ax: Axes, rows: pd.DataFrame) -> None:
    """||grad J||^2 along runs of grpo, K = 4, on both worlds; dashes are eta K."""
    color = looks_of(("grpo",))["grpo"]["color"]
    for world, label, alpha in (("xor", "shared row", 1.0), ("tree", "tree (faint)", 0.4)):
        for dashes, (h, path) in zip(
            ("-", "--", ":", "-."), select(rows, world=world).groupby("eta_K"), strict=False
        ):
            path = pd.DataFrame(path[path.time > 0]).sort_values("time")
            named: dict[str, Any] = {"linestyle": dashes, "label": rf"{label}, $\eta K={h:g}$"}
            ax.plot(path.time, path.floor, color=color, alpha=alpha, **named)
            low, high = (path.floor - path.half).clip(lower=1e-30), path.floor + path.half
            ax.fill_between(path.time, low, high, color=color, alpha=0.2 * alpha, linewidth=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.003 * float(rows.floor.min()))
    ax.set_xlabel(r"$\eta K n$ [logit$^2$]")
    ax.set_ylabel(r"$\mathbb{E}\Vert\nabla J(\theta_n)\Vert^2$")
    ax.set_title(f"grpo from $p=0.7$, $G={int(rows.responses.iloc[0])}$")
    ax.legend(loc="lower left", handlelength=2.2)


def convergence_G(rows: pd.DataFrame, shares: pd.DataFrame, at: str) -> Figure:
    """Floors against G (left), times G / (eta K) (middle), and what each regression term makes up (right)."""
    floors = select(rows, world="xor")
    unit = floors.responses / floors.eta_K
    floors = floors.assign(coefficient=floors.floor * unit, bar=floors.half * unit)
    series, smallest = present(floors), floors.eta_K.min()
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        points(left, floors, "responses", "floor", "half", series, 0.06)
        exact_lines(left, floors, "responses", "eta_K", series[0], r"$\eta K={:g}$")
        left.set_yscale("log")
        left.set_ylabel(FLOOR)
        left.set_title("floor $\\propto 1/G$ at every $\\eta K$")
        single = [name for name in series if name != "tic-literal"]
        small = select(floors, eta_K=smallest)
        points(middle, small, "responses", "coefficient", "bar", single, 0.06)
        for name, look in looks(single).items():
            line = select(small, series=name).sort_values("responses")
            exact = line.first_order * line.responses / line.eta_K
            middle.plot(line.responses, exact, color=look["color"], linewidth=0.7, alpha=0.6)
        middle.set_ylabel(r"floor $\times\, G/(\eta K)$ [reward$^2$ / logit$^4$]")
        middle.set_title(rf"$\eta K={smallest:g}$; lines: exact, $\eta K\to 0$")
        for ax in (left, middle):
            ticks_at(ax, sorted(set(floors.responses)))
            ax.set_xlabel(RESPONSES)
        left.set_xlim(right=float(floors.responses.max()) * 6)
        _shares(right, shares, at)
        figure.suptitle(
            r"Only the product $\eta K/G$ makes a floor: it falls as $1/G$ without an end; $\eta K$, $1/G$"
            "\n"
            r"and a constant have no part in it once products of the next order are allowed for. Bars: 95 %",
            fontsize=9,
        )
        legend_below(figure, left, 2)
    return figure


def _shares(ax: Axes, shares: pd.DataFrame, at: str) -> None:
    """A row for each term of the largest model, a marker for each series."""
    names = {
        "eta K / G": r"$\eta K/G$",
        "first order": r"$\eta K/G$" "\nexact",
        "eta K": r"$\eta K$",
        "1 / G": "$1/G$",
        "1": "constant",
        "eta K first order": r"$(\eta K)^2/G$",
        "(eta K / G)^2": r"$(\eta K/G)^2$",
    }
    if shares.empty:
        ax.set_title("no regression: the grid is too small")
        return
    best = select(shares, model=shares.model.iloc[-1])
    used = [term for term in names if term in set(best.term)]
    series = present(best)
    for i, (name, look) in enumerate(looks(series).items()):
        part = select(best, series=name).set_index("term").reindex(used)
        place = np.arange(len(used)) + 0.13 * (i - (len(series) - 1) / 2)
        ax.errorbar(part.share, place, xerr=part.half, **look, elinewidth=0.8, capsize=1.5)
    ax.axvline(0, color="0.55", linewidth=0.8, zorder=0)
    ax.axvline(1, color="0.55", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_ylim(len(used) - 0.5, -0.5)
    ax.yaxis.set_major_locator(FixedLocator(list(range(len(used)))))
    ax.yaxis.set_major_formatter(FixedFormatter([names[term] for term in used]))
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("part of the floor [1]")
    ax.set_title(f"regression at {at}")
