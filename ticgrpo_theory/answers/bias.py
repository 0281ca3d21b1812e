"""Distances of an estimator from the current and from the old gradient, after every inner step."""

import math
from typing import Any

from rich.console import Console

from ticgrpo_theory.answers.asked import Question, check_drift
from ticgrpo_theory.answers.gradient import cosine
from ticgrpo_theory.answers.printed import Answer, heading, one_by_one, table
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.exact import expected_return, policy_gradient, reuse_bias
from ticgrpo_theory.exact.clipped import clip_fractions
from ticgrpo_theory.exact.expectation import choose_method
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.graph import MAX_PATHS

Rows = list[dict[str, Any]]


def answer(asked: Question, inner_steps: int, learning_rate: float, steps: str) -> Answer:
    """One entry for each estimator, with a row for each k = 0..K."""
    check_drift(inner_steps, learning_rate)
    found = []
    for name in one_by_one(list(asked.estimators), str):
        estimator = asked.estimators[name]
        reference = asked.reference(estimator)
        given = (asked.mdp, asked.theta_old, estimator, asked.group_size, reference)
        scale, scale_kind = known_scale(*given)
        if steps == "mean":
            method = choose_method(asked.mdp, asked.theta_old, *given[1:])
            rows = along_mean(asked, estimator, inner_steps, learning_rate, scale)
        else:
            method = "every group"
            rows = along_groups(asked, estimator, inner_steps, learning_rate, steps, scale)
        entry = {"estimator": name, "method": method, "scale": scale, "scale_kind": scale_kind}
        found.append({**entry, "rows": rows})
    return {**asked.head(), "steps": steps, "learning_rate": learning_rate, "estimators": found}


def along_mean(asked: Question, estimator: AnyEstimator, K: int, eta: float, scale: float) -> Rows:
    """theta_{k+1} = theta_k + eta E[g_hat]."""
    mdp, old = asked.mdp, asked.theta_old
    gradient_old = policy_gradient(mdp, old)
    path, rows, theta = [], [], old
    for k in range(K + 1):
        path.append(theta)
        mean, gradient = asked.mean(estimator, theta), policy_gradient(mdp, theta)
        rows.append(
            {
                "k": k,
                "drift": float((theta - old).norm()),
                "expected_return": expected_return(mdp, theta),
                "bias_current": float((mean - gradient).norm()),
                "bias_old": float((mean - gradient_old).norm()),
                "bias_current_scaled": float((mean - scale * gradient).norm()),
                "bias_old_scaled": float((mean - scale * gradient_old).norm()),
                "cosine_current": cosine(mean, gradient),
                "cosine_old": cosine(mean, gradient_old),
            }
        )
        theta = theta + eta * mean
    fractions = [None] * len(rows)
    if countable(asked, estimator):
        fractions = clip_fractions(mdp, path, old, estimator, int(asked.group_size))  # type: ignore[arg-type]
    return [{**row, "clip_fraction": share} for row, share in zip(rows, fractions, strict=True)]


def countable(asked: Question, estimator: AnyEstimator) -> bool:
    """Whether the share of clipped tokens can be found: by listing every response."""
    listed = all(prompt.graph.num_paths <= MAX_PATHS for _, prompt in asked.mdp.prompts)
    plain = isinstance(estimator, Estimator) and estimator.penalty is None
    return plain and listed and asked.group_size != math.inf


def along_groups(
    asked: Question, estimator: AnyEstimator, K: int, eta: float, batches: str, scale: float
) -> Rows:
    """theta_{k+1} = theta_k + eta g_hat_k, averaged over all groups."""
    mdp, old = asked.mdp, asked.theta_old
    reuse = reuse_bias(
        mdp,
        old,
        estimator,
        asked.group_size,  # type: ignore[arg-type]
        inner_steps=K,
        learning_rate=eta,
        scale=scale,
        batches=batches,
        theta_ref=asked.reference(estimator),
    )
    gradient_old = scale * policy_gradient(mdp, old)
    return [
        {
            "k": k,
            "expected_return": float(reuse.expected_return[k]),
            "bias_current_scaled": float(reuse.bias[k].norm()),
            "bias_old_scaled": float((reuse.gradient[k] - gradient_old).norm()),
            "mse_scaled": float(reuse.mse[k]),
        }
        for k in range(K + 1)
    ]


HEADINGS = {
    "k": "k",
    "drift": "drift",
    "expected_return": "J",
    "bias_current_scaled": "from c grad J(theta)",
    "bias_old_scaled": "from c grad J(theta_old)",
    "mse_scaled": "mean squared",
    "cosine_current": "cosine",
    "cosine_old": "cosine, old",
    "clip_fraction": "clipped",
}


def show(found: Answer, console: Console) -> None:
    follows = {"mean": "steps follow E g", "reused": "one group for all steps", "disjoint": "a group each"}
    console.print(f"{heading(found)}; eta = {found['learning_rate']:g}, {follows[found['steps']]}")
    for entry in found["estimators"]:
        title = (
            f"{entry['estimator']}: c = {entry['scale']:.5g} ({entry['scale_kind']}), by {entry['method']}"
        )
        columns = {name: text for name, text in HEADINGS.items() if name in entry["rows"][0]}
        console.print(title)
        console.print(table(columns, entry["rows"]))
