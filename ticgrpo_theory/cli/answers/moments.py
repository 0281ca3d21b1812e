"""The noise of an estimator."""

import dataclasses
import math
from typing import Any

from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from ticgrpo_theory.cli.answers.gradient import downhill_first
from ticgrpo_theory.cli.answers.means import Means
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.output import Answer, beside, heading, one_by_one, placed, say_first, within
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.moments.estimator_moments import (
    OBSTACLES,
    Moments,
    gradient_moments,
    ratio_second_moment,
)
from ticgrpo_theory.exact.moments.sampled_moments import sampled_moments
from ticgrpo_theory.exact.objective import policy_gradient


def answer(request: Request, drift: Drift, listing: Listing) -> Answer:
    """One entry for each estimator, at its own theta: the fields of `Moments`."""
    found = [entry(request, name, drift, listing) for name in one_by_one(list(request.estimators), str)]
    return {**request.head(), **placed(drift), "estimators": found}


def entry(request: Request, name: str, drift: Drift, listing: Listing) -> dict[str, Any]:
    means = Means(request, name, request.estimators[name], listing)
    theta = means.moved(drift)
    about = {"estimator": name, "drift": float((theta - request.theta_old).norm())}
    parts = means.parts(theta)
    if listing.method != "sampled" and not means.why_sampled:
        try:
            means.announce(parts, listing.method, OBSTACLES)
            moments = listed(request, means, theta)
            return {**about, **of_listed(means, moments)}
        except NotAffordable as why:
            means.sample_instead(parts, why)
    return {**about, **of_sample(means, theta, drift.inner_steps > 0)}


def listed(request: Request, means: Means, theta: Float[Tensor, "S V"]) -> Moments:
    """The moments by an exact method."""
    how = means.listing
    return gradient_moments(
        request.mdp,
        theta,
        request.theta_old,
        means.estimator,
        request.group_size,
        how.method,
        request.reference(means.estimator),
        symmetric=how.ordered(),
        limit=how.limit,
    )


def of_listed(means: Means, moments: Moments) -> dict[str, Any]:
    """The entry of exact moments."""
    fields = {field.name: getattr(moments, field.name) for field in dataclasses.fields(moments)}
    # c has the sign of <E g, grad J> at theta_old, whichever way it is known.
    sign = None if moments.scale_kind == "none" else math.copysign(1.0, moments.scale)
    first = [] if sign is None or sign > 0 else downhill_first(means)
    said = means.asked.said
    notes = [f"{means.name}: {said[means.name]}"] if means.name in said else []
    if moments.assumed:
        notes.append(f"{means.name}: by {moments.method}, {moments.assumed}")
    shared = {"notes": [*first, *notes], "downhill": bool(first)}
    return {**shared, **fields, "mean_norm": float(moments.mean.norm()), "mean_norm_half_width": 0.0}


def of_sample(means: Means, theta: Float[Tensor, "S V"], drifted: bool) -> dict[str, Any]:
    """The entry of sampled moments: every number with its half width."""
    found, gradient = sampled_moments(means.parts(theta)), policy_gradient(means.asked.mdp, theta)
    if theta.equal(means.asked.theta_old):
        means.at_theta_old = found.mean
    mean, scale = found.mean, means.scale
    square, norm = float(mean.value.square().sum()), float(gradient.norm())
    mse, mse_half = found.mse(gradient)
    scaled, scaled_half = found.mse(scale.value * gradient)
    # c is sampled too: ||(c - c') grad J|| moves the target, and a root mean square with it.
    moved = scale.half_width * norm
    scaled_half += (2 * math.sqrt(scaled) + moved) * moved
    first = downhill_first(means)
    return {
        "notes": [*first, *means.notes(mean, drifted)],
        "downhill": bool(first),
        "mean": mean.value,
        "half_width": mean.half_width,
        "mean_norm": math.sqrt(square),
        "mean_norm_half_width": mean.norm_half_width,
        "second_moment": found.second_moment,
        "second_moment_half_width": found.second_moment_half_width,
        "variance": found.variance,
        "variance_half_width": found.variance_half_width,
        "mse": mse,
        "mse_half_width": mse_half,
        "scale": scale.value,
        "scale_kind": scale.kind,
        "scale_half_width": scale.half_width,
        "mse_scaled": scaled,
        "mse_scaled_half_width": scaled_half,
        "ratio_second_moment": sum(q * ratio_second_moment(problem) for q, problem in means.parts(theta)),
        "effective_sample_size": None,
        "signal_to_noise": square / found.variance if found.variance > 0 else None,
        "method": "sampled",
        "groups": mean.groups,
    }


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
    say_first(found["estimators"], console)
    console.print(heading(found))
    console.print(beside(COLUMNS, [within(entry) for entry in found["estimators"]]))
