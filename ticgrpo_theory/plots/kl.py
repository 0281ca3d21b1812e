"""The figure of the KL penalties: which gradient each of them is."""

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ticgrpo_theory.plots.style import (
    TEXT_WIDTH,
    foot_below,
    legend_below,
    line_of,
    style,
    ticks,
    zero_at_the_foot,
)
from ticgrpo_theory.stats.rounding import ROUNDING


def kl_estimators(
    rows: pd.DataFrame, worlds: Mapping[str, str], penalties: Mapping[str, str], targets: Mapping[str, str]
) -> Figure:
    """Relative distance of each penalty's gradient to each target against the drift, a line of axes a world.

    The arguments map the names to draw to their labels; up to seven penalties can be told apart. Drift 0,
    which has no place on a logarithmic axis, stands apart on the left.
    """
    drawn = rows.world.isin(list(worlds)) & rows.target.isin(list(targets))
    data = rows.loc[drawn & rows.estimator.isin(list(penalties))]
    # A target of zero has no size to compare with: the distance stands for itself.
    data = data.assign(error=data.distance / data.target_norm.where(data.target_norm > ROUNDING, 1.0))
    foot = foot_below(data.error)
    drifts = np.unique(data.drift)
    smallest = min(drifts[drifts > 0], default=1.0)
    data = data.assign(x=data.drift.where(data.drift > 0, smallest / 4), error=data.error.clip(lower=foot))
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 1.3 + 1.7 * len(worlds)), layout="constrained")
        axes = figure.subplots(len(worlds), len(targets), sharex=True, sharey=True, squeeze=False)
        for (world, title), line in zip(worlds.items(), axes, strict=True):
            for target, ax in zip(targets, line, strict=True):
                _distances(ax, data.loc[(data.world == world) & (data.target == target)], penalties)
            line[0].set_ylabel(f"{title}\nrelative distance")
        for title, above, below in zip(targets.values(), axes[0], axes[-1], strict=True):
            above.set_title(title)
            below.set_xlabel(r"drift $\Vert\theta - \theta_{\rm old}\Vert$ [logit]")
        ticks(axes[0, 0].xaxis, {drift or smallest / 4: f"{drift:g}" for drift in drifts.tolist()})
        zero_at_the_foot(axes[0, 0], foot, max(float(data.error.max()), 10 * foot))
        figure.suptitle(
            "Which gradient a KL penalty is. For T > 1 off-policy, that of the KL of responses (left) takes\n"
            "the ratio of the response or prefix; the token ratio gives the KL of frozen states (middle)",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], 4)
    return figure


def _distances(ax: Axes, here: pd.DataFrame, penalties: Mapping[str, str]) -> None:
    """A line for each penalty off-policy, and its point at drift 0."""
    here = here.sort_values("x")
    for name, look in line_of(list(penalties)).items():
        trace = here.loc[here.estimator == name]
        on, off = trace.loc[trace.drift == 0], trace.loc[trace.drift > 0]
        ax.loglog(off.x, off.error, label=penalties[name], **look)
        ax.loglog(on.x, on.error, **{**look, "linestyle": "none"})
