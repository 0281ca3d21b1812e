"""Tidy tables of logged runs: a folder of CSV files and a JSON file, whose columns are listed below.

    verl_logs_*.csv            one row for each (run, step): run, step, and the columns of `runs.METRICS`
    wandb_curves_*.csv         experiment, run_id, run_name_inferred, step, reward_mean
    screenshot_curves_*.csv    run, step, reward_mean: read off a picture
    run_configs.json           {run: {setting: value}}, with the short names of `runs.SETTINGS`
    run_summary.csv            source, run, name_confidence, reward_s25, reward_s50, reward_s100, reward_s140:
                               how sure the name of a curve is, and centred means over 11 steps, for checking

A file that is absent is named in `Logs.left_out`; a column that is absent is refused by name. Empty cells are
numbers that were not logged.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ticgrpo_theory.training_logs.runs import METRICS, Logs, Run

CURVES = ("experiment", "run_id", "run_name_inferred", "step", "reward_mean")
PICTURES = ("run", "step", "reward_mean")
FILES = (
    "verl_logs_*.csv",
    "screenshot_curves_*.csv",
    "wandb_curves_*.csv",
    "run_configs.json",
    "run_summary.csv",
)
CENTRES = (25, 50, 100, 140)
SUMMARY = ("source", "run", "name_confidence", *(f"reward_s{step}" for step in CENTRES))
LOGS = ("run", "step", *(metric.column for metric in METRICS.values()))

ROUNDED = 6e-5
"""Numbers of run_summary.csv have four decimals."""


def read_tables(folder: Path, main_family: str = "1.7b") -> Logs:
    """All runs of a folder of tables; logs and pictures are of `main_family`, curves of their experiment."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is not a folder; give the one that holds verl_logs_*.csv and its companions"
        )
    left_out: list[str] = []
    settings = _settings(folder, left_out)
    runs = []
    for frame in _each(folder, "verl_logs_*.csv", LOGS, left_out):
        columns = {metric.column: name for name, metric in METRICS.items()}
        for name, part in frame.groupby("run", sort=False):
            kept = pd.DataFrame(_by_step(part, str(name)).rename(columns=columns), columns=list(METRICS))
            runs.append(Run(str(name), kept, main_family, settings.get(str(name), {})))
    for frame in _each(folder, "screenshot_curves_*.csv", PICTURES, left_out):
        for name, part in frame.groupby("run", sort=False):
            runs.append(Run(str(name), _reward(part, str(name)), main_family, digitised=True))
    for frame in _each(folder, "wandb_curves_*.csv", CURVES, left_out):
        names = frame.experiment + "/" + frame.run_name_inferred
        for name, part in frame.groupby(names, sort=False):
            runs.append(Run(str(name), _reward(part, str(name)), str(name).partition("/")[0]))
    if not runs:
        raise ValueError(
            f"{folder} holds no run: none of verl_logs_*.csv, screenshot_curves_*.csv, wandb_curves_*.csv; "
            f"for console logs use --logs"
        )
    summary = _each(folder, "run_summary.csv", SUMMARY, left_out)
    if summary:
        runs = [_checked(run, summary[0], left_out) for run in runs]
    return Logs(tuple(runs), tuple(left_out))


def _each(folder: Path, pattern: str, columns: tuple[str, ...], left_out: list[str]) -> list[pd.DataFrame]:
    files = sorted(folder.glob(pattern))
    if not files:
        left_out.append(f"{folder.name} holds no {pattern}")
    return [_table(path, columns) for path in files]


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.read_bytes().strip():
        raise ValueError(f"{path} is empty; its first line names the columns {', '.join(columns)}")
    frame = pd.read_csv(path)
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame))}"
        )
    text = {"run", "experiment", "run_id", "run_name_inferred", "source", "name_confidence"}
    for column in set(columns) - text:
        given = frame[column].to_numpy()
        numbers = np.asarray(pd.to_numeric(frame[column], errors="coerce"), dtype=float)
        (wrong,) = np.nonzero(np.isnan(numbers) & ~pd.isna(given))
        if len(wrong):
            raise ValueError(
                f"{path}: {column} is {given[wrong[0]]!r} in line {wrong[0] + 2}; "
                f"give a number, or nothing where none was logged"
            )
        if column == "step" and np.isnan(numbers).any():
            raise ValueError(f"{path}: a row has no step; give each row the training step that it is of")
        frame[column] = numbers.astype(int) if column == "step" else numbers
    return frame


def _by_step(part: pd.DataFrame, name: str) -> pd.DataFrame:
    twice = part.step[part.step.duplicated()]
    if len(twice):
        raise ValueError(f"{name} has step {twice.iloc[0]} more than once; give each (run, step) one row")
    return part.set_index("step").sort_index()


def _reward(part: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.DataFrame({"reward": _by_step(part, name)["reward_mean"]})


def _settings(folder: Path, left_out: list[str]) -> dict[str, dict[str, Any]]:
    path = folder / "run_configs.json"
    if not path.is_file():
        left_out.append(f"{folder.name} holds no run_configs.json: nothing is known of batches and epochs")
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}); give {{run: {{setting: value}}}}") from error


def _checked(run: Run, summary: pd.DataFrame, left_out: list[str]) -> Run:
    """The run with the certainty of its name; a summary that is not that of its curve is named."""
    family, _, name = run.name.rpartition("/")
    source = f"wandb_csv:{family}" if family else ("screenshot" if run.digitised else "verl_log")
    rows = summary[(summary.source == source) & (summary.run == name)]
    if rows.empty:
        return run
    row = rows.iloc[0]
    reward = run.metric("reward")
    for centre in CENTRES:
        steps = reward[(reward.index >= centre - 5) & (reward.index <= centre + 5)]
        given = row[f"reward_s{centre}"]
        if len(steps) == 11 and pd.notna(given) and abs(steps.mean() - given) > ROUNDED:
            left_out.append(
                f"{run.name}: run_summary.csv has {given} at step {centre}, its curve {steps.mean():.4f}"
            )
    sure = str(row.name_confidence)
    return Run(
        run.name,
        run.frame,
        run.family,
        run.settings,
        run.digitised,
        "" if sure in ("certain", "legend", "legend, digitised") else sure,
    )
