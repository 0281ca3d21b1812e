"""Figures of samplers that are not theta_old: each function draws rows of a result, and computes no claim."""

from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.bias import curves
from ticgrpo_theory.plots.style import HOLLOW, TEXT_WIDTH, line_of, select, style, ticks

CORRECTIONS = {
    "none": "none: the sampler ignored",
    "verl token_is": "token truncated at 2 (verl `token_is`)",
    "sequence": "whole response, no bound",
    "sequence masked": "whole response masked at 3 (TRL's default)",
    "verl seq_is": "whole response truncated at 2 (verl `seq_is`)",
    "verl geo_rs": "geometric mean within 0.1 % (verl `geo_rs`)",
    "theta/mu, verl ppo_clip": r"$\theta/\mu$ clipped by token (verl `ppo_clip`)",
}
"""What is drawn, of all the rows, with the trainers whose settings these are."""

MISMATCH = {
    "noise": r"standard deviation of $\mu$'s noise [logit]",
    "temperature": "1 / temperature of $\\mu$ - 1 [1]",
}
SMALL, ROW = "long-answers", "share"


def sampler_mismatch(rows: pd.DataFrame) -> Figure:
    """Cosine and variance against the mismatch (above), what is left and variance against T (below)."""
    worlds = set(rows.world)
    small = SMALL if SMALL in worlds else next(iter(worlds - {ROW, "half"}), SMALL)
    above = select(rows, world=small, sampler=rows.sampler.iloc[0], drift=rows.drift.min())
    longest = above["T"].max()
    above = select(above, T=longest)
    below = select(rows, world=ROW if ROW in worlds else "half")
    rewarded = {"share": "per token", "half": "half right"}[below.world.iloc[0]]
    gaps = sorted(set(below.mismatch))
    gap = gaps[len(gaps) // 2]
    below = select(below, mismatch=gap)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 5.6), layout="constrained")
        (cosine, noise), (left, spread) = figure.subplots(2, 2)
        aside = above[above.cosine.notna()].assign(aside=lambda of: 1 - of.cosine.astype(float))
        curves(cosine, aside, "mismatch", "aside", "correction", CORRECTIONS, line_of(list(CORRECTIONS)))
        _lines(noise, above, "mismatch", "variance")
        _lines(left, below, "T", "scale")
        _lines(spread, below, "T", "variance")
        mass = select(below, correction="sequence masked").sort_values("T")
        left.plot(
            mass["T"], mass.mass, color="0.6", linewidth=0.8, label=r"share of $\pi_{\rm old}$ unmasked"
        )
        for ax in (noise, spread):
            ax.set_yscale("log")
            ax.set_ylabel(r"$E\Vert\hat g - E\hat g\Vert^2\,/\,\Vert\nabla J\Vert^2$ [1]")
        for ax in (cosine, noise):
            ax.set_xlabel(MISMATCH[above.sampler.iloc[0]])
            ax.set_title(f"{small}, at most {longest} tokens")
        for ax in (left, spread):
            ax.set_xlabel("$T$: tokens of a response")
            ax.set_title(f"one row, {gap:g} logits apart; reward {rewarded}")
            ticks(ax.xaxis, {T: f"{T:,}" for T in sorted(set(below["T"]))})
        cosine.set_ylabel(r"$1 -$ cosine of $E\hat g$ and $\nabla J$ [1]")
        left.set_ylabel(r"what is left of $\nabla J$ [1]")
        left.axhline(0.0, color="0.6", linewidth=0.8)
        figure.suptitle(
            "A correction of single tokens can point further from the gradient than none (above);\n"
            "a bound on whole responses turns the gradient of long ones round (below)",
            fontsize=9,
        )
        handles, labels = left.get_legend_handles_labels()
        above_too = zip(*reversed(noise.get_legend_handles_labels()), strict=True)
        named = dict(above_too) | dict(zip(labels, handles, strict=True))
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=2)
    return figure


def _lines(ax: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """One line for each correction; open markers, each larger than the next, show lines that coincide."""
    looks: dict[str, dict[str, Any]] = line_of(list(CORRECTIONS))
    for place, (name, label) in enumerate(CORRECTIONS.items()):
        of = select(rows, correction=name).dropna(subset=[y]).sort_values(x)
        if len(of):
            size = 3.0 + 0.9 * (len(CORRECTIONS) - 1 - place)
            look: dict[str, Any] = looks[name] | HOLLOW | {"markersize": size}
            ax.plot(of[x], of[y].astype(float), label=label, **look)
    ax.set_xscale("log")
