"""Figures of whole updates: each function draws rows of a result, and computes no claim."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.bias import curves
from ticgrpo_theory.plots.style import HOLLOW, TEXT_WIDTH, legend_below, line_of, select, style, ticks

NORMALISERS = {
    "response token mean": "response token mean",
    "group token mean": "group token mean",
    "batch token mean": "batch token mean",
    "TRL default": "deviation of each group (TRL's default)",
    "verl reinforce++": "whitened over tokens (verl's REINFORCE++)",
    "TRL scale_rewards=batch": "deviation of the batch (TRL, `batch`)",
    "batch-standardised": "mean and deviation of the batch",
}
"""What is drawn, of all the lines."""


def batch_normalisers(rows: pd.DataFrame) -> Figure:
    """1 - cosine against P, on policy and after the drift (above); multiples against m and G (below)."""
    drifts = sorted(set(rows.drift))
    looks = line_of(list(NORMALISERS))
    smallest = select(rows, group_size=rows.group_size.min())
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 5.8), layout="constrained")
        above, (rows_of, sizes) = figure.subplots(2, 2)
        for ax, drift in zip(above, (drifts[0], drifts[-1]), strict=True):
            of = select(smallest, world="lengths", drift=drift).dropna(subset=["cosine"])
            curves(ax, of.assign(aside=1 - of.cosine), "prompts", "aside", "line", NORMALISERS, looks)
            ax.set_title(f"lengths: drift {drift:g} logits")
            ax.set_xlabel("$P$: groups of an update")
            ax.set_ylabel(r"$1 -$ cosine of $E\hat g$ and $\nabla J(\theta)$ [1]")
            ticks(ax.xaxis, {P: f"{P}" for P in sorted(set(of.prompts))})
        few = select(smallest, world="length-trap", drift=drifts[0], prompts=rows.prompts.min())
        _micro_batches(rows_of, few, looks["batch token mean"])
        pair = select(rows, world="easy-hard", drift=drifts[0], prompts=rows.prompts.min())
        _multiples(sizes, pair, looks)
        figure.suptitle(
            "Defaults that can turn an update round: token means of small micro-batches (below left),\n"
            "and the deviation of each group, or of a batch of few prompts, in large groups (below right)",
            fontsize=9,
        )
        legend_below(figure, above[0], 2)
    return figure


def _micro_batches(ax: Axes, rows: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """What is left of grad J against the rows of a micro-batch."""
    parts = rows.dropna(subset=["micro_batch"])
    for order, dashes, size in (("in order", "-", 7.0), ("shuffled", "--", 4.0)):
        of = pd.DataFrame(parts[parts.line.str.contains(order)]).sort_values("micro_batch")
        marks: dict[str, Any] = {"color": "0.35", "linestyle": dashes, "marker": "|", "markersize": size}
        ax.plot(of.micro_batch, of.scale, label=f"micro-batches {order}", **marks)
    whole = select(rows, line="batch token mean")
    ax.axhline(float(whole.scale.iloc[0]), color=look["color"], linestyle=look["linestyle"])
    ax.axhline(0.0, color="0.6", linewidth=0.8)
    ax.set_xscale("log")
    ticks(ax.xaxis, {m: f"{m:g}" for m in sorted(set(parts.micro_batch))})
    ax.set_xlabel("$m$: rows of a micro-batch")
    ax.set_ylabel(r"what is left of $\nabla J$ [1 / token]")
    ax.set_title(f"length-trap, $P = {rows.prompts.iloc[0]}$, $G = {rows.group_size.iloc[0]}$")
    ax.legend(loc="lower right")


def _multiples(ax: Axes, rows: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """What is left of grad J against the group size, each line over its value at the smallest group."""
    first = rows[rows.group_size == rows.group_size.min()].set_index("line").scale
    for place, name in enumerate(NORMALISERS):
        of = select(rows, line=name).sort_values("group_size")
        if len(of):
            look: dict[str, Any] = {**looks[name], **HOLLOW, "markersize": 3.0 + 1.1 * (6 - place)}
            ax.plot(of.group_size, of.scale / abs(first[name]), **look)
    ax.axhline(0.0, color="0.6", linewidth=0.8)
    ax.set_xscale("log")
    ticks(ax.xaxis, {G: f"{G}" for G in sorted(set(rows.group_size))})
    ax.set_xlabel("$G$: responses of a group")
    ax.set_ylabel(r"what is left of $\nabla J$" "\n[its size in the smallest groups]")
    ax.set_title(f"easy-hard, $P = {rows.prompts.iloc[0]}$")


MODES = {
    "refill": "new prompts instead (DAPO)",
    "same_prompt": "the same prompt again",
    "divide_by_all": "left out, divided by all",
    "divide_by_kept": "left out, divided by what is kept",
    "overlong mask": "cut responses left out",
    "overlong penalty": "cut responses punished (DAPO)",
}
GREYS = {"own": ("-", "o"), "tokens": ("--", "s"), "raw": (":", "^"), "penalty": ("-.", "x")}
TERMS = {"own": "own normaliser", "tokens": "token mean", "raw": "$A = r$", "penalty": "KL penalty"}
HARD = "probability of a right answer, hard prompt [1]"


def filters(rows: pd.DataFrame) -> Figure:
    """1 - cosine to no filter, of each mode (above) and of the refill by line; the share of groups kept."""
    drawn = select(rows, prompts="drawn") if "drawn" in set(rows.prompts) else rows
    smallest = select(drawn, group_size=rows.group_size.min())
    smallest = smallest.assign(aside=1 - smallest.beside)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 5.8), layout="constrained")
        above, (refilled, share) = figure.subplots(2, 2)
        names = {"own": "each group has its own normaliser", "tokens": "token mean of the batch"}
        for ax, (line, title) in zip(above, names.items(), strict=True):
            curves(ax, select(smallest, line=line), "hard", "aside", "filter", MODES, line_of(list(MODES)))
            ax.set_title(f"{title}, $G = {rows.group_size.min()}$")
        new = select(smallest, filter="refill")
        looks: dict[str, dict[str, Any]] = {
            name: {"color": "0.25", "linestyle": dashes, "marker": marker}
            for name, (dashes, marker) in GREYS.items()
        }
        curves(refilled, new, "hard", "aside", "line", TERMS, looks)
        refilled.set_title("new prompts instead, by what the loss has")
        for name, of in new.groupby("line"):
            point = of.sort_values("hard").iloc[min(1, len(of) - 1) if name == "raw" else 0]
            place, above_it = (point.hard, max(point.aside, 2 * refilled.get_ylim()[0])), name == "own"
            at: dict[str, Any] = {"textcoords": "offset points", "va": "bottom" if above_it else "top"}
            refilled.annotate(TERMS[str(name)], place, (6, 5 if above_it else -5), **at)
        _kept(share, select(drawn, filter="refill", line=rows.line.iloc[0]))
        for ax in (*above, refilled):
            ax.set_ylabel(r"$1 -$ cosine to no filter [1]")
        for ax in (*above, refilled, share):
            ax.set_xlabel(HARD)
        figure.suptitle(
            "New prompts for groups of equal rewards keep the direction where each group has its own\n"
            "normaliser and no term is free of $A$; the same prompt again turns it",
            fontsize=9,
        )
        legend_below(figure, above[0], 3)
    return figure


def _kept(ax: Axes, rows: pd.DataFrame) -> None:
    """Share of groups with unequal rewards, a line for each G."""
    sizes = sorted(set(rows.group_size))
    for place, G in enumerate(sizes):
        of = select(rows, group_size=G).sort_values("hard")
        grey = f"{0.65 * (1 - place / max(1, len(sizes) - 1)):.2f}"
        ax.plot(of.hard, of.kept, color=grey, marker="|", label=f"$G = {G}$")
    ax.set_xscale("log")
    ax.set_ylim(0, 1.05)
    ax.set_ylabel("share of groups kept [1]")
    ax.set_title("groups with unequal rewards")
    ax.legend(loc="upper left", fontsize=7)
