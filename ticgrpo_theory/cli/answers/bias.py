"""Distances of an estimator from the current and from the old gradient, after every inner step."""

import math
from itertools import islice
from typing import Any

from rich.console import Console

from ticgrpo_theory.cli.answers.directions import cosine
from ticgrpo_theory.cli.answers.gradient import downhill_first
from ticgrpo_theory.cli.answers.means import Means, cosine_half_width
from ticgrpo_theory.cli.options import Listing
from ticgrpo_theory.cli.output import Answer, heading, number, one_by_one, say_first, table, within
from ticgrpo_theory.cli.request import Request, check_drift
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.mean.mean_path import check_steps, distances, mean_path
from ticgrpo_theory.exact.objective import expected_return
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias
from ticgrpo_theory.worlds.graph import MAX_PATHS

Rows = list[dict[str, Any]]


def answer(request: Request, inner_steps: int, learning_rate: float, steps: str, listing: Listing) -> Answer:
    """One entry for each estimator, with a row for each k = 0..K."""
    check_drift(inner_steps, learning_rate)
    if steps != "mean" and (request.prompts is not None or request.scope != "group"):
        raise ValueError(
            f"--steps {steps} follows groups of one prompt: leave --prompts and --scope out, or take "
            f"--steps mean"
        )
    if steps != "mean" and listing.method not in ("auto", "groups"):
        raise ValueError(
            f"--method {listing.method} with --steps {steps}: its mean is over every group; leave --method "
            f"out, or take --steps mean"
        )
    found = []
    for name in one_by_one(list(request.estimators), str):
        means = Means(request, name, listing, sums=inner_steps + 1)
        if steps == "mean":
            rows = along_mean(means, inner_steps, learning_rate)
            method = means.expectation.method
            notes = means.notes(inner_steps > 0)
        else:
            rows = along_groups(means, inner_steps, learning_rate, steps)
            method = "every group"
            notes = [*means.what_was_said(), *means.what_is_lost("theta_old, where the steps begin")]
        scale, first = means.multiple, downhill_first(means)
        entry = {"estimator": name, "method": method, "scale": scale.value, "scale_kind": scale.kind}
        said = {"notes": [*first, *notes], "downhill": bool(first), "scale_half_width": scale.half_width}
        found.append({**entry, **said, "rows": rows})
    return {**request.head(), "steps": steps, "learning_rate": learning_rate, "estimators": found}


def along_mean(means: Means, K: int, eta: float) -> Rows:
    """theta_{k+1} = theta_k + eta E[g_hat]."""
    check_steps(K)
    path, rows = [], []
    for k, at in enumerate(islice(mean_path(means, eta), K + 1)):
        path.append(at.theta)
        rows.append(row_of(k, at))
    fractions, request = [None] * len(rows), means.request
    if countable(request, means.given):
        fractions = clip_fractions(
            request.mdp,
            path,
            request.theta_old,
            means.given,  # type: ignore[arg-type]
            int(request.group_size),
            theta_sampler=request.theta_sampler,
            prompts=request.prompts,
        )
    return [{**row, "clip_fraction": share} for row, share in zip(rows, fractions, strict=True)]


def row_of(k: int, at: Means) -> dict[str, Any]:
    """What is shown of theta_k."""
    return {
        "k": k,
        "drift": at.drift,
        "lost_mass": at.lost_mass,
        "expected_return": expected_return(at.mdp, at.theta),
        **distances(at),
        "cosine_current": cosine(at, at),
        "cosine_old": cosine(at, at.old),
        **half_widths(at),
        **roundings(at),
    }


def half_widths(at: Means) -> dict[str, float]:
    """99 % half widths of the columns of a row; 0 where nothing is sampled."""
    mean, now, old = at.mean, at.gradient, at.old.gradient
    h, scale, norm = at.expectation.norm_half_width, at.multiple.half_width, float(mean.norm())
    return {
        "bias_current_half_width": h,
        "bias_old_half_width": h,
        "bias_current_scaled_half_width": h + scale * float(now.norm()),
        "bias_old_scaled_half_width": h + scale * float(old.norm()),
        "cosine_current_half_width": cosine_half_width(cosine(at, at), h, norm),
        "cosine_old_half_width": cosine_half_width(cosine(at, at.old), h, norm),
    }


def roundings(at: Means) -> dict[str, float]:
    """Bounds on the rounding of the distances of a row."""
    lost, (c, _) = at.expectation.rounding, at.scale
    return {
        f"bias_{where}{scaled}_rounding": lost + factor * of.gradient_rounding
        for where, of in (("current", at), ("old", at.old))
        for scaled, factor in (("", 1.0), ("_scaled", abs(c)))
    }


def countable(request: Request, estimator: AnyEstimator) -> bool:
    """Whether the share of clipped tokens can be found: by listing every response that is drawn."""
    listed = all(prompt.graph.num_paths <= MAX_PATHS for _, prompt in request.mdp.prompts)
    plain = estimator.penalty is None and estimator.properties.known
    return plain and listed and request.group_size != math.inf


def along_groups(means: Means, K: int, eta: float, batches: str) -> Rows:
    """theta_{k+1} = theta_k + eta g_hat_k, averaged over all groups."""
    request, (scale, _) = means.request, means.scale
    reuse = reuse_bias(
        request.mdp,
        request.theta_old,
        means.given,
        request.group_size,  # type: ignore[arg-type]
        inner_steps=K,
        learning_rate=eta,
        scale=scale,
        batches=batches,
        theta_ref=request.reference(means.given),
        symmetric=means.listing.ordered(),
        limit=means.listing.limit,
        theta_sampler=request.theta_sampler,
    )
    gradient_old = scale * means.gradient
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
    "lost_mass": "lost mass",
    "expected_return": "J",
    "bias_current_scaled": "from c grad J(theta)",
    "bias_old_scaled": "from c grad J(theta_old)",
    "mse_scaled": "mean squared",
    "cosine_current": "cosine",
    "cosine_old": "cosine, old",
    "clip_fraction": "clipped",
}


def show(found: Answer, console: Console) -> None:
    say_first(found["estimators"], console)
    follows = {"mean": "steps follow E g", "reused": "one group for all steps", "disjoint": "a group each"}
    console.print(f"{heading(found)}; eta = {found['learning_rate']:g}, {follows[found['steps']]}")
    for entry in found["estimators"]:
        c = number(within(entry)["scale"])
        title = f"{entry['estimator']}: c = {c} ({entry['scale_kind']}), by {entry['method']}"
        columns = {name: text for name, text in HEADINGS.items() if name in entry["rows"][0]}
        if not any(row.get("lost_mass") for row in entry["rows"]):
            columns.pop("lost_mass", None)
        console.print(title)
        console.print(table(columns, [within(row) for row in entry["rows"]]))
