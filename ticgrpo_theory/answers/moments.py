"""The noise of an estimator."""

import dataclasses

from rich.console import Console

from ticgrpo_theory.answers.asked import Question
from ticgrpo_theory.answers.printed import Answer, beside, heading, one_by_one
from ticgrpo_theory.commands.options import Drift
from ticgrpo_theory.exact import gradient_moments


def answer(asked: Question, drift: Drift, method: str) -> Answer:
    """One entry for each estimator, at its own theta: the fields of `Moments`."""
    found = []
    for name in one_by_one(list(asked.estimators), str):
        estimator = asked.estimators[name]
        theta = asked.moved(estimator, drift)
        moments = gradient_moments(
            asked.mdp,
            theta,
            asked.theta_old,
            estimator,
            asked.group_size,
            method,  # type: ignore[arg-type]
            asked.reference(estimator),
        )
        fields = {field.name: getattr(moments, field.name) for field in dataclasses.fields(moments)}
        found.append(
            {"estimator": name, "drift": float((theta - asked.theta_old).norm()), **fields}
            | {"mean_norm": float(moments.mean.norm())}
        )
    steps = {"inner_steps": drift.inner_steps, "learning_rate": drift.learning_rate}
    return {**asked.head(), **steps, "estimators": found}


COLUMNS = {
    "estimator": "estimator",
    "method": "method",
    "mean_norm": "||E g||",
    "variance": "variance",
    "mse": "E||g - grad J||^2",
    "scale": "c",
    "mse_scaled": "E||g - c grad J||^2",
    "signal_to_noise": "||E g||^2 / variance",
    "effective_sample_size": "effective sample size",
    "ratio_second_moment": "E w'^2",
}


def show(found: Answer, console: Console) -> None:
    where = f"; theta after {found['inner_steps']} steps of {found['learning_rate']:g}"
    title = heading(found) + (where if found["inner_steps"] else "; theta = theta_old")
    console.print(title)
    console.print(beside(COLUMNS, found["estimators"]))
