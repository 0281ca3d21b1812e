"""Claim: leaving importance sampling out costs nothing, and TIC-GRPO is ahead; on a small language model.

    make llm-demo                                  # under six minutes on two CPU cores, nothing is downloaded
    python experiments/llm_demo.py --help

A Qwen3 of 0.3 million parameters first learns to solve some multiplications (`llm.pretrain`). From that start
each estimator trains it further (`llm.train` with llm/configs/demo_cpu.yaml, K = 4 updates on every rollout),
with the same seeds, prompts and learning rate. After every few rollouts it responds to held-out problems,
all distinct and as many of each level, with one sampled response each.

    accuracy, low, high    share of the problems solved and its 95 % interval over problems
    share_worked           responses that work the problem out, as they were taught to
    accuracy_worked        share of those that is right
    gain, gain_half        accuracy minus that of the start, problem by problem, with an interval
    difference             accuracy minus that of the first estimator with the same seed, likewise
    log_ratio_sd           drift: sd of log w' at the last update of the rollout before
    clipped_positive, clipped_negative    share of the tokens with A > 0, A < 0 whose gradient the clip drops
    effective_sample_size  (sum w')^2 / (n sum w'^2)

The intervals of gains and differences are so wide that those of all estimators and seeds hold together at
95 % (Bonferroni). They are over problems, for these seeds: a ranking of estimators would need many seeds.
What is said below the table holds in every seed, or is not said.

Killed and started again it goes on where it was. Writes results/llm_demo.parquet, results/llm_demo.json and
figures/llm_demo.png; weights, logs and checkpoints go to `--runs`.

Paper: arXiv:2508.02833 v2, Sec. 6, Figures 1 and 2, there with Qwen3-1.7B-Base.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn
from rich.table import Table

from llm.evaluation.pass_at_k import average
from llm.training import metrics_file, pretrain
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.experiment.terminal import Terminal
from ticgrpo_theory.plots import llm as plots_llm
from ticgrpo_theory.stats.intervals import interval

MEASURES = ("log_ratio_sd", "clipped_positive", "clipped_negative", "effective_sample_size", "length")
"""Of the last update of a rollout, from metrics.jsonl."""

MAY_BE_MISSING = MEASURES

SAID = {
    "ahead of": "solves more than",
    "behind": "solves fewer than",
    "not told apart from": "not told apart from",
}
"""A sentence for each way in which an estimator can stand to the first."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    estimators: tuple[str, ...] = ("grpo", "stale", "tic_grpo")
    """The first is the one that others are compared with."""
    seeds: tuple[int, ...] = (0, 1)
    """Of sampling; all runs begin with the same weights."""
    rollouts: int = 18
    """N, each used for K = 4 updates."""
    every: int = 6
    """Rollouts between two evaluations."""
    problems: int = 1024
    """Held-out problems of an evaluation."""
    lr: float = 1e-4
    """Learning rate of AdamW."""
    target: float = 0.35
    """Share of held-out problems that the start solves at least."""
    runs: Path = field(default=Path("runs/demo_cpu"), metadata=UNRECORDED)
    """Folder of weights, logs and checkpoints."""
    jobs: int = field(default=2, metadata=UNRECORDED)
    """Runs at a time, one thread each."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "estimators", "seeds")
    experiment.check_names(cfg, estimators=ESTIMATORS)
    for option in ("rollouts", "every", "problems", "jobs"):
        if getattr(cfg, option) < 1:
            raise ValueError(f"{option} = {getattr(cfg, option)}: give at least 1")
    if cfg.rollouts % cfg.every:
        raise ValueError(
            f"rollouts = {cfg.rollouts} is no multiple of every = {cfg.every}: the last evaluation would be "
            f"missing; give for instance --rollouts {cfg.every * (cfg.rollouts // cfg.every + 1)}"
        )
    if not 0 < cfg.target < 1:
        raise ValueError(
            f"target = {cfg.target}: a share between 0 and 1, so that there is something to learn"
        )


def folder_of(cfg: Config, estimator: str, seed: int) -> Path:
    return cfg.runs / f"{estimator}-{seed}"


def command(cfg: Config, estimator: str, seed: int) -> list[str]:
    """The training run, as one would type it."""
    return [
        *(sys.executable, "-m", "llm.train", "--config", "llm/configs/demo_cpu.yaml"),
        *("--model.path", str(cfg.runs / "start"), "--output", str(folder_of(cfg, estimator, seed))),
        *("--estimator.name", estimator, "--seed", str(seed), "--optimizer.lr", str(cfg.lr)),
        *("--outer-steps", str(cfg.rollouts), "--evaluation.every", str(cfg.every)),
        *("--evaluation.problems", str(cfg.problems), "--evaluation.temperature", "1.0"),
    ]


def begin(cfg: Config, console: Console) -> None:
    """The weights that all runs start from."""
    target = cfg.runs / "start"
    if not target.exists():
        model, _ = pretrain.pretrain(pretrain.Plan(target=cfg.target), say=console.print)
        part = target.with_suffix(".part")
        pretrain.save(model, part)
        os.replace(part, target)


def train_one(cfg: Config, estimator: str, seed: int) -> None:
    """A training run in a process of one thread; raises ValueError with the last line of one that failed."""
    folder = folder_of(cfg, estimator, seed)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run(
            command(cfg, estimator, seed), env=environment, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        said = (folder / "output.txt").read_text().strip().splitlines()
        raise ValueError(f"{estimator}, seed {seed}: {said[-1] if said else 'ended without a word'}")


def train_all(cfg: Config, console: Console) -> None:
    """All runs, `jobs` at a time; a finished one only starts.

    Raises ValueError with the last line of a run that failed; the others are finished before.
    """
    runs = [(estimator, seed) for seed in cfg.seeds for estimator in cfg.estimators]
    bars = ("{task.description}", BarColumn(), "{task.fields[said]}", TimeRemainingColumn())
    with ThreadPoolExecutor(cfg.jobs) as pool, Progress(*bars, console=console) as progress:
        tasks = {
            run: progress.add_task(f"{run[0]}, seed {run[1]}", total=cfg.rollouts, said="") for run in runs
        }
        futures = [pool.submit(train_one, cfg, *run) for run in runs]
        while not all(map(Future.done, futures)):
            for run, task in tasks.items():
                lines = metrics_file.read(folder_of(cfg, *run) / "metrics.jsonl")
                if lines:
                    said = f"reward {lines[-1]['rollout_reward']:.2f}"
                    progress.update(task, completed=lines[-1]["rollout"] + 1, said=said)
            time.sleep(0.5)
    for future in futures:
        future.result()


def keys(cfg: Config) -> list[int]:
    return list(cfg.seeds)


def cell(cfg: Config, seed: int) -> list[dict[str, Any]]:
    """One row for each (estimator, number of rollouts) of finished runs with this seed."""
    made, comparisons = [], len(cfg.estimators) * len(cfg.seeds)
    first: dict[int, torch.Tensor] = {}
    for estimator in cfg.estimators:
        folder = folder_of(cfg, estimator, seed)
        metrics = {line["rollout"] + 1: line for line in metrics_file.read(folder / "metrics.jsonl")}
        start = None
        for rollouts in range(0, cfg.rollouts + 1, cfg.every):
            problems = table(folder, rollouts)
            right = torch.tensor(problems.right.to_numpy(), dtype=torch.float64)
            start = right if start is None else start
            compared = first.setdefault(rollouts, right)
            gain, difference = (interval(right - other, comparisons) for other in (start, compared))
            value, low, high = average([int(x) for x in problems.right], 1)
            made.append(
                {
                    "estimator": estimator,
                    "seed": seed,
                    "rollouts": rollouts,
                    "problems": len(problems),
                    "accuracy": value,
                    "low": low,
                    "high": high,
                    "share_worked": float(problems.worked.mean()),
                    "accuracy_worked": float(problems.right[problems.worked].mean()),
                    "gain": float(gain.mean),
                    "gain_half": float(gain.half),
                    "difference": float(difference.mean),
                    "difference_half": float(difference.half),
                    **{name: metrics.get(rollouts, {}).get(name) for name in MEASURES},
                }
            )
    return made


def table(folder: Path, rollouts: int) -> pd.DataFrame:
    """The problems of one evaluation, in their order; `worked`: longer than an answer alone can be."""
    path = folder / "evaluations" / f"{rollouts:06d}.jsonl"
    if not path.exists():
        raise ValueError(f"{path} is missing: start the demo again, it trains what is not yet there")
    problems = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    # "Answer: ", the number and EOS; the shortest step, such as 2*3=6, and its line break come on top.
    answer_alone = problems.answer.astype(str).str.len() + len("Answer: ") + 1
    return problems.assign(worked=problems.mean_length >= answer_alone + len("2*3=6\n"))


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """The end of every run, and what holds for all seeds."""
    last = made[made.rollouts == cfg.rollouts]
    shown = Table(
        *("estimator", "seed", "accuracy", "gain", f"minus {cfg.estimators[0]}", "worked: right"),
        *("sd of log w'", "clipped A > 0, A < 0", "sample size"),
        title=f"after {cfg.rollouts} rollouts, {cfg.problems} held-out problems, 95 % intervals",
    )
    for row in last.itertuples():
        shown.add_row(
            row.estimator,
            str(row.seed),
            f"{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]",
            f"{row.gain:+.3f} +- {row.gain_half:.3f}",
            f"{row.difference:+.3f} +- {row.difference_half:.3f}",
            f"{row.share_worked:.0%}: {row.accuracy_worked:.3f}",
            f"{row.log_ratio_sd:.3f}",
            f"{row.clipped_positive:.1%}, {row.clipped_negative:.1%}",
            f"{row.effective_sample_size:.2f}",
        )
    console.print(shown)
    for sentence in conclusions(cfg, last):
        console.print(sentence)


def conclusions(cfg: Config, last: pd.DataFrame) -> list[str]:
    """A sentence for each estimator, with no more in it than holds in every seed."""
    said = []
    for estimator in cfg.estimators:
        own = last[last.estimator == estimator]
        gained = bool((own.gain > own.gain_half).all())
        sentence = f"{estimator}: " + (
            "better than its start in every seed" if gained else "no gain established"
        )
        if estimator != cfg.estimators[0]:
            verdict = SAID[plots_llm.standing(own)]
            sentence += f"; {verdict} {cfg.estimators[0]} on these problems and seeds"
        said.append(sentence)
    return said


def draw(made: pd.DataFrame) -> Figure:
    return plots_llm.llm_demo(made)


EXPERIMENT = experiment.Experiment(
    name="llm_demo",
    version=2,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="seeds",
    may_be_missing=MAY_BE_MISSING,
    slow=True,
)


def main(cfg: Config) -> None:
    check(cfg)
    console = Terminal()
    experiment.check_writable(cfg.runs, "runs")
    torch.set_num_threads(1)  # two threads are slower at this size, and much slower beside another process
    began = time.perf_counter()
    begin(cfg, console)
    train_all(cfg, console)
    EXPERIMENT.main(cfg)
    console.print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
