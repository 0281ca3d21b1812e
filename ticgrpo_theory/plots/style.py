"""Figures: each function draws rows of a result and computes no claim of its own."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from ticgrpo_theory.stats.rounding import ROUNDING

Look = tuple[str, object, object]
"""Colour, dashes and marker."""

OKABE_ITO = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours that the colour-blind tell apart (Okabe and Ito, 2008), without the yellow that paper swallows."""

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "x", "P")

WINE = "#882255"
"""An eighth colour, for estimators: as far from the others as they are from one another."""

LONG, DENSE, DOTTED_DASHES, SPARSE = (0, (10, 3)), (0, (2, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4))

ESTIMATOR_LOOKS: dict[str, Look] = {
    "grpo": (OKABE_ITO[2], "-", "o"),
    "tic_grpo": (OKABE_ITO[1], "--", "s"),
    "tic_grpo_eq11": (OKABE_ITO[5], DOTTED_DASHES, "v"),
    "tic_grpo_released": (WINE, LONG, "P"),
    "seq_clip": (OKABE_ITO[0], SPARSE, "*"),
    "stale": (OKABE_ITO[0], ":", "D"),
    "no_is": (WINE, LONG, "X"),
    "rloo": (WINE, "-", "+"),
    "reinforce": (OKABE_ITO[0], "--", "1"),
    # The bare ratios: no clip, whatever the advantage.
    "token": (OKABE_ITO[6], DENSE, "<"),
    "trajectory": (OKABE_ITO[3], "-.", "^"),
    "geometric_mean": (OKABE_ITO[4], "--", "h"),
    # And the trajectory ratio between the two bounds of PPO.
    "trajectory_two_sided": (WINE, ":", "H"),
    "trajectory_is": (OKABE_ITO[3], "-.", ">"),
    "prefix_is": (OKABE_ITO[5], SPARSE, "x"),
    "dapo": (OKABE_ITO[6], ":", (4, 1, 0)),
    "dr_grpo": (OKABE_ITO[3], LONG, "d"),
    "gspo": (OKABE_ITO[4], DOTTED_DASHES, "p"),
    "gspo_narrow": (OKABE_ITO[4], ":", "3"),
    "cispo": (OKABE_ITO[5], "-.", "2"),
    "gmpo": (OKABE_ITO[4], "-", "4"),
    # Losses of published runs that have no entry in the catalogue.
    "seq_grpo": (OKABE_ITO[1], "-", 7),
    "sen_clip2": (OKABE_ITO[3], "--", 6),
    "sen_clip2_only_upper": (OKABE_ITO[5], DENSE, 5),
}
"""Colour, dashes and marker of each estimator in every figure: no two have a marker in common, and those that
one figure draws (tests/unit/plots/test_estimator_looks.py names them) differ in all three."""

HOLLOW: dict[str, Any] = {"markerfacecolor": "none"}
HALF: dict[str, Any] = {"fillstyle": "left", "markerfacecoloralt": "white", "markersize": 5.0}
"""The same estimator under a second and a third condition: its own colour and marker, not filled."""

TEXT_WIDTH = 7.2
"""Width of a figure, in inches: two columns of a paper, the width of a page on GitHub."""

ANGLES = ("#f7fbff", "#d6e6f4", "#abd0e6", "#6aaed6", "#3787c0", "#105ba4", "#D55E00")
"""From no angle to the gradient to a right one; the last is for what points downhill."""


def style() -> dict[Any, Any]:
    """The matplotlib settings of every figure, for `matplotlib.rc_context`."""
    return {
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "0.9",
        "grid.linewidth": 0.5,
    }


