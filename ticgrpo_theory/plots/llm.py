"""The figure of the language-model demo: it draws rows of a result and computes no claim of its own."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import TEXT_WIDTH, looks_of, select, style

PANELS = {
    "accuracy": "held-out accuracy",
    "log_ratio_sd": "drift: sd of $\\log w'$\nat the last update [nats]",
    "clipped": "share of tokens whose\ngradient the clip drops",
    "effective_sample_size": "effective sample size / $n$",
}


def llm_demo(rows: pd.DataFrame) -> Figure:
    """Four measures against rollouts; a line for each estimator and seed, the later seeds faint."""
    estimators, seeds = list(dict.fromkeys(rows.estimator)), sorted(set(rows.seed))
    looks = looks_of(estimators)
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
        figure.suptitle(f"{found(rows)}\n(bars: 95 % over held-out problems; seeds: strong and faint)")
        figure.legend(loc="outside lower center", ncols=len(estimators))
    return figure


def line(
    ax: Axes, part: pd.DataFrame, measure: str, look: dict, shift: float, alpha: float, name: str | None
) -> None:
    x = part.rollouts + shift
    ax.plot(x, part[measure], **look, alpha=alpha, label=name)
    if measure == "accuracy":
        ax.vlines(x, part.low, part.high, color=look["color"], alpha=alpha, linewidth=0.8)


def found(rows: pd.DataFrame) -> str:
    """Which estimators end ahead of the first, and which behind it, in every seed."""
    last = select(rows, rollouts=rows.rollouts.max())
    first, *others = dict.fromkeys(last.estimator)
    said: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
    for name in others:
        said[standing(select(last, estimator=name))].append(name)
    parts = [f"{' and '.join(names)} {what} {first}" for what, names in said.items() if names]
    return "In held-out accuracy, in every seed: " + "; ".join(parts)


def standing(last: pd.DataFrame) -> str:
    """How the rows of one estimator, a seed each, stand to the first: decided where all agree."""
    ahead, behind = (bool((s * last.difference > last.difference_half).all()) for s in (1, -1))
    return "ahead of" if ahead else "behind" if behind else "not told apart from"
