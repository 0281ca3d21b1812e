"""E[g_hat] beside grad J."""

import torch
from rich.console import Console
from torch import Tensor

from ticgrpo_theory.answers.asked import Question
from ticgrpo_theory.answers.printed import Answer, beside, heading, one_by_one, table
from ticgrpo_theory.commands.options import Drift
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.exact.expectation import choose_method
from ticgrpo_theory.exact.known_scale import known_scale

ZERO = 1e-12
"""Norm up to which a gradient is zero but for rounding."""

SHOWN = 12
"""Most entries of a gradient that a table shows."""


def answer(asked: Question, drift: Drift, method: str) -> Answer:
    """One entry for each estimator, at its own theta."""
    mdp, old, G = asked.mdp, asked.theta_old, asked.group_size
    found = []
    for name in one_by_one(list(asked.estimators), str):
        estimator = asked.estimators[name]
        reference = asked.reference(estimator)
        theta = asked.moved(estimator, drift)
        mean, gradient = asked.mean(estimator, theta, method), policy_gradient(mdp, theta)
        scale, scale_kind = known_scale(mdp, old, estimator, G, reference)
        used = choose_method(mdp, theta, old, estimator, G, reference) if method == "auto" else method
        found.append(
            {
                "estimator": name,
                "method": used,
                "drift": float((theta - old).norm()),
                "expected_return": expected_return(mdp, theta),
                "norm": float(mean.norm()),
                "policy_gradient_norm": float(gradient.norm()),
                "scale": scale,
                "scale_kind": scale_kind,
                "bias": float((mean - gradient).norm()),
                "bias_scaled": float((mean - scale * gradient).norm()),
                "cosine": cosine(mean, gradient),
                "gradient": mean,
                "policy_gradient": gradient,
            }
        )
    steps = {"inner_steps": drift.inner_steps, "learning_rate": drift.learning_rate}
    return {**asked.head(), **steps, "estimators": found}


def cosine(mean: Tensor, gradient: Tensor) -> float | None:
    """<u, v> / (||u|| ||v||); None for a zero vector, which has no direction."""
    if mean.norm() <= ZERO or gradient.norm() <= ZERO:
        return None
    return float((mean * gradient).sum() / (mean.norm() * gradient.norm()))


COLUMNS = {
    "estimator": "estimator",
    "method": "method",
    "expected_return": "J",
    "norm": "||E g||",
    "policy_gradient_norm": "||grad J||",
    "scale": "c",
    "bias": "||E g - grad J||",
    "bias_scaled": "||E g - c grad J||",
    "cosine": "cosine",
}


def show(found: Answer, console: Console) -> None:
    where = f"; theta after {found['inner_steps']} steps of {found['learning_rate']:g}"
    title = heading(found) + (where if found["inner_steps"] else "; theta = theta_old")
    console.print(title)
    console.print(beside(COLUMNS, found["estimators"]))
    if torch.as_tensor(found["estimators"][0]["gradient"]).numel() <= SHOWN:
        rows = []
        for entry in found["estimators"]:
            for what, name in (("gradient", "E g"), ("policy_gradient", "grad J")):
                entries = {str(i): x for i, x in enumerate(entry[what].reshape(-1).tolist())}
                rows.append({"of": f"{entry['estimator']}: {name}", **entries})
        V = found["world"]["vocab_size"]
        heads = {"of": "row, token", **{str(i): f"{i // V},{i % V}" for i in range(len(rows[0]) - 1)}}
        console.print(table(heads, rows))
