"""The figure about rounding in ratios: it draws rows of a result and computes no claim of its own."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import OKABE_ITO, TEXT_WIDTH, select, style

LOOKS = {
    "bf16": (OKABE_ITO[1], "-", "s"),
    "bf16, softmax fp32": (OKABE_ITO[2], "--", "o"),
    "fp32": (OKABE_ITO[0], ":", "^"),
}

TITLES = {
    "alone": "each row alone\nagainst all together",
    "wider": "beside longer rows\nagainst among equals",
    "sampler": "drawn token by token\nagainst one forward pass",
}


def ratio_noise(rows: pd.DataFrame) -> Figure:
    """sd of log w' against the length where it is not zero, and on the right which way log w' leans."""
    noisy = [b for b in TITLES if (select(rows, batching=b).sd > 0).any()]
    silent = [b for b in TITLES if (rows.batching == b).any() and b not in noisy]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.5), layout="constrained")
        axes = figure.subplots(1, len(noisy) + 1, sharex=True, squeeze=False)[0]
        for ax in axes[1:-1]:
            ax.sharey(axes[0])
        for batching, ax in zip(noisy, axes, strict=False):
            spread(ax, rows, batching, named=batching == noisy[0])
        leans(axes[-1], rows, noisy)
        for ax in axes:
            ax.set_xscale("log", base=2)
            ax.set_xlabel("$|s|$: tokens of a response")
        axes[0].set_ylabel(r"sd of $\log w'$ at $\theta=\theta_{\rm old}$ [nats]")
        title = "In bfloat16 the trajectory ratio of a policy against itself is noise, not 1"
        for batching in silent:
            title += f"\n({' '.join(TITLES[batching].split())}: exactly 1 on this machine)"
        figure.suptitle(title)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def spread(ax: Axes, rows: pd.DataFrame, batching: str, named: bool) -> None:
    """sd against the length, a line for each precision, and a square root above them."""
    for precision, (color, dashes, marker) in LOOKS.items():
        part = select(rows, batching=batching, precision=precision).sort_values("length")
        part = part[part.sd > 0]
        look: dict[str, Any] = {"color": color, "linestyle": dashes, "marker": marker}
        ax.plot(part.length, part.sd, **look, label=precision if named else None)
    here = select(rows, batching=batching)
    lengths = np.array([here.length.min(), here.length.max()], dtype=float)
    height = 2 * here.per_token.max()
    ax.plot(lengths, height * np.sqrt(lengths), color="0.6", linewidth=0.8)
    middle = float(np.sqrt(lengths.prod()))
    at = (middle, height * np.sqrt(middle))
    ax.annotate(r"$\propto\sqrt{|s|}$", at, (-30, 5), textcoords="offset points", color="0.4")
    ax.set_yscale("log")
    ax.set_title(TITLES[batching])


def leans(ax: Axes, rows: pd.DataFrame, noisy: list[str]) -> None:
    """Mean of log w' with two standard errors in mixed precision, and -sd^2 / 2 beside it."""
    for batching, color, marker, shift in zip(
        noisy, (OKABE_ITO[3], OKABE_ITO[4]), "Dv", (0.94, 1.06), strict=False
    ):
        part = select(rows, batching=batching, precision="bf16, softmax fp32").sort_values("length")
        name = TITLES[batching].split("\n")[0]
        bars = {"yerr": 2 * part.mean_error, "color": color, "marker": marker, "linestyle": "none"}
        ax.errorbar(shift * part.length, part["mean"], **bars, label=f"mean: {name}")
        ax.plot(part.length, part.lognormal_mean, color=color, linestyle="--", label=rf"$-$sd$^2/2$: {name}")
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set_title("only what one of the two drew\nleans to $-$sd$^2/2$")
    ax.set_ylabel(r"mean of $\log w'$ [nats]")
