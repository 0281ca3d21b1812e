"""E[g_hat] beside grad J."""

from typing import Any

import torch
from rich.console import Console

from ticgrpo_theory.cli.answers.directions import cosine, downhill
from ticgrpo_theory.cli.answers.means import Means, cosine_half_width, widths
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.output import Answer, beside, heading, one_by_one, placed, say_first, table, within
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.objective import expected_return, policy_gradient

SHOWN = 12
"""Most entries of a gradient that a table shows."""


def answer(request: Request, drift: Drift, listing: Listing) -> Answer:
    """One entry for each estimator, at its own theta."""
    found = [entry(request, name, drift, listing) for name in one_by_one(list(request.estimators), str)]
    return {**request.head(), **placed(drift), "estimators": found}


def entry(request: Request, name: str, drift: Drift, listing: Listing) -> dict[str, Any]:
    mdp, old, means = request.mdp, request.theta_old, Means(request, name, request.estimators[name], listing)
    theta = means.moved(drift)
    known, gradient = means.at(theta), policy_gradient(mdp, theta)
    mean, scale = known.value, means.scale
    first = downhill_first(means)
    return {
        "estimator": name,
        "method": known.method,
        "notes": [*first, *means.notes(known, drift.inner_steps > 0)],
        "downhill": bool(first),
        "drift": float((theta - old).norm()),
        "expected_return": expected_return(mdp, theta),
        "norm": float(mean.norm()),
        "policy_gradient_norm": float(gradient.norm()),
        "scale": scale.value,
        "scale_kind": scale.kind,
        "bias": float((mean - gradient).norm()),
        "bias_scaled": float((mean - scale.value * gradient).norm()),
        "cosine": cosine(mean, gradient),
        **widths(known, scale, gradient),
        "gradient": mean,
        "policy_gradient": gradient,
    }


def downhill_first(means: Means) -> list[str]:
    """The line that says that the estimator points downhill at theta_old, or none."""
    points, half = means.scale.cosine, 0.0
    if "at_theta_old" in vars(means):
        old = means.at_theta_old
        half = cosine_half_width(points, old.norm_half_width, float(old.value.norm()))
    said = downhill(means.name, means.estimator, points, half)
    return [said] if said else []


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
    say_first(found["estimators"], console)
    console.print(heading(found))
    console.print(beside(COLUMNS, [within(entry) for entry in found["estimators"]]))
    if torch.as_tensor(found["estimators"][0]["gradient"]).numel() <= SHOWN:
        rows = []
        for entry in found["estimators"]:
            for what, name in (("gradient", "E g"), ("half_width", "E g, +-"), ("policy_gradient", "grad J")):
                if entry[what] is not None:
                    entries = {str(i): x for i, x in enumerate(entry[what].reshape(-1).tolist())}
                    rows.append({"of": f"{entry['estimator']}: {name}", **entries})
        V = found["world"]["vocab_size"]
        heads = {"of": "row, token", **{str(i): f"{i // V},{i % V}" for i in range(len(rows[0]) - 1)}}
        console.print(table(heads, rows))
