"""Claim: the published training logs contradict the text in what was run, and one seed each decides little.

    python experiments/authors_logs.py --data DIR           # tidy tables, for instance of the published logs
    python experiments/authors_logs.py --logs RUN.log ...   # verl's console output of runs of your own

Logs are not part of this project and there is no default path. What --data expects is listed, column by
column, in ticgrpo_theory/training_logs/tables.py; --logs takes the lines `step:N - key:value - ...` that verl
prints, with colours, Ray's prefixes and whatever stands between them, cut off or several runs in one file.

Runs are compared step by step on the prompts that they share. A difference of window means is held against
step noise (block bootstrap of the paired difference) and against the spread between runs that differ in
nothing or next to nothing (--repeats: three runs or more, or one experiment of the tables). With one seed
each a difference beyond both is one of two runs, not of two methods. For runs that log the trajectory ratio
w': mean of log w' against -sd^2/2, the mean of w' against 1, and the share of the variance that the
logged KL accounts for. A number that the paper's text needs stands beside the logged one.

Tables that hold the published runs become results/authors_logs_summary.parquet and .json, aggregates alone,
figures/authors_logs.png from these, and figures/authors_logs_curves.png, which is not for committing. Other
tables and logs become results/own_logs_summary.* and figures/own_logs.png.

Source of the committed summary: github.com/pangleipll/dynamic_sen_clip, commit 3b37d82, which has no licence:
facts are restated, no file of it is kept. Paper: arXiv:2508.02833 v2.
"""

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.experiment import experiment, results_file
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.experiment.terminal import Terminal
from ticgrpo_theory.plots import curves as plots_curves
from ticgrpo_theory.plots import logs as plots_logs
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.training_logs.comparison import BEYOND_BOTH, UNKNOWN_SPREAD, WITHIN_RUNS, WITHIN_STEPS
from ticgrpo_theory.training_logs.console import read_console
from ticgrpo_theory.training_logs.paper import needs, statements
from ticgrpo_theory.training_logs.published import SOURCE
from ticgrpo_theory.training_logs.runs import METRICS, Logs, Run
from ticgrpo_theory.training_logs.summary import MAY_BE_MISSING, summary
from ticgrpo_theory.training_logs.tables import FILES, read_tables

OWN_NAME = "own_logs_summary"
RESULTS_VERSION = 1

NEAR_IDENTICAL = "math8b_gspo_eps"
"""Experiment of the published curves whose five runs differ in a small clip alone."""

ACROSS = (("math8b_compare/tic-grpo", "math8b_gspo_lr/gspo lr=3e-6"),)
"""Compared across experiments: same model, data and first step; another learning rate."""


MARKS = {WITHIN_STEPS: "", WITHIN_RUNS: "~", UNKNOWN_SPREAD: "?", BEYOND_BOTH: "*"}

LIMITS = (
    "one seed each: a gap beyond both kinds of noise is one of two runs, not of two methods",
    "the spread is that of five 8B runs of GSPO, whose clips differ a little and whose prompts come in one "
    "order; that it holds for other sizes and tasks, or for another order, is an assumption",
    "at one learning rate, steps are not equally long: which method is faster at its best rate was not tried",
    "whether log w' is noise can be seen in the first mini-batch after a rollout, where theta = theta_old: "
    "its sd should be that of the others; the log holds means over mini-batches",
    "grpo and dapo in math8b_compare are told apart by the order of files alone, and may be swapped",
)
"""What the published logs cannot tell."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is read, and how it is compared."""

    data: Path | None = field(default=None, metadata=UNRECORDED)
    """Folder of tidy tables."""
    logs: tuple[Path, ...] = field(default=(), metadata=UNRECORDED)
    """Console logs of verl, instead of --data."""
    repeats: tuple[str, ...] = ()
    """Runs that differ in nothing or next to nothing, or one experiment of the tables."""
    rename: tuple[str, ...] = ()
    """NAME=KEY for a metric that your logs call KEY, e.g. log_ratio_sd=actor/log_ratio/std."""
    windows: int = 4
    """Windows that the common steps are cut into."""
    reading_error: float = 0.005
    """Error of the window mean of a curve that was read off a picture."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    if (cfg.data is None) == (not cfg.logs):
        raise ValueError(
            f"data = {cfg.data}, logs = {cfg.logs}: give either --data DIR, a folder of tidy tables, or "
            f"--logs FILE..., console logs of verl; none come with the project"
        )
    if cfg.windows < 1:
        raise ValueError(f"windows = {cfg.windows}; give at least 1")
    if not 0 <= cfg.reading_error < 1:
        raise ValueError(f"reading_error = {cfg.reading_error}; give a reward between 0 and 1, e.g. 0.005")
    renamed(cfg)


def renamed(cfg: Config) -> dict[str, str]:
    """Key of the log -> name of METRICS."""
    pairs = [entry.partition("=") for entry in cfg.rename]
    for (name, equals, key), entry in zip(pairs, cfg.rename, strict=True):
        if not equals or not key or name not in METRICS:
            raise ValueError(f"rename = {entry!r}; give NAME=KEY with a NAME of {', '.join(METRICS)}")
    return {key: name for name, _, key in pairs}


def read(cfg: Config) -> Logs:
    """Every run, and what was left out."""
    check(cfg)
    if cfg.data is not None:
        return read_tables(cfg.data)
    read_in = [read_console(path, renamed(cfg)) for path in cfg.logs]
    runs: list[Run] = []
    for path, logs in zip(cfg.logs, read_in, strict=True):
        alike = sum(path.stem == other.stem for other in cfg.logs) > 1
        runs += [replace(run, name=f"{path.parent.name}/{run.name}") if alike else run for run in logs.runs]
    if len({run.name for run in runs}) < len(runs):
        raise ValueError(
            f"logs = {[str(x) for x in cfg.logs]}: two have one name; give each file a name of its own"
        )
    return Logs(tuple(runs), tuple(sentence for logs in read_in for sentence in logs.left_out))


def repeated(cfg: Config, logs: Logs) -> list[Run]:
    """The near-identical runs: those that are named, or those among the published curves."""
    names = cfg.repeats or ((NEAR_IDENTICAL,) if logs.family(NEAR_IDENTICAL) else ())
    found: list[Run] = []
    for name in names:
        found += logs.family(name) or (logs.run(name),)
    return found


def rows(cfg: Config) -> list[dict[str, Any]]:
    """Aggregates of the logs, see training_logs/summary.py for the kinds. Pure."""
    return rows_of(cfg, read(cfg))[0]


def rows_of(cfg: Config, logs: Logs) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, and what was left out on the way to them."""
    names = {run.name for run in logs.runs}
    found, absent = statements(logs) if cfg.data is not None else ([], [])
    made = summary(
        logs,
        repeats=repeated(cfg, logs),
        pairs=[pair for pair in ACROSS if names.issuperset(pair)],
        statements=found,
        parts=cfg.windows,
        reading_error=cfg.reading_error,
    )
    return made, [*logs.left_out, *absent]


