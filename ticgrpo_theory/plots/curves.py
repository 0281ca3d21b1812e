"""Figures of training logs that a user has: window means of runs of one's own, and published curves."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ticgrpo_theory.plots.logs import in_order, looks
from ticgrpo_theory.plots.style import OKABE_ITO, TEXT_WIDTH, legend_below, line_of, select, style
from ticgrpo_theory.training_logs.runs import METRICS, Run
from ticgrpo_theory.training_logs.summary import COMPARED


def own_logs(rows: pd.DataFrame) -> Figure:
    """Window means of every metric that was logged, one panel each, one line for each run."""
    means = select(rows, kind="mean")
    metrics = [metric for metric in COMPARED if (means.metric == metric).any()]
    runs = list(dict.fromkeys(means.run))
    shown = runs[: len(OKABE_ITO)]
    looks = line_of(shown)
    beyond = select(rows, kind="difference", metric="reward")
    late = beyond[beyond.verdict.str.startswith("beyond")]
    with matplotlib.rc_context(style()):
        lines = (len(metrics) + 1) // 2
        figure = Figure(figsize=(TEXT_WIDTH, 0.9 + 2.0 * lines), layout="constrained")
        axes = figure.subplots(lines, 2, squeeze=False)
        for ax in axes.flat[len(metrics) :]:
            ax.set_visible(False)
        for metric, ax in zip(metrics, axes.flat, strict=False):
            for run in shown:
                part = select(means, metric=metric, run=run)
                part = in_order(part, "first_step")
                ax.plot((part.first_step + part.last_step) / 2, part.value, label=run, **looks[run])
            ax.set_ylabel(METRICS[metric].label)
            ax.set_xlabel("step [1]")
        drawn = f" ({len(shown)} drawn)" if len(shown) < len(runs) else ""
        figure.suptitle(
            f"{len(runs)} runs{drawn}: {len(late)} of {len(beyond)} paired differences of the reward, "
            f"window by window,\nlie beyond the noise that could be estimated",
            fontsize=9,
        )
        legend_below(figure, axes[0, 0], min(3, len(shown)))
    return figure


PANELS = {
    "Figure 1: no ratio, and the baseline": ("dapo_baseline", "only_old_policy"),
    "Figure 2: trajectory ratios, and the baseline": (
        "dapo_baseline",
        "seq_grpo",
        "seq_clip",
        "gspo_official",
    ),
    "1.7B, read off pictures": ("dapo_baseline", "sen_clip2", "sen_clip2_only_upper"),
    "8B, math": tuple(f"math8b_compare/{x}" for x in ("dapo", "grpo", "gspo", "tic-grpo")),
    "8B, instructions": tuple(f"if8b_compare/{x}" for x in ("dapo", "grpo", "gspo", "tic-grpo")),
    "8B, math: GSPO, near-identical runs": tuple(f"math8b_gspo_eps/gspo eps={x}e-4" for x in (1, 3, 4, 5, 6)),
}
AVERAGED = 11
"""Steps of the centred mean that is drawn over the curve."""


def curves(runs: Sequence[Run]) -> Figure:
    """Reward of every step (faint) and centred means; panels whose runs are absent stay out."""
    named = {run.name: run for run in runs}
    panels = {title: [x for x in names if x in named] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        raise ValueError(f"none of the runs {', '.join(named)} is drawn; the panels are {', '.join(PANELS)}")
    with matplotlib.rc_context(style()):
        lines = (len(panels) + 1) // 2
        figure = Figure(figsize=(TEXT_WIDTH, 2.5 * lines), layout="constrained")
        axes = figure.subplots(lines, 2, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for (title, names), ax in zip(panels.items(), axes.flat, strict=False):
            one_loss = all("gspo eps=" in name for name in names)
            for name, look in (line_of(names) if one_loss else looks(names)).items():
                reward = named[name].metric("reward")
                steps = np.arange(1, named[name].last("reward") + 1)
                every = reward.reindex(steps)
                mean = every.rolling(AVERAGED, center=True, min_periods=AVERAGED // 2).mean()
                ax.plot(steps, every, color=look["color"], linewidth=0.5, alpha=0.35)
                label = name.rpartition("/")[2]
                ax.plot(steps, mean, color=look["color"], linestyle=look["linestyle"], label=label)
            ax.set_title(title)
            ax.set_xlabel("training step [1]")
            ax.set_ylabel("mean reward [1]")
            ax.legend(fontsize=7, loc="lower right")
        figure.suptitle(
            f"Logged rewards, and their means over {AVERAGED} steps: runs of one panel see the same\n"
            f"prompts, so that they move together; each curve is one seed",
            fontsize=9,
        )
    return figure
