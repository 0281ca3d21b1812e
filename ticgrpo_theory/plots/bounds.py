"""Figures about bounds: each function draws rows of a result and computes no claim of its own."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from ticgrpo_theory.plots.style import (
    OKABE_ITO,
    TEXT_WIDTH,
    legend_below,
    line_of,
    points_of,
    select,
    style,
    ticks,
)

BOUNDS = {
    "C1": "C1: every\nreplicate",
    "C2": "C2: moments\nof first steps",
    "T1": "theorem 1 (corrects the\npaper's Theorems 5.1, 5.2)",
    "T2": "theorem 2 (the same,\nshort steps)",
}
CALLED = {"tic, 1/T": "tic_grpo_eq11", "tic, sum": "tic_grpo"}
"""The catalogue's names of what the rows call otherwise."""
WORLDS = {"xor": "one shared row", "tree": "prefix tree"}


def theorem_bounds(rows: pd.DataFrame) -> Figure:
    """Right over left by eta K: a row for each world, a column for each bound; silent ones on top."""
    worlds = [world for world in WORLDS if world in set(rows.world)]
    names = list(dict.fromkeys(rows.estimator))
    spans = sorted(set(rows.eta_K))
    top = 10.0 ** np.ceil(np.log10(rows.ratio.max()) + 0.5)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.6), layout="constrained")
        axes = figure.subplots(len(worlds), len(BOUNDS), sharex=True, sharey=True, squeeze=False)
        for line, world in zip(axes, worlds, strict=True):
            for ax, bound in zip(line, BOUNDS, strict=True):
                _ratios(ax, select(rows, world=world, bound=bound), names, spans, top)
            line[0].set_ylabel(f"{WORLDS[world]}\nright / left side")
        for ax, title in zip(axes[0], BOUNDS.values(), strict=True):
            ax.set_title(title)
        for ax in axes[-1]:
            ax.set_xlabel(r"$\eta K$ [logit$^2$ / reward]")
        decades = 10.0 ** np.arange(0, np.log10(top) + 1)
        axes[0, 0].set_yscale("log")
        axes[0, 0].set_ylim(0.7, 3 * top)
        labels = {value: f"$10^{{{round(np.log10(value))}}}$" for value in decades}
        ticks(axes[0, 0].yaxis, labels | {decades[-1]: "silent"})
        figure.suptitle(
            "No bound is violated (1 is tight); a hypothesis that fails leaves a bound silent.\n"
            "Bounds that know the run are sharp; constants alone are loose, most of all for drifting fields",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], len(names))
    return figure


def _ratios(ax: Axes, here: pd.DataFrame, names: list[str], spans: list[float], top: float) -> None:
    """Estimators side by side at every eta K; filled where the bound applies, hollow on top where not."""
    looks = points_of(CALLED.get(name, name) for name in names)
    for i, name in enumerate(names):
        part, look = select(here, estimator=name), looks[CALLED.get(name, name)]
        x = np.array([spans.index(span) for span in part.eta_K]) + 0.2 * (i - (len(names) - 1) / 2)
        there = part.applies.to_numpy(dtype=bool)
        label = f"{CALLED[name]} ({name})" if name in CALLED else name
        ax.plot(x[there], part.ratio.to_numpy()[there], label=label, markersize=3, alpha=0.8, **look)
        ax.plot(x[~there], np.full((~there).sum(), top), markersize=3.5, fillstyle="none", **look)
    ax.axhline(1.0, color="0.4", linewidth=0.8)
    ax.xaxis.set_major_locator(FixedLocator(range(len(spans))))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{span:g}" for span in spans]))
    ax.grid(visible=False, axis="x")


def missing_gap_term(rows: pd.DataFrame) -> Figure:
    """Left side and bounds against eta K (left), the constant that the printed rate would need (right)."""
    largest = rows.G.max()
    part = select(rows, G=largest)
    steps = sorted(set(rows.N))
    looks = line_of([str(N) for N in steps])
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.4), layout="constrained")
        sides, needed = figure.subplots(1, 2)
        for N in steps:
            here = select(part, N=N).sort_values("eta_K")
            look = looks[str(N)]
            sides.loglog(here.eta_K, here.left, label=f"$N$ = {N:,}", **look)
            faint = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.8, "alpha": 0.6}
            sides.loglog(here.eta_K, here.corrected, **faint)
            needed.loglog(here.eta_K, here.constant_needed, **look)
        here = select(part, N=steps[0]).sort_values("eta_K")
        sides.loglog(here.eta_K, here.printed, color=OKABE_ITO[5], linewidth=2.5, zorder=1)
        _name_sides(sides, here)
        sides.set_ylabel(
            r"$\frac{1}{N}\sum \mathbb{E}\Vert\nabla J(\theta_n)\Vert^2$ and its bounds"
            "\n[(reward / logit)$^2$]"
        )
        needed.set_ylabel(r"$C$ needed in $C\,(\eta K + 1/|G|)$")
        for ax in (sides, needed):
            ax.set_xlabel(r"$\eta K$ [logit$^2$ / reward]")
        sides.set_title("the left side stays where the start is")
        needed.set_title("no constant makes the printed rate a bound")
        figure.suptitle(
            rf"As $\eta K \to 0$ at fixed $N$ ($|G|$ = {largest:,}) nothing moves: a bound needs "
            r"$2(J^*-J(\theta_1))/(cN\eta K)$",
            fontsize=9,
        )
        legend_below(figure, sides, len(steps))
    return figure


def _name_sides(ax: Axes, here: pd.DataFrame) -> None:
    """What the lines are, beside those of the fewest outer steps."""
    texts = {
        "without the gap term,\nas Theorem 5.1 is printed": (1, here.printed, (6, -20)),
        "left sides": (0, here.left, (6, 4)),
        "theorem 1, which corrects\nTheorem 5.1 (faint)": (1, here.corrected, (4, 6)),
    }
    for text, (i, line, aside) in texts.items():
        at = (here.eta_K.iloc[i], line.iloc[i])
        ax.annotate(text, at, aside, textcoords="offset points", fontsize=7)