def identity(cfg: Config, published: bool) -> dict[str, Any]:
    """What the rows depend on: options, and the bytes of the files; not where these lie."""
    data = cfg.data
    used = [path for x in FILES for path in sorted(data.glob(x))] if data is not None else cfg.logs
    return {
        "repeats": cfg.repeats,
        "rename": cfg.rename,
        "windows": cfg.windows,
        "reading_error": cfg.reading_error,
        "source": SOURCE if published else "logs of a user",
        "inputs": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in used},
    }


def show(made: pd.DataFrame, left_out: list[str], console: Console) -> None:
    """Spread, differences of the reward, ratio, statements, what was left out."""
    table = Table(
        "window", "steps", "sd between runs", "two runs may differ by", title="near-identical runs: reward"
    )
    for row in select(made, kind="spread").itertuples():
        table.add_row(row.window, str(row.steps), f"{row.value:.4f}", f"{row.run_limit:.4f}")
    if table.row_count:
        console.print(table)
    reward = select(made, kind="difference", metric="reward")
    windows = sorted(set(reward.window))
    table = Table("run - versus", *windows, title="paired differences of the reward")
    for (run, versus), found in reward.groupby(["run", "versus"], sort=False):
        entries = found.set_index("window")
        table.add_row(f"{run} - {versus}", *(entry(entries, window) for window in windows))
    console.print(table)
    console.print("; ".join(f"{mark} {said}" for said, mark in MARKS.items() if mark), markup=False)
    for run, found in select(made, kind="ratio").groupby("run"):
        table = Table("log w' of " + str(run), "value")
        for row in found.itertuples():
            table.add_row(row.metric, f"{row.value:.4g}")
        console.print(table)
    stated = select(made, kind="statement")
    for row in stated.itertuples():
        console.print(
            f"{row.place}: {row.says}. {row.metric}: needs {needs(row.low, row.high)}, "
            f"logged {row.value:.4g} in {row.run}: {row.verdict} ({row.remark})",
            markup=False,
        )
    if len(stated):
        console.print("The published logs cannot tell:", *LIMITS, sep="\n- ", markup=False)
    for sentence in left_out:
        console.print(f"left out: {sentence}", markup=False)


def entry(found: pd.DataFrame, window: str) -> str:
    if window not in found.index:
        return ""
    return f"{found.value[window]:+.4f} {MARKS[found.verdict[window]]}"


def draw(made: pd.DataFrame) -> Figure:
    published = plots_logs.is_published(made)
    return plots_logs.authors_logs(made) if published else plots_curves.own_logs(made)


EXPERIMENT = experiment.Result(
    name="authors_logs_summary", version=RESULTS_VERSION, draw=draw, needs_data=True
)


def main(cfg: Config) -> None:
    check(cfg)
    experiment.check_writable(cfg.results, "results")
    experiment.check_writable(cfg.figures, "figures")
    console = Terminal()
    began = time.perf_counter()
    logs = read(cfg)
    made, left_out = rows_of(cfg, logs)
    published = plots_logs.is_published(pd.DataFrame(made))
    name, picture = (EXPERIMENT.name, "authors_logs") if published else (OWN_NAME, "own_logs")
    kept = {"config": identity(cfg, published), "results_version": RESULTS_VERSION, "folder": cfg.results}
    written = results_file.write(
        name, made, seconds=time.perf_counter() - began, may_be_missing=MAY_BE_MISSING, **kept
    )
    frame = results_file.read(name, **kept)
    show(frame, left_out, console)
    experiment.save(draw(frame), cfg.figures / f"{picture}.png")
    console.print(f"{len(frame):,} rows in {written}, drawn in {cfg.figures / picture}.png")
    if published:
        curves = cfg.figures / "authors_logs_curves.png"
        experiment.save(plots_curves.curves(logs.runs), curves)
        console.print(f"the curves themselves, not for committing: {curves}")


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
