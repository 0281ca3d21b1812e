"""The figure of the published training logs, from their summary alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ticgrpo_theory.plots.style import HALF, HOLLOW, TEXT_WIDTH, looks_of, select, style

BASELINE = "dapo_baseline"
LOSSES = {
    "dapo_baseline": "dapo",
    "only_old_policy": "no_is",
    "gspo_official": "gspo",
    "tic-grpo": "tic_grpo_released",
}
"""Which estimator a published run trains with, where its name does not say so."""

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
    "by the spread of five all but identical 8B runs of GSPO, carried over to the others quarter by quarter. "
    "*: read off a picture.\n"
    "8B math: GRPO and DAPO may be swapped. What is said would be refuted by log w' centred at -sd$^2$/2,\n"
    "and by gaps of one sign beyond the grey over several seeds at the best learning rate of each method."
)
"""How to read `authors_logs`, and what would have refuted it."""


def looks(runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The look of each published run: that of its loss."""
    losses = {run: LOSSES.get(run.rpartition("/")[2], run.rpartition("/")[2]) for run in runs}
    of = looks_of(losses.values())
    return {run: of[loss] for run, loss in losses.items()}


def gap(rows: pd.DataFrame, run: str, versus: str) -> pd.DataFrame:
    """Reward of `run` minus that of `versus` in each quarter, in whichever order the pair was stored."""
    stored = select(rows, kind="difference", metric="reward")
    there = select(stored, run=run, versus=versus)
    back = select(stored, run=versus, versus=run)
    both = pd.concat([there, back.assign(value=-back.value)])
    return in_order(both, "window")


def in_order(rows: pd.DataFrame, by: str) -> pd.DataFrame:
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
        figure = Figure(figsize=(TEXT_WIDTH, 8.0), layout="constrained")
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
    for i, (run, look) in enumerate(looks(SMALL).items()):
        _gaps(ax, gap(rows, run, BASELINE), 0.14 * (i - 2), {**look, "label": SMALL[run]})
    ax.set_ylabel("reward minus that of DAPO* [1]")
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
        for name, look in looks(opponents).items():
            data = gap(rows, f"{family}/tic-grpo", f"{family}/{name}")
            fill = {} if family == "math8b_compare" else HOLLOW
            _gaps(ax, data, shift, {**look, **fill, "label": f"{TASKS[family]}: {opponents[name]}"})
            shift += 0.09
    faster = gap(rows, "math8b_compare/tic-grpo", FASTER)
    look = {**looks(("gspo",))["gspo"], **HALF, "alpha": 0.6, "label": "math: GSPO, 3 times the rate"}
    _gaps(ax, faster, shift, look)
    ax.set_ylabel("TIC-GRPO: reward minus that of ... [1]")
    ax.set_title("8B: ahead in math; not of DAPO in instructions,\nnor of GSPO at 3 times the learning rate")
    _below(ax, 2)


def _density(ax: Axes, rows: pd.DataFrame) -> None:
    """Normal densities with the logged mean and sd, and with what a ratio of two policies would have."""
    found = select(rows, kind="ratio").set_index("metric").value
    x = np.linspace(-3.6, 3.1, 800)
    curves = {
        "as logged": (found["mean"], found["sd"], looks(("seq_grpo",))["seq_grpo"]["color"], "-"),
        "ratio of two policies, same sd": (found["mean_if_ratio"], found["sd"], "0.0", "--"),
        "ratio of two policies, logged KL": (
            -(found["sd_if_ratio"] ** 2) / 2,
            found["sd_if_ratio"],
            "0.5",
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
    for run, look in looks(("only_old_policy", "seq_grpo", "seq_clip")).items():
        part = select(data, run=run)
        part = in_order(part, "window")
        ax.plot(range(1, len(part) + 1), part.value, label=SMALL[run], **look)
    ax.set_ylim(0)
    ax.set_ylabel("mean response length [tokens]")
    last = select(data, window="4/4").set_index("run").value
    times = last["seq_clip"] / last["seq_grpo"]
    ax.set_title(f"1.7B: not all else equal: seq_clip ends\nwith {times:.1f} times the length of seq_grpo")
    _quarters(ax)
    _below(ax, 1)
