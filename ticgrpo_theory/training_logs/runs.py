"""One logged run: its numbers step by step, under one set of names, and the settings that it printed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Metric(NamedTuple):
    """Where a number is found, and what it is."""

    column: str
    """Column of the tidy table verl_logs_*.csv."""
    keys: tuple[str, ...]
    """Keys of verl's console logger; the first that a line has is taken."""
    label: str
    """What it is, with its unit."""


METRICS = {
    "reward": Metric("score_mean", ("critic/score/mean", "critic/rewards/mean"), "mean reward [1]"),
    "validation": Metric("val_reward", (), "reward of held-out problems [1]"),
    "length": Metric("response_length_mean", ("response_length/mean",), "response length [tokens]"),
    "entropy": Metric("entropy", ("actor/entropy", "actor/entropy_loss"), "entropy of a token [nat]"),
    "clip_fraction": Metric("pg_clipfrac", ("actor/pg_clipfrac",), "share of clipped ratios [1]"),
    "dual_clip_fraction": Metric(
        "pg_clipfrac_lower", ("actor/pg_clipfrac_lower",), "share cut by the dual clip, A < 0 [1]"
    ),
    "kl": Metric("ppo_kl", ("actor/ppo_kl",), "KL of theta_old to theta [nat / token]"),
    "gradient_norm": Metric("grad_norm", ("actor/grad_norm",), "norm of the gradient [1]"),
    "ratio_mean": Metric("ratio_mean", (), "mean of w' [1]"),
    "ratio_max": Metric("ratio_max", (), "largest w' [1]"),
    "log_ratio_mean": Metric("logratio_mean", (), "mean of log w' [nat]"),
    "log_ratio_sd": Metric("logratio_std", (), "standard deviation of log w' [nat]"),
    "log_ratio_min": Metric("logratio_min", (), "least log w' [nat]"),
    "log_ratio_max": Metric("logratio_max", (), "largest log w' [nat]"),
    "prompt_length": Metric("prompt_length_mean", ("prompt_length/mean",), "prompt length [tokens]"),
}
"""The numbers with a name here. verl itself logs no trajectory ratio: a run that prints one has keys of its
own, which `rename` of `console.read_console` maps to these names. Validation keys hold the name of a data set
and are found by their beginning."""

SETTINGS = {
    "train_batch_size": "data.train_batch_size",
    "model": "actor_rollout_ref.model.path",
    "ppo_mini_batch_size": "actor_rollout_ref.actor.ppo_mini_batch_size",
    "ppo_epochs": "actor_rollout_ref.actor.ppo_epochs",
    "rollout_n": "actor_rollout_ref.rollout.n",
    "clip_ratio_low": "actor_rollout_ref.actor.clip_ratio_low",
    "clip_ratio_high": "actor_rollout_ref.actor.clip_ratio_high",
    "clip_ratio_c": "actor_rollout_ref.actor.clip_ratio_c",
    "lr": "actor_rollout_ref.actor.optim.lr",
    "policy_loss.loss_mode": "actor_rollout_ref.actor.policy_loss.loss_mode",
    "max_response_length": "data.max_response_length",
}
"""Short name of a setting: its path in the configuration that verl prints."""


@dataclass(frozen=True)
class Run:
    """`frame`: a row for each step (its index), columns named as METRICS, others under their own name."""

    name: str
    frame: pd.DataFrame
    family: str = "logs"
    """Runs of one family share model, data and order of prompts; only these are compared."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Short names of SETTINGS, as far as the run printed them."""
    digitised: bool = False
    """Read off a picture."""
    certainty: str = ""
    """How sure it is that the curve has this name; "" where nobody doubts it."""

    def metric(self, name: str) -> pd.Series:
        """The steps at which this number was logged; none where it never was."""
        if name not in self.frame:
            return pd.Series(dtype=float, name=name)
        return pd.Series(self.frame[name]).dropna()

    def last(self, metric: str) -> int:
        """The last step at which this number was logged; 0 where it never was."""
        return int(np.max(self.metric(metric).index.to_numpy(), initial=0))


def updates_per_rollout(settings: Mapping[str, Any]) -> float:
    """epochs batch / mini_batch: optimiser steps between two refreshes of theta_old."""
    epochs, batch, mini_batch = numbers(settings, "ppo_epochs", "train_batch_size", "ppo_mini_batch_size")
    return epochs * batch / mini_batch


def numbers(settings: Mapping[str, Any], *names: str) -> list[int | float]:
    """These settings; ValueError for those that were not printed, or are no positive number."""
    wrong = [name for name in names if not isinstance(settings.get(name), int | float) or settings[name] <= 0]
    if wrong:
        found = ", ".join(f"{name} = {settings.get(name)!r}" for name in wrong)
        raise ValueError(
            f"{found}; a positive number is needed, as verl prints it or as run_configs.json says"
        )
    return [settings[name] for name in names]


@dataclass(frozen=True)
class Logs:
    """What was read, and what was not."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()
    """One sentence for each thing that was damaged, unknown or absent."""

    def family(self, name: str) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.family == name)

    def run(self, name: str) -> Run:
        for run in self.runs:
            if run.name == name:
                return run
        raise ValueError(f"no run is called {name!r}: there are {', '.join(run.name for run in self.runs)}")
