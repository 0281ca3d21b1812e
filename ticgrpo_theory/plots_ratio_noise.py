"""The figure about rounding in ratios: it draws rows of a result and computes no claim of its own."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ticgrpo_theory.plots import OKABE_ITO, TEXT_WIDTH, select, style

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
    """sd of log w' against the length, a column for each way of batching that differs from the first."""
    shown = [batching for batching in TITLES if (rows.batching == batching).any()]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 3.3), layout="constrained")
        axes = figure.subplots(1, max(1, len(shown)), sharex=True, sharey=True, squeeze=False)[0]
        for batching, ax in zip(shown, axes, strict=False):
            for precision, (color, dashes, marker) in LOOKS.items():
                part = select(rows, batching=batching, precision=precision).sort_values("length")
                part = part[part.sd > 0]
                look = {"color": color, "linestyle": dashes, "marker": marker}
                ax.plot(part.length, part.sd, **look, label=precision if batching == shown[0] else None)
            here = select(rows, batching=batching)
            here = here[here.sd > 0]
            if len(here):
                lengths = np.array([here.length.min(), here.length.max()], dtype=float)
                loudest = here.loc[here.per_token.idxmax()]
                ax.plot(lengths, 2 * loudest.per_token * np.sqrt(lengths), color="0.6", linewidth=0.8)
                middle = float(np.sqrt(lengths.prod()))
                ax.annotate(
                    r"$\propto\sqrt{|s|}$",
                    (middle, 2 * loudest.per_token * np.sqrt(middle)),
                    (-12, 5),
                    textcoords="offset points",
                    color="0.4",
                )
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_title(TITLES[batching])
            ax.set_xlabel("$|s|$: tokens of a response")
        axes[0].set_ylabel(r"sd of $\log w'$ at $\theta=\theta_{\rm old}$" "\n[nats]")
        figure.suptitle(
            "In bfloat16 the trajectory ratio of a policy against itself is noise that grows with the length"
        )
        figure.legend(loc="outside lower center", ncols=3, title="weights and log-softmax")
    return figure
