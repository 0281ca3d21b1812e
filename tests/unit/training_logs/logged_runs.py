"""Generated logs: what verl would print and what tidy tables would hold, with noise of known size."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ticgrpo_theory.training_logs.runs import METRICS, Run

STEPS = 144
RESPONSES = 2048

CONFIG: dict[str, Any] = {
    "actor_rollout_ref": {
        "actor": {
            "clip_ratio_high": 0.28,
            "clip_ratio_low": 0.2,
            "optim": {"lr": 1e-6},
            "ppo_epochs": 1,
            "ppo_mini_batch_size": 32,
        },
        "model": {"path": "a/Model-1.7B", "note": "it's [not] {closed"},
        "rollout": {"n": 16},
    },
    "data": {"train_batch_size": 128, "train_files": ["a.parquet", "b.parquet"]},
}


def step_line(step: int, **values: float) -> str:
    """verl's line of one step; `__` stands for `/`."""
    items = [f"{key.replace('__', '/')}:{value!r}" for key, value in values.items()]
    return " - ".join([f"step:{step}", *items])


def three_steps() -> list[str]:
    return [
        step_line(k, critic__score__mean=k / 8, response_length__mean=100.0 + k, actor__ppo_kl=-k / 1024)
        for k in (1, 2, 3)
    ]


def prompts(seed: int, steps: int = STEPS) -> np.ndarray:
    """Reward that all runs have in common at a step: progress, and how hard its prompts are."""
    rng = np.random.default_rng([seed, 1])
    return 0.1 + 0.1 * np.arange(steps) / steps + 0.02 * rng.standard_normal(steps)


def one_run(seed: int, run: int, *, shift: float = 0.0, wander: float = 0.0, steps: int = STEPS) -> Run:
    """A run of the process `seed`: common prompts, an offset of its own that lasts, noise of steps."""
    rng = np.random.default_rng([seed, 2, run])
    own = wander * rng.standard_normal()
    reward = prompts(seed, steps) + shift + own + 0.006 * rng.standard_normal(steps)
    frame = pd.DataFrame({"reward": reward}, index=pd.RangeIndex(1, steps + 1, name="step"))
    return Run(f"run{run}", frame)


def ratio_frame(drift: float, noise: float, steps: int = STEPS, length: float = 1024.0) -> pd.DataFrame:
    """Statistics of log w' = N(-drift^2/2, drift^2) + N(0, noise^2) over the responses of each step.

    The logged KL is the mean of -log w' per token, as verl has it.
    """
    rng = np.random.default_rng(7)
    log_w = -(drift**2) / 2 + drift * rng.standard_normal((steps, RESPONSES))
    log_w += noise * rng.standard_normal((steps, RESPONSES))
    w = np.exp(log_w)
    return pd.DataFrame(
        {
            "log_ratio_mean": log_w.mean(axis=1),
            "log_ratio_sd": log_w.std(axis=1),
            "log_ratio_min": log_w.min(axis=1),
            "log_ratio_max": log_w.max(axis=1),
            "ratio_mean": w.mean(axis=1),
            "ratio_max": w.max(axis=1),
            "kl": -log_w.mean(axis=1) / length,
            "length": np.full(steps, length),
            "entropy": np.linspace(1.5, 0.1, steps),
        },
        index=pd.RangeIndex(1, steps + 1, name="step"),
    )


def whole(reward: np.ndarray) -> np.ndarray:
    """Rewards as sums of 0/1 over all responses, printed with seven digits as logs print them."""
    return np.round(np.round(reward.clip(0, 1) * RESPONSES) / RESPONSES, 8)


SETTINGS: dict[str, dict[str, Any]] = {
    "only_old_policy": {
        "model": "a/Model-1.7B",
        "train_batch_size": 128,
        "ppo_mini_batch_size": 128,
        "ppo_epochs": 1,
        "rollout_n": 16,
    },
    "seq_grpo": {
        "train_batch_size": 128,
        "ppo_mini_batch_size": 32,
        "ppo_epochs": 1,
        "rollout_n": 16,
        "clip_ratio_low": 0.2,
        "clip_ratio_high": 0.28,
    },
    "seq_clip": {"train_batch_size": 128},
}


def write_tables(
    folder: Path,
    *,
    settings: dict[str, dict[str, Any]] = SETTINGS,
    drift: float = 0.1,
    noise: float = 1.0,
    floor: float = 0.0,
    problems: int = 400,
) -> None:
    """A folder of tidy tables with the names of the published runs and generated numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    shifts = {"only_old_policy": 0.0, "seq_grpo": 0.01, "seq_clip": 0.02}
    for i, (run, shift) in enumerate(shifts.items()):
        frame = pd.DataFrame({name: math.nan for name in METRICS}, index=range(1, STEPS + 1))
        logged = ratio_frame(drift, noise)
        for name in logged if run == "seq_grpo" else ("length", "entropy"):
            frame[name] = logged[name]
        # Growing, so that the first steps fall below 1/16 unless a floor keeps them above.
        raw = one_run(1, i).frame.reward.to_numpy() + shift - 0.06
        frame["reward"] = whole(np.maximum(raw, floor))
        frame["clip_fraction"] = 0.0 if run == "only_old_policy" else 0.2
        frame["dual_clip_fraction"] = 0.07 if run == "seq_clip" else 0.0
        frame["gradient_norm"] = 0.05 + 0.001 * i
        frame["prompt_length"] = 117.0
        every = frame.index % 4 == 0
        frame.loc[every, "validation"] = np.round(0.1 * problems + np.arange(every.sum())) / problems
        frame.insert(0, "run", run)
        frame.insert(1, "step", frame.index)
        frames.append(frame)
    logs = pd.concat(frames).rename(columns={name: metric.column for name, metric in METRICS.items()})
    logs.to_csv(folder / "verl_logs_x.csv", index=False)
    pictures = [
        pd.DataFrame({"run": run, "step": range(1, STEPS + 1), "reward_mean": values.frame.reward})
        for run, values in {
            "dapo_baseline": one_run(1, 10),
            "sen_clip2": one_run(1, 11, shift=0.02),
            "sen_clip2_only_upper": one_run(1, 12, shift=0.1),
        }.items()
    ]
    pd.concat(pictures).to_csv(folder / "screenshot_curves_x.csv", index=False)
    curves = [
        pd.DataFrame(
            {
                "experiment": family,
                "run_id": f"{family}-{name}",
                "run_name_inferred": name,
                "step": range(1, STEPS + 1),
                "reward_mean": one_run(2, 20 + i).frame.reward + 0.05 * (name == "tic-grpo"),
            }
        )
        for family, names in {
            "math8b_compare": ("dapo", "grpo", "gspo", "tic-grpo"),
            "if8b_compare": ("dapo", "grpo", "gspo", "tic-grpo"),
            "math8b_gspo_eps": tuple(f"gspo eps={x}e-4" for x in (1, 3, 4, 5, 6)),
            "math8b_gspo_lr": ("gspo lr=3e-6", "gspo lr=1e-6"),
        }.items()
        for i, name in enumerate(names)
    ]
    pd.concat(curves).to_csv(folder / "wandb_curves_x.csv", index=False)
    (folder / "run_configs.json").write_text(json.dumps(settings))
