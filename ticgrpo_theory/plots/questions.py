"""Questions about losses with their numbers: one row for each reading."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import TEXT_WIDTH, select, style

AXES = {
    "cosine": r"cosine of $E\hat g$ and $\nabla J(\theta)$ [1]",
    "residual": r"$\|E\hat g - c \nabla J\| / \|\nabla J\|$ [1]",
    "scale": r"$c$: what is left of $\nabla J$ [1]",
    "snr": r"$\|E\hat g\|^2 /$ variance [1]",
}


def questions(rows: pd.DataFrame) -> Figure:
    """One panel for each measure; questions are set apart by a line."""
    measures = [name for name in AXES if name in set(rows.measure)]
    sizes = [
        len(select(rows, measure=name)) + 0.7 * select(rows, measure=name).number.nunique()
        for name in measures
    ]
    turned = rows[(rows.measure == "cosine") & (rows.value < 0)]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 0.2 * sum(sizes) + 2.2), layout="constrained")
        panels = figure.subplots(len(measures), 1, height_ratios=sizes, squeeze=False)[:, 0]
        for ax, name in zip(panels, measures, strict=True):
            _readings(ax, select(rows, measure=name), name)
        how_many = f"{len(turned)} of {len(rows)} readings turn the gradient round"
        figure.suptitle(
            f"Readings of {rows.number.nunique()} public questions, exactly: {how_many}", fontsize=9
        )
    return figure


def _readings(ax: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Values from top to bottom, each question under its text."""
    at, labels = 0.0, []
    for _, of_one in rows.groupby("number"):
        ordered = of_one.sort_values("order")
        ax.text(
            0.01, at, ordered.question.iloc[0], transform=ax.get_yaxis_transform(), fontsize=6, va="center"
        )
        at += 0.85
        for reading, value in ordered[["reading", "value"]].itertuples(index=False):
            ax.plot([value], [at], "o", color="0.15", markersize=3.5)
            labels.append((at, reading))
            at += 0.85
        ax.axhline(at - 0.35, color="0.85", linewidth=0.5)
        at += 0.3
    ax.set_yticks([y for y, _ in labels], [text for _, text in labels], fontsize=6)
    ax.set_ylim(at, -0.7)
    ax.set_xlabel(AXES[measure])
    if measure in ("cosine", "scale"):
        ax.axvline(1.0, color="0.6", linewidth=0.7, linestyle=":")
        ax.axvline(0.0, color="0.6", linewidth=0.7)
