"""The figure of the language-model demo: it draws rows of a result and computes no claim of its own."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots import TEXT_WIDTH, line_of, select, style

PANELS = {
    "accuracy": "held-out accuracy",
    "log_ratio_sd": "drift: sd of $\\log w'$\nat the last update [nats]",
    "clipped": "share of tokens whose\ngradient the clip drops",
    "effective_sample_size": "effective sample size / $n$",
}


def llm_demo(rows: pd.DataFrame) -> Figure:
    """Four measures against rollouts; a line for each estimator and seed, the later seeds faint."""
    estimators, seeds = list(dict.fromkeys(rows.estimator)), sorted(set(rows.seed))
    looks = line_of(estimators)
    data = rows.assign(clipped=(rows.clipped_positive.fillna(0) + rows.clipped_negative.fillna(0)) / 2)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.6), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True)
        for (measure, label), ax in zip(PANELS.items(), axes.flat, strict=True):
            for e, estimator in enumerate(estimators):
                for s, seed in enumerate(seeds):
                    part = select(data, estimator=estimator, seed=seed).sort_values("rollouts")
                    if measure != "accuracy":
                        part = pd.DataFrame(part[part.rollouts > 0])
                    name = estimator if s == 0 and measure == "accuracy" else None
                    line(ax, part, measure, looks[estimator], 0.25 * (e - 1), 1.0 if s == 0 else 0.5, name)
            ax.set_ylabel(label)
        for ax in axes[1]:
            ax.set_xlabel("rollouts (4 updates each)")
        figure.suptitle(
            "Estimators differ in drift, clipping and sample size; their accuracies overlap\n"
            "(bars: 95 % over held-out problems; seeds: strong and faint)"
            if overlap(rows)
            else "Estimators differ in drift, clipping, sample size and accuracy\n"
            "(bars: 95 % over held-out problems; seeds: strong and faint)"
        )
        figure.legend(loc="outside lower center", ncols=len(estimators))
    return figure


def line(
    ax: Axes, part: pd.DataFrame, measure: str, look: dict, shift: float, alpha: float, name: str | None
) -> None:
    x = part.rollouts + shift
    ax.plot(x, part[measure], **look, alpha=alpha, label=name)
    if measure == "accuracy":
        ax.vlines(x, part.low, part.high, color=look["color"], alpha=alpha, linewidth=0.8)


def overlap(rows: pd.DataFrame) -> bool:
    """Whether no estimator differs from the first in all seeds at the last evaluation."""
    last = rows[rows.rollouts == rows.rollouts.max()]
    decided = last.assign(sign=(last.difference.abs() > last.difference_half) * last.difference.map(sign))
    by_estimator = decided.groupby("estimator").sign
    return not ((by_estimator.min() > 0) | (by_estimator.max() < 0)).any()


def sign(x: float) -> int:
    return (x > 0) - (x < 0)
