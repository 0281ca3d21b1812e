"""The noise of an estimator."""

import dataclasses
import math
from typing import Any

from rich.console import Console

from ticgrpo_theory.cli.answers.gradient import downhill_first
from ticgrpo_theory.cli.answers.means import Means
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.output import Answer, heading, one_by_one, placed, print_beside, say_first, within
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.moments.estimator_moments import OBSTACLES, Moments, ratio_second_moment
from ticgrpo_theory.exact.moments.sampled_moments import sampled_moments
from ticgrpo_theory.exact.updates.update import Update


def answer(request: Request, drift: Drift, listing: Listing) -> Answer:
    """One entry for each estimator, at its own theta: the fields of `Moments`."""
    found = [entry(request, name, drift, listing) for name in one_by_one(list(request.estimators), str)]
    return {**request.head(), **placed(drift), "estimators": found}


def entry(request: Request, name: str, drift: Drift, listing: Listing) -> dict[str, Any]:
    at = Means(request, name, listing).moved(drift)
    about = {"estimator": name, "drift": at.drift, "lost_mass": at.lost_mass}
    if listing.method != "sampled" and not at.sums.why_sampled:
        try:
            at.announce(at.parts, OBSTACLES)
            moments = at.moments
            # The multiple c of exact moments may still have needed a sample, which nothing there would say.
            if not at.sums.why_sampled:
                return {**about, **of_listed(at, moments)}
        except NotAffordable as why:
            at.sample_instead(why)
    return {**about, **of_sample(at, drift.inner_steps > 0)}


def of_listed(means: Means, moments: Moments) -> dict[str, Any]:
    """The entry of exact moments."""
    fields = {field.name: getattr(moments, field.name) for field in dataclasses.fields(moments)}
    if math.isnan(moments.signal_to_noise):
        fields["signal_to_noise"] = None
    # c has the sign of <E g, grad J> at theta_old, whichever way it is known.
    sign = None if moments.scale_kind == "none" else math.copysign(1.0, moments.scale)
    first = [] if sign is None or sign > 0 else downhill_first(means)
    notes = [*means.what_was_said(), *means.what_is_lost(), *means.what_is_weighed()]
    if means.rests_on(moments.assumed):
        notes.append(f"{means.name}: by {moments.method}, {means.rests_on(moments.assumed)}")
    shared = {"notes": [*first, *notes], "downhill": bool(first)}
    return {**shared, **fields, "mean_norm": float(moments.mean.norm()), "mean_norm_half_width": 0.0}


def of_sample(at: Means, drifted: bool) -> dict[str, Any]:
    """The entry of sampled moments: every number with its half width."""
    found, gradient = sampled_moments(at.parts), at.gradient
    # These groups, or updates, give the mean too.
    drawn = "groups" if at.request.prompts is None else "updates"
    assumed = found.mean.assumed.replace(" groups", f" {drawn}")
    vars(at)["expectation"] = dataclasses.replace(found.mean, assumed=assumed)
    mean, scale = found.mean, at.multiple
    square, norm = float(mean.value.square().sum()), float(gradient.norm())
    mse, mse_half = found.mse(gradient)
    scaled, scaled_half = found.mse(scale.value * gradient)
    # c is sampled too: ||(c - c') grad J|| moves the target, and a root mean square with it.
    moved = scale.half_width * norm
    scaled_half += (2 * math.sqrt(scaled) + moved) * moved
    first = downhill_first(at)
    return {
        "notes": [*first, *at.notes(drifted)],
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
        "ratio_second_moment": sum(q * ratio_second_moment(problem) for q, problem in Update(at.parts).alike),
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
    "ratio_second_moment": "E_old w'^2",
}


def show(found: Answer, console: Console) -> None:
    say_first(found["estimators"], console)
    console.print(heading(found))
    print_beside(console, COLUMNS, [within(entry) for entry in found["estimators"]])
