"""Figures about whole runs: each function draws rows of a result and computes no claim of its own."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import TEXT_WIDTH, legend_below, looks_of, select, style

NAMES = {
    "stale": "stale: gradient held at $\\theta_{\\rm old}$",
    "no_is": "no_is: weight 1, score at $\\theta$",
    "grpo": "grpo: token ratio",
    "tic_grpo": "tic_grpo: trajectory ratio",
}


def stability(rows: pd.DataFrame) -> Figure:
    """Mean distance from the maximum against eta K c, a row for each world; drawn groups on the right."""
    worlds = sorted(set(rows.world), reverse=True)
    kinds = {
        "infinite": r"$G=\infty$, nothing sampled",
        "reused": f"$G={rows.group_size[np.isfinite(rows.group_size)].max():.0f}$ drawn, reused",
    }
    looks = looks_of(NAMES)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
        axes = figure.subplots(len(worlds), len(kinds), sharex=True, sharey=True, squeeze=False)
        for world, line in zip(worlds, axes, strict=True):
            for (batches, title), ax in zip(kinds.items(), line, strict=True):
                part = select(rows, world=world, batches=batches)
                part = pd.concat([select(part, advantage=kind) for kind in ("centred", "leave_one_out")])
                for name, label in NAMES.items():
                    own = select(part, estimator=name).sort_values("step")
                    _band(ax, own.step, own.distance, own.distance_half, label, looks[name])
                _thresholds(ax, part, looks)
                ax.set_xscale("log")
                ax.set_title(f"{world}: {title}")
            line[0].set_ylabel(r"mean $|\pi(0)-\frac{1}{2}|$ in the end")
        for ax in axes[-1]:
            ax.set_xlabel(r"$\eta K c$: the outer step, in $\nabla J$ [logit$^2$ / reward]")
        figure.suptitle(
            rf"With the data of $K={rows.K.max()}$ steps held, $\eta K c$ must stay below a threshold (dots);"
            "\nthe trajectory ratio needs only $\\eta c$ to. Sampling blurs the thresholds and hides none",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 2)
    return figure


def _thresholds(ax: Axes, part: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for name, limit in part.groupby("estimator").threshold.first().items():
        ax.axvline(limit, color=looks[name]["color"], linestyle=":", linewidth=0.9)


def _band(
    ax: Axes,
    x: pd.Series,
    mean: pd.Series,
    half: pd.Series,
    label: str,
    look: dict[str, Any],
) -> None:
    """A line with its 95 % interval."""
    ax.plot(x, mean, label=label, **look)
    ax.fill_between(x, mean - half, mean + half, color=look["color"], alpha=0.2, linewidth=0)


DIFFERENCES = "below: difference to grpo, mean over the training, with 95 % intervals"

ABLATION = {
    "grpo": "grpo: token ratio, clipped",
    "token": "token: the ratio without clip",
    "no_is": "no_is: weight 1, score at $\\theta$",
    "stale": "stale: weight 1, score at $\\theta_{\\rm old}$",
}


def ablation_no_is(rows: pd.DataFrame) -> Figure:
    """Learning curves at the largest eta (above) and mean differences to grpo (below), a column per world."""
    looks = looks_of(ABLATION)
    largest, K = rows.eta.max(), rows.K.max()
    worlds = list(dict.fromkeys(rows.world))
    conditions = {
        f"$K={k}$, $\\eta={eta:g}$, {kind}": {"K": k, "eta": eta, "batches": kind}
        for k, eta, kind in sorted(set(zip(rows.K, rows.eta, rows.batches, strict=True)))
    }
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 4.9), layout="constrained")
        axes = figure.subplots(2, len(worlds), squeeze=False, sharey="row", height_ratios=(1, 1.1))
        for world, (above, below) in zip(worlds, axes.T, strict=True):
            part = select(rows, world=world, eta=largest, K=K, batches="reused")
            for name, label in ABLATION.items():
                own = select(part, estimator=name).sort_values("n")
                _band(above, own.n, own.J, own.J_half, label, looks[name] | {"markevery": 4})
            above.set_title(world)
            above.set_xlabel("$n$: outer steps")
            _differences(below, select(rows, world=world), conditions, looks)
            below.set_xlabel(r"$J-J_{\rm grpo}$")
        axes[0, 0].set_ylabel(rf"$J(\theta_n)$, $\eta={largest:g}$, $K={K}$, reused")
        axes[1, 0].set_yticks(range(len(conditions)), list(conditions))
        axes[1, 0].invert_yaxis()
        figure.suptitle(
            "Leaving importance sampling out loses nothing in these runs, and gains where GRPO's clip acts;\n"
            "with one update for each rollout ($K=1$) there is nothing to leave out",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 2, DIFFERENCES)
    return figure


TIC = {
    "grpo": "grpo",
    "tic_grpo": "tic_grpo (eq. 9)",
    "tic_grpo_eq11": "tic_grpo_eq11",
    "tic_grpo_released": "tic_grpo_released",
    "seq_clip": "seq_clip",
    "trajectory": "trajectory, no clip",
    "token": "token, no clip",
}


def tic_vs_grpo(rows: pd.DataFrame) -> Figure:
    """Learning curves at equal eta and equal step (above), mean differences to grpo (below)."""
    looks = looks_of(TIC)
    worlds = list(dict.fromkeys(rows.world))
    shown = [how for how in ("equal eta", "equal step", "adam") if how in set(rows.condition)]
    kinds = [kind for kind in ("reused", "disjoint") if kind in set(rows.batches)]
    conditions = {f"{how}, {kind}": {"condition": how, "batches": kind} for how in shown for kind in kinds}
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 6.6), layout="constrained")
        axes = figure.subplots(3, len(worlds), squeeze=False, sharey="row", height_ratios=(1, 1, 2))
        for world, column in zip(worlds, axes.T, strict=True):
            here = select(rows, world=world)
            for how, ax in zip(("equal eta", "equal step"), column, strict=False):
                part = select(here, condition=how, batches=kinds[0])
                for name, label in TIC.items():
                    own = select(part, estimator=name).sort_values("n")
                    _band(ax, own.n, own.J, own.J_half, label, looks[name] | {"markevery": 5})
            column[0].set_title(world)
            column[1].set_xlabel("$n$: outer steps")
            _differences(column[2], here, conditions, looks)
            column[2].set_xlabel(r"$J-J_{\rm grpo}$, linear up to 0.01")
            # Leads of one half and of one thousandth are both to be seen.
            column[2].set_xscale("symlog", linthresh=0.01)
            ticks = [-0.1, -0.01, 0.01, 0.1]
            column[2].set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=6.5)
            column[2].set_xlim(-0.7, 0.7)
        for how, ax in zip(("equal eta", "equal step"), axes[:, 0], strict=False):
            ax.set_ylabel(rf"$J(\theta_n)$" f"\n{how}, {kinds[0]}")
        axes[2, 0].set_yticks(range(len(conditions)), list(conditions))
        axes[2, 0].invert_yaxis()
        figure.suptitle(
            "At equal $\\eta$ eq. 9 is far ahead: without $1/|s|$ its steps are longer. At equal steps little"
            "\nof the lead is left, with Adam next to none; the released loss, clipped close to 1, is behind",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 4, DIFFERENCES)
    return figure


def _differences(
    ax: Axes,
    rows: pd.DataFrame,
    conditions: Mapping[str, Mapping[str, object]],
    looks: dict[str, dict[str, Any]],
) -> None:
    """Mean difference to grpo over the training and its interval; a band of rows for each condition."""
    ax.axvline(0, color="0.5", linewidth=0.8)
    compared = [name for name in looks if name != "grpo" and name in set(rows.estimator)]
    for i, condition in enumerate(conditions.values()):
        part = select(rows, **condition)
        end = select(part, n=part.n.max()).set_index("estimator")
        for j, name in enumerate(compared):
            row, look = end.loc[name], looks[name]
            ax.errorbar(
                row.mean_gap,
                i + 0.7 * ((j + 0.5) / len(compared) - 0.5),
                xerr=row.mean_gap_half,
                color=look["color"],
                marker=look["marker"],
                linestyle="none",
                elinewidth=1.0,
                markersize=3,
            )
        if i % 2:
            ax.axhspan(i - 0.5, i + 0.5, color="0.95", zorder=0)
    ax.grid(axis="y", visible=False)
