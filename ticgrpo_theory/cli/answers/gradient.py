"""E[g_hat] beside grad J."""

from typing import Any

import torch
from rich.console import Console

from ticgrpo_theory.cli.answers.directions import cosine, downhill
from ticgrpo_theory.cli.answers.means import Means, cosine_half_width, widths
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.output import (
    Answer,
    heading,
    one_by_one,
    placed,
    print_beside,
    say_first,
    table,
    within,
)
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.mean.mean_path import distances
from ticgrpo_theory.exact.objective import expected_return

SHOWN = 12
"""Most entries of a gradient that a table shows."""


def answer(request: Request, drift: Drift, listing: Listing) -> Answer:
    """One entry for each estimator, at its own theta."""
    found = [entry(request, name, drift, listing) for name in one_by_one(list(request.estimators), str)]
    return {**request.head(), **placed(drift), "estimators": found}


def entry(request: Request, name: str, drift: Drift, listing: Listing) -> dict[str, Any]:
    at = Means(request, name, listing).moved(drift)
    known, mean, gradient, scale = at.expectation, at.mean, at.gradient, at.multiple
    first, errors = downhill_first(at), distances(at)
    return {
        "estimator": name,
        "method": known.method,
        "notes": [*first, *at.notes(drift.inner_steps > 0)],
        "downhill": bool(first),
        "drift": at.drift,
        "lost_mass": at.lost_mass,
        "expected_return": expected_return(request.mdp, at.theta),
        "norm": float(mean.norm()),
        "policy_gradient_norm": float(gradient.norm()),
        "scale": scale.value,
        "scale_kind": scale.kind,
        "bias": errors["bias_current"],
        "bias_scaled": errors["bias_current_scaled"],
        "cosine": cosine(at, at),
        **widths(at),
        "gradient": mean,
        "policy_gradient": gradient,
    }


def downhill_first(means: Means) -> list[str]:
    """The line that says that the estimator points downhill at theta_old, or none."""
    points, half, old = means.multiple.cosine, 0.0, means.old
    if "expectation" in vars(old):
        half = cosine_half_width(points, old.expectation.norm_half_width, float(old.mean.norm()))
    said = downhill(means.name, means.given, points, half)
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
    print_beside(console, COLUMNS, [within(entry) for entry in found["estimators"]])
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
