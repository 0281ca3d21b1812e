"""Errors of estimators in the weights of a pretrained network, against how far the policy has moved."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import HOLLOW, TEXT_WIDTH, legend_below, looks_of, select, style

SINGLE = 2e-5
"""Smaller errors, in units of the gradient, are float32 rounding of the network's passes: drawn there."""

TARGETS = {"current": r"\theta_k", "old": r"\theta_{\rm old}"}


def bias_vs_drift(rows: pd.DataFrame) -> Figure:
    """Error / ||c grad J|| to the current and the old gradient, one column for each prompt, one pair of rows
    for each optimiser, k = 1..K of all step sizes."""
    start = rows[rows.k == 0].groupby("world").gradient_norm.first()
    sizes = {"size_current": rows.gradient_norm, "size_old": rows.world.map(start)}
    scaled = rows.assign(**{name: size * rows.scale.abs() for name, size in sizes.items()})
    moved = pd.DataFrame(scaled[rows.k > 0])
    worlds, names = list(dict.fromkeys(moved.world)), list(dict.fromkeys(moved.estimator))
    optimizers = [name for name in ("plain", "adamw") if name in set(moved.optimizer)]
    pairs = [(optimizer, target) for optimizer in optimizers for target in TARGETS]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 1.1 + 1.7 * len(pairs)), layout="constrained")
        axes = figure.subplots(len(pairs), len(worlds), sharex="col", sharey=True, squeeze=False)
        for (optimizer, target), line in zip(pairs, axes, strict=True):
            for world, ax in zip(worlds, line, strict=True):
                errors(ax, select(moved, world=world, optimizer=optimizer), names, target)
            told = "plain steps" if optimizer == "plain" else "AdamW"
            line[0].set_ylabel(
                rf"{told}: error to" "\n" rf"$c\nabla J({TARGETS[target]})$ $[\Vert c\nabla J\Vert]$"
            )
        for world, above, below in zip(worlds, axes[0], axes[-1], strict=True):
            above.set_title(world)
            below.set_xlabel(r"sd of $\log w'$")
        axes[0, 0].set_ylim(SINGLE / 2, None)
        figure.suptitle(
            "A pretrained network, all weights, nothing sampled: the clipped token ratio leaves both\n"
            "gradients at once; the trajectory ratio stays on the current one until a clip acts",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 4)
    return figure


def errors(ax: Axes, rows: pd.DataFrame, names: Sequence[str], target: str) -> None:
    """One line for each estimator and step size; the larger the step, the further right."""
    looks = looks_of(names)
    for place, name in enumerate(names):
        # Open markers, each larger than the next: lines that coincide are all seen.
        look = looks[name] | HOLLOW | {"markersize": 2.0 + 0.6 * (len(names) - 1 - place)}
        for n, (_, trace) in enumerate(rows[rows.estimator == name].groupby("eta")):
            relative = (trace[f"bias_{target}_scaled"] / trace[f"size_{target}"]).to_numpy()
            shown = np.maximum(relative, SINGLE)
            ax.loglog(trace.log_ratio_sd, shown, label="_" * (n > 0) + name, **look)
