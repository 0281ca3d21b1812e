"""Figures of what a group does to its gradient: reuse, and the terms of the decompositions."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import (
    HALF,
    HOLLOW,
    TEXT_WIDTH,
    foot_below,
    legend_below,
    line_of,
    looks_of,
    points_of,
    style,
    ticks,
    zero_at_the_foot,
)

MATCHES = {
    "token ratio, no clip": ("trajectory", "token"),
    r"gradient at $\theta_{\rm old}$, no clip": ("trajectory", "stale"),
    "token ratio (GRPO), both clipped": ("tic_grpo_eq11", "grpo"),
}
"""What the gain of the trajectory ratio is compared with: the first of each pair, with the second.

A line has the look of the second.
"""

APART = 1.6
"""Smallest quotient of neighbouring labels."""


def ticks_at(ax: Axes, values: pd.Series) -> None:
    """Ticks of a logarithmic axis at these numbers, written out, without those that would touch the last."""
    shown: list[float] = []
    for value in sorted(set(values)):
        if not shown or value >= APART * shown[-1]:
            shown.append(value)
    ticks(ax.xaxis, {value: f"{value:g}" for value in shown})


def reuse_bias(rows: pd.DataFrame) -> Figure:
    """Bias against G with one group reused and with fresh ones; who gains more, for each world.

    Bias at the smallest eta, after one step and after all, in the first world; gains at the largest eta.
    """
    worlds = sorted(set(rows.world), reverse=True)
    data = rows.assign(error=rows.bias / rows.scale, expected=rows.predicted / rows.scale)
    small = data.loc[(data.world == worlds[0]) & (data.eta == data.eta.min())]
    last = int(small.k.loc[small.batches == "reused"].max())
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.9), layout="constrained")
        bias, *gains = figure.subplots(1, 1 + len(worlds))
        _biases(bias, small, last)
        bias.set_title(rf"{worlds[0]}, $A=z$, $\eta={small.eta.iloc[0]:g}$")
        figure.legend(*bias.get_legend_handles_labels(), loc="outside lower left")
        large = rows.loc[(rows.batches == "reused") & (rows.eta == rows.eta.max()) & (rows.k == last)]
        for world, ax in zip(worlds, gains, strict=True):
            _gains(ax, large.loc[large.world == world])
            ax.set_title(rf"{world}, $\eta={rows.eta.max():g}$, $K={last}$")
        gains[0].set_ylabel("gain in $J$ by the trajectory ratio,\nmore than by the other [%]")
        for ax in (bias, *gains):
            ticks_at(ax, small.group_size.loc[small.batches == "reused"])
            ax.set_xlabel("$G$: responses in a group")
        named = gains[0].get_legend_handles_labels()
        figure.legend(*named, loc="outside lower right", title="the other, on the same group")
        figure.suptitle(
            r"Reusing a group biases even an unbiased gradient, by $\eta kC/G$; fresh groups do not (left)."
            "\nWhether the trajectory ratio gains more of $J$ depends on world, $G$ and clip (right)",
            fontsize=9,
        )
    return figure


def _biases(ax: Axes, small: pd.DataFrame, last: int) -> None:
    """||E g_hat_k / c - E grad J(theta_k)|| against G: one group for all steps, and a fresh one for each."""
    reused, fresh = (small.loc[small.batches == kind] for kind in ("reused", "disjoint"))
    bare, lines = points_of(("trajectory", "token")), looks_of(("trajectory", "token"))
    for name, k, label, look in (
        ("trajectory z", last, f"trajectory ratio, reused, $k={last}$", bare["trajectory"]),
        ("trajectory z", 1, "trajectory ratio, reused, $k=1$", bare["trajectory"] | HOLLOW),
        ("token z", 1, "token ratio, reused, $k=1$", lines["token"] | HOLLOW),
    ):
        line = reused.loc[(reused.estimator == name) & (reused.k == k)].sort_values("group_size")
        ax.loglog(line.group_size, line.error, label=label, **look)
        if name == "trajectory z":
            drawn = r"first order, $\eta kC/G$" if k == 1 else None
            ax.plot(line.group_size, line.expected, color=look["color"], linewidth=0.8, label=drawn)
    unbiased = fresh.loc[(fresh.estimator == "trajectory z") & (fresh.k > 0)]
    none, foot = unbiased.groupby("group_size").error.max(), foot_below(small.error)
    label = "trajectory ratio, fresh groups"
    ax.loglog(none.index, none.clip(lower=foot), label=label, **{**bare["trajectory"], **HALF})
    zero_at_the_foot(ax, foot, float(small.error.max()))
    ax.set_ylabel(r"$\Vert\,\mathbb{E}\hat g_k/c-\mathbb{E}\nabla J(\theta_k)\Vert$ [reward / logit]")


def _gains(ax: Axes, rows: pd.DataFrame) -> None:
    """By how much the trajectory ratio gains more of J than each of MATCHES, in per cent, against G."""
    gain = rows.pivot(index="group_size", columns="estimator", values="gain")
    ax.axhline(0.0, color="0.4", linewidth=0.8)
    looks = looks_of(other for _, other in MATCHES.values())
    for label, (one, other) in MATCHES.items():
        if {one, other} <= set(gain.columns):
            ax.semilogx(gain.index, 100 * (gain[one] / gain[other] - 1), label=label, **looks[other])


EQUATIONS = {7: "Eq. 7, GRPO", 11: "Eq. 11, TIC-GRPO"}

TERMS = {
    "sampling_error_1": "sampling error 1",
    "sampling_error_2": "sampling error 2",
    "gradient_error": "gradient error",
    "clip_error": "clip error",
    "residual as printed": "missed by the printed sum",
}


def decomposition_terms(rows: pd.DataFrame) -> Figure:
    """Terms against G at one drift (left) and against drift at one G (right), a line of axes an equation.

    In the first world. The points at G = infinity and at drift 0 stand apart, on the outside.
    """
    data = rows.loc[
        (rows.world == sorted(set(rows.world), reverse=True)[0]) & rows.quantity.isin(list(TERMS))
    ]
    equations = sorted(set(data.equation))
    foot = foot_below(data.value)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 1.4 + 1.9 * len(equations)), layout="constrained")
        axes = figure.subplots(len(equations), 2, sharey=True, sharex="col", squeeze=False)
        for equation, line in zip(equations, axes, strict=True):
            for along, ax in zip(("G", "drift"), line, strict=True):
                _terms(ax, data.loc[(data.equation == equation) & (data.along == along)], along, foot)
            size = r"$\Vert\,\mathbb{E}[{\rm term}]\Vert$ [1 / logit]"
            line[0].set_ylabel(f"{EQUATIONS[equation]}\n{size}")
        zero_at_the_foot(axes[0, 0], foot, float(data.value.max()))
        at = {along: data.loc[data.along == along] for along in ("G", "drift")}
        axes[0, 0].set_title(rf"drift $x={at['G'].drift.iloc[0]:g}$")
        axes[0, 1].set_title(rf"$G={at['drift'].group_size.iloc[0]:g}$")
        axes[-1, 0].set_xlabel("$G$: responses in a group")
        axes[-1, 1].set_xlabel(r"drift $x=\Vert\theta-\theta_{\rm old}\Vert$ [logit]")
        figure.suptitle(
            "Sampling error 1 vanishes with $G$, gradient and clip error with the drift, sampling error 2\n"
            "with neither where lengths differ; and the sums as printed miss the gradient",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 3)
    return figure


def _terms(ax: Axes, part: pd.DataFrame, along: str, foot: float) -> None:
    """A line for each term; what lies at the limit stands apart."""
    x, apart, labels = places(part, along)
    part = part.assign(x=x, apart=apart, value=part.value.clip(lower=foot)).sort_values("x")
    for name, look in line_of(list(TERMS)).items():
        term = part.loc[part.quantity == name]
        inner, outer = term.loc[~term.apart], term.loc[term.apart]
        ax.loglog(inner.x, inner.value, label=TERMS[name], **look)
        ax.loglog(outer.x, outer.value, **{**look, "linestyle": "none"})
    ticks(ax.xaxis, labels)


def places(part: pd.DataFrame, along: str) -> tuple[pd.Series, pd.Series, dict[float, str]]:
    """Abscissa of every row, whether it is the limit, which has no place on a logarithmic axis; ticks."""
    values = part.group_size if along == "G" else part.drift
    apart = np.isinf(values) if along == "G" else values == 0
    inner = values.loc[~apart]
    limit = 4 * inner.max() if along == "G" else inner.min() / 4
    labels = {float(value): f"{value:g}" for value in sorted(set(inner))}
    return values.where(~apart, limit), apart, labels | {float(limit): r"$\infty$" if along == "G" else "0"}
