"""Figures of training logs: from their summary alone, and the curves themselves where a user has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ticgrpo_theory.plots import DASHES, MARKERS, OKABE_ITO, TEXT_WIDTH, line_of, select, style
from ticgrpo_theory.training_logs.runs import METRICS, Run
from ticgrpo_theory.training_logs.summary import COMPARED

BASELINE = "dapo_baseline"
SMALL = {
    "only_old_policy": "no ratio (Figure 1)",
    "seq_grpo": "trajectory ratio, seq_grpo (Figure 2)",
    "seq_clip": "trajectory ratio, seq_clip",
    "sen_clip2": "trajectory ratio, sen_clip2*",
    "sen_clip2_only_upper": "the same, upper clip only*",
}
"""Runs of the 1.7B model; * read off a picture, as the baseline is."""

LARGE = {
    "math8b_compare": {"dapo": "DAPO", "grpo": "GRPO", "gspo": "GSPO"},
    "if8b_compare": {"dapo": "DAPO", "grpo": "GRPO", "gspo": "GSPO"},
}
TASKS = {"math8b_compare": "math", "if8b_compare": "instructions"}
FASTER = "math8b_gspo_lr/gspo lr=3e-6"

QUARTERS = ("1/4", "2/4", "3/4", "4/4")


CAPTION = (
    "Bars: 95 % of step noise (block bootstrap of the difference, paired by step). Grey above: 95 % of the "
    "differences of two runs,\n"
    "by the spread of five 8B GSPO runs that are all but identical, quarter by quarter. *: off a picture. "
    "8B math: GRPO and DAPO may be swapped.\n"
    "It would be refuted by log w' centred at -sd$^2$/2, and by gaps beyond the grey, of one sign, over "
    "several seeds."
)
"""How to read `authors_logs`, and what would have refuted it."""


def gap(rows: pd.DataFrame, run: str, versus: str) -> pd.DataFrame:
    """Reward of `run` less that of `versus` in each quarter, in whichever order the pair was stored."""
    stored = select(rows, kind="difference", metric="reward")
    there = select(stored, run=run, versus=versus)
    back = select(stored, run=versus, versus=run)
    both = pd.concat([there, back.assign(value=-back.value)])
    return _in_order(both, "window")


def _in_order(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """The rows of single windows, without those of all steps."""
    kept = pd.DataFrame(rows.loc[(rows.window != "all").to_numpy()])
    return kept.iloc[np.argsort(kept[by].to_numpy(), kind="stable")]


def is_published(rows: pd.DataFrame) -> bool:
    """Whether these are rows of all the runs that `authors_logs` draws."""
    runs = {*SMALL, BASELINE, FASTER} | {f"{x}/{name}" for x in LARGE for name in (*LARGE[x], "tic-grpo")}
    ratio = select(rows, kind="ratio", run="seq_grpo")
    known = set(select(rows, kind="spread").window)
    means = select(rows, kind="mean")
    return runs <= set(means.run) and len(ratio) > 0 and known >= set(QUARTERS) <= set(means.window)


def authors_logs(rows: pd.DataFrame) -> Figure:
    """Gaps of the 1.7B and 8B runs against both kinds of noise; the logged ratio; the response length."""
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(TEXT_WIDTH, 7.4), layout="constrained")
        axes = figure.subplots(2, 2)
        _small_runs(axes[0, 0], rows)
        _large_runs(axes[0, 1], rows)
        _density(axes[1, 0], rows)
        _lengths(axes[1, 1], rows)
        figure.suptitle(
            "One seed each: some gaps exceed the noise that can be seen, but other things were not equal,\n"
            "and what was logged as the trajectory ratio behaves like numerical noise",
            fontsize=9,
        )
        figure.supxlabel(CAPTION, fontsize=7)
    return figure


def _noise_band(ax: Axes, rows: pd.DataFrame) -> None:
    known = select(rows, kind="spread").set_index("window").run_limit
    for i, quarter in enumerate(QUARTERS):
        ax.fill_between(
            [i + 0.55, i + 1.45],
            -known[quarter],
            known[quarter],
            color="0.85",
            linewidth=0,
            label="near-identical runs" if i == 0 else None,
        )
    ax.axhline(0, color="0.4", linewidth=0.8)
    _quarters(ax)


def _quarters(ax: Axes) -> None:
    ax.set_xticks([1, 2, 3, 4], ["1st", "2nd", "3rd", "4th"])
    ax.set_xlabel("quarter of the training steps")
    ax.grid(axis="x", visible=False)


def _gaps(ax: Axes, data: pd.DataFrame, shift: float, look: Mapping[str, Any]) -> None:
    at = np.array([QUARTERS.index(window) + 1 for window in data.window]) + shift
    ax.errorbar(at, data.value, yerr=data.step_limit, capsize=1.5, elinewidth=0.7, **look)


def _small_runs(ax: Axes, rows: pd.DataFrame) -> None:
    _noise_band(ax, rows)
    looks = line_of(["", *SMALL])
    for i, (run, label) in enumerate(SMALL.items()):
        _gaps(ax, gap(rows, run, BASELINE), 0.14 * (i - 2), {**looks[run], "label": label})
    ax.set_ylabel("reward less that of DAPO* [1]")
    ax.set_title("1.7B: without a ratio a run ends at the baseline;\nwith trajectory ratios, beyond the grey")
    _below(ax, 1)


def _below(ax: Axes, columns: int) -> None:
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=columns,
        fontsize=7,
        handlelength=3,
        columnspacing=1,
    )


def _large_runs(ax: Axes, rows: pd.DataFrame) -> None:
    _noise_band(ax, rows)
    shift = -0.27
    for family, opponents in LARGE.items():
        for i, (name, label) in enumerate(opponents.items()):
            data = gap(rows, f"{family}/tic-grpo", f"{family}/{name}")
            math = family == "math8b_compare"
            look = {
                "color": OKABE_ITO[1 + i],
                "linestyle": "-" if math else "--",
                "marker": MARKERS[i],
                "markerfacecolor": OKABE_ITO[1 + i] if math else "white",
                "label": f"{TASKS[family]}: {label}",
            }
            _gaps(ax, data, shift, look)
            shift += 0.09
    faster = gap(rows, "math8b_compare/tic-grpo", FASTER)
    look = {"color": OKABE_ITO[0], "linestyle": ":", "marker": "x", "label": "math: GSPO, 3 times the rate"}
    _gaps(ax, faster, shift, look)
    ax.set_ylabel("TIC-GRPO: reward less that of ... [1]")
    ax.set_title("8B: ahead in math; not of DAPO in instructions,\nnor of GSPO at 3 times the learning rate")
    _below(ax, 2)


def _density(ax: Axes, rows: pd.DataFrame) -> None:
    """Normal densities with the logged mean and sd, and with what a ratio of two policies would have."""
    found = select(rows, kind="ratio").set_index("metric").value
    x = np.linspace(-3.6, 3.1, 800)
    curves = {
        "as logged": (found["mean"], found["sd"], OKABE_ITO[1], "-"),
        "ratio of two policies, same sd": (found["mean_if_ratio"], found["sd"], OKABE_ITO[2], "--"),
        "ratio of two policies, logged KL": (
            -(found["sd_if_ratio"] ** 2) / 2,
            found["sd_if_ratio"],
            OKABE_ITO[0],
            "-.",
        ),
    }
    ax.axvspan(np.log(0.8), np.log(1.28), color="0.85", linewidth=0, label="kept by a clip at 0.8 and 1.28")
    for label, (mean, sd, color, dashes) in curves.items():
        density = stats.norm.pdf(x, mean, sd)
        ax.plot(
            x,
            density / density.max(),
            color=color,
            linestyle=dashes,
            label=f"{label}: {mean:.3f}, {sd:.2f}",
        )
    ax.set_ylim(0, 1.12)
    ax.set_yticks([])
    ax.set_xlabel(r"$\log w'$ of a response [nat]")
    ax.set_ylabel("density / its maximum (normal)")
    ax.set_title(
        f"seq_grpo: centred, so no ratio of two policies;\nthe logged KL explains {found['explained']:.1%} "
        f"of the variance"
    )
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        fontsize=7,
        title="mean and sd of log w'",
        title_fontsize=7,
    )


def _lengths(ax: Axes, rows: pd.DataFrame) -> None:
    data = select(rows, kind="mean", metric="length")
    looks = line_of(["", *SMALL])
    for run in ("only_old_policy", "seq_grpo", "seq_clip"):
        part = select(data, run=run)
        part = _in_order(part, "window")
        look: dict[str, Any] = looks[run]
        ax.plot(range(1, len(part) + 1), part.value, label=SMALL[run], **look)
    ax.set_ylim(0)
    ax.set_ylabel("mean response length [tokens]")
    last = select(data, window="4/4").set_index("run").value
    times = last["seq_clip"] / last["seq_grpo"]
    ax.set_title(f"1.7B: not all else equal: seq_clip ends\nwith {times:.1f} times the length of seq_grpo")
    _quarters(ax)
    _below(ax, 1)


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
                part = _in_order(part, "first_step")
                ax.plot((part.first_step + part.last_step) / 2, part.value, label=run, **looks[run])
            ax.set_ylabel(METRICS[metric].label)
            ax.set_xlabel("step [1]")
        drawn = f" ({len(shown)} drawn)" if len(shown) < len(runs) else ""
        figure.suptitle(
            f"{len(runs)} runs{drawn}: {len(late)} of {len(beyond)} paired differences of the reward, "
            f"window by window,\nlie beyond the noise that could be estimated",
            fontsize=9,
        )
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(shown)))
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
            for i, name in enumerate(names):
                reward = named[name].metric("reward")
                steps = np.arange(1, named[name].last("reward") + 1)
                every = reward.reindex(steps)
                mean = every.rolling(AVERAGED, center=True, min_periods=AVERAGED // 2).mean()
                ax.plot(steps, every, color=OKABE_ITO[i], linewidth=0.5, alpha=0.35)
                label = name.rpartition("/")[2]
                ax.plot(steps, mean, color=OKABE_ITO[i], linestyle=DASHES[i], label=label)
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