def select(rows: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    kept = np.ones(len(rows), dtype=bool)
    for column, value in values.items():
        kept &= (rows[column] == value).to_numpy()
    return pd.DataFrame(rows.loc[kept])


def looks_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, dashes and marker of each estimator, the same in every figure.

    A name that `ESTIMATOR_LOOKS` lacks takes the first look of which nothing is taken here. ValueError where
    all colours are.
    """
    names = list(dict.fromkeys(names))
    looks = {name: ESTIMATOR_LOOKS[name] for name in names if name in ESTIMATOR_LOOKS}
    for name in names:
        if name not in looks:
            taken = {str(part) for look in looks.values() for part in look}
            free = [look for look in ESTIMATOR_LOOKS.values() if not taken & {str(part) for part in look}]
            if not free:
                raise ValueError(
                    f"{len(names)} estimators in one figure, {name!r} among them, are more than its colours "
                    f"and dashes tell apart; draw fewer, or give it an entry in ESTIMATOR_LOOKS"
                )
            looks[name] = free[0]
    return {name: _as_options(looks[name]) for name in names}


def points_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`looks_of` for points that no line joins."""
    return {name: {**look, "linestyle": "none"} for name, look in looks_of(names).items()}


def tint(color: str, share: float = 0.45) -> tuple[float, float, float]:
    """The colour mixed with white, light enough for black marks upon it."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(color))
    return red, green, blue


def _as_options(look: Look) -> dict[str, Any]:
    color, dashes, marker = look
    return {"color": color, "linestyle": dashes, "marker": marker}


def line_of(names: Sequence[str]) -> dict[str, dict[str, object]]:
    """Colour, dashes and marker of what is no estimator: any one of the three tells the lines apart."""
    looks = zip(OKABE_ITO, DASHES, MARKERS, strict=True)
    return {
        name: {"color": color, "linestyle": dashes, "marker": marker}
        for name, (color, dashes, marker) in zip(names, looks, strict=False)
    }


def bias_vs_K(rows: pd.DataFrame, worlds: Mapping[str, str], estimators: Mapping[str, str]) -> Figure:
    """Error against the current gradient (above) and the old one (below), one column for each world.

    `worlds` and `estimators` map the names to draw to their labels; up to seven estimators can be told apart.
    """
    targets = {"current": r"\theta_k", "old": r"\theta_{\rm old}"}
    data = rows[rows.world.isin(list(worlds)) & rows.estimator.isin(list(estimators)) & (rows.k > 0)]
    data = data.assign(step=data.eta * data.k * data.scale.abs())
    errors = {target: (data[f"bias_{target}_scaled"] / data.scale.abs()).to_numpy() for target in targets}
    every = np.concatenate(list(errors.values()))
    foot = foot_below(every)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.7), layout="constrained")
        axes = figure.subplots(2, len(worlds), sharex=True, sharey=True, squeeze=False)
        for (target, symbol), line in zip(targets.items(), axes, strict=True):
            for world, ax in zip(worlds, line, strict=True):
                _errors(ax, data.assign(error=errors[target]).loc[data.world == world], estimators, foot)
            line[0].set_ylabel(
                rf"$\Vert\,\mathbb{{E}}\hat g / c - \nabla J({symbol})\Vert$" "\n[reward / logit]"
            )
        for title, above, below in zip(worlds.values(), *axes, strict=True):
            above.set_title(title)
            below.set_xlabel(r"$\eta\,c\,k$: distance in steps of $\nabla J$" "\n[logit$^2$ / reward]")
        zero_at_the_foot(axes[0, 0], foot, max(float(every.max()), 10 * foot))
        figure.suptitle(
            r"The token ratio misses the gradient of the current policy (above) by $O(\eta K)$;"
            "\nwith two reward values the trajectory ratio misses it by 0 until its clip acts",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 3)
    return figure


def _errors(ax: Axes, here: pd.DataFrame, estimators: Mapping[str, str], foot: float) -> None:
    looks = looks_of(estimators)
    for place, (name, label) in enumerate(estimators.items()):
        # Open markers, each larger than the next: lines that coincide are all seen.
        look = looks[name] | HOLLOW | {"markersize": 3.0 + len(estimators) - 1 - place}
        for i, (_, trace) in enumerate(here[here.estimator == name].groupby("eta")):
            shown = trace.error.clip(lower=foot)
            ax.loglog(trace.step, shown, label="_" * (i > 0) + label, markevery=3, **look)
    ends = np.array([here.step.min(), np.sqrt(here.step.min() * here.step.max())])
    seen = here[(here.error > ROUNDING) & (here.step <= ends[1])]
    if len(seen):
        # Above all lines: only its slope means anything.
        factor = 4 * (seen.error / seen.step).max()
        ax.loglog(ends, factor * ends, color="0.6", linewidth=0.8)
        middle = float(np.sqrt(ends.prod()))
        ax.annotate("slope 1", (middle, factor * middle), (-24, 4), textcoords="offset points", color="0.4")


def zero_at_the_foot(ax: Axes, foot: float, top: float) -> None:
    """Ticks at whole decades; the lowest stands for zero."""
    ax.set_ylim(foot / 2, 3 * top)
    decades = 10.0 ** np.arange(np.log10(foot), np.ceil(np.log10(top)) + 1)
    ticks(ax.yaxis, {value: f"$10^{{{round(np.log10(value))}}}$" for value in decades} | {decades[0]: "0"})


def foot_below(values: Any) -> float:
    """The decade below the smallest value that is no rounding: the place of zero on a logarithmic axis."""
    values = np.asarray(values)
    return 10.0 ** (np.floor(np.log10(min(values[values > ROUNDING], default=1.0))) - 1)


def ticks(axis: Axis, labels: Mapping[Any, str]) -> None:
    """Ticks of an axis at these places, with these labels, and no others."""
    axis.set_major_locator(FixedLocator(list(labels)))
    axis.set_major_formatter(FixedFormatter(list(labels.values())))
    axis.set_minor_locator(NullLocator())


def legend_below(figure: Figure, ax: Axes, columns: int, title: str | None = None) -> None:
    """One legend for all axes, that of `ax`, below them."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, title=title)


def picture(figure: Figure) -> bytes:
    """The figure as PNG, without the date and version that would make equal pictures differ."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()
