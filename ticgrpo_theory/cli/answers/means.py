"""E[g_hat] of one estimator at any theta: exactly where that is affordable, else from groups that are drawn.

The library never draws by itself; a command does, and says so. A number that rests on a sample is shown with
the half width of its 99 % interval, which follows from ||mean - E g_hat|| <= h:

    |  ||mean - v|| - ||E g_hat - v||  | <= h,   the angle of mean and E g_hat is at most asin(h / ||mean||).
"""

import dataclasses
import math
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.cli.answers.directions import cosine, pointing
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.exact.answers import Problem
from ticgrpo_theory.exact.expectation import OBSTACLES as OF_MEANS
from ticgrpo_theory.exact.expectation import Obstacles, choose_method_for, expectation_of, sampled_of
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.mean.known_mean import Expectation
from ticgrpo_theory.exact.mean.mean_path import after_steps
from ticgrpo_theory.exact.problem import Parts
from ticgrpo_theory.exact.sampled import why_not
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.update import Update

LONG = 2.0
"""Seconds of listing that are announced before they begin."""


@dataclass(frozen=True)
class Scale:
    """c, the multiple of grad J that is estimated at theta_old, and where E[g_hat] points there."""

    value: float
    kind: str
    half_width: float
    """99 % half width; 0 where nothing is sampled."""
    cosine: float | None
    """Of E[g_hat] and grad J at theta_old."""


@dataclass(eq=False)
class Sums:
    """What one command has summed and will sum, the same at every theta."""

    ahead: int = 1
    """Sums over groups that are to come, for the announcement of their time."""
    why_sampled: str = ""
    """Why no exact method was taken, where a command drew groups by itself."""
    announced: bool = False


class Means(Problem):
    """The problem of one estimator, whose mean is drawn where no exact method is affordable.

    It is made at theta_old; `at` leads to another theta.
    """

    request: Request
    name: str
    given: AnyEstimator
    listing: Listing
    sums: Sums

    def __init__(self, request: Request, name: str, listing: Listing, sums: int = 1) -> None:
        if listing.limit is not None and listing.limit < 1:
            raise ValueError(f"limit = {listing.limit}: give 1 group or more, or leave --limit out")
        given = request.estimators[name]
        super().__init__(
            request.mdp,
            request.theta_old,
            request.theta_old,
            given,
            request.group_size,
            listing.method,
            request.reference(given),
            symmetric=listing.ordered(),
            limit=listing.limit,
            tolerance=listing.tolerance,
            seed=listing.seed,
            theta_sampler=request.theta_sampler,
            prompts=request.prompts,
            scope=request.scope,
        )
        vars(self).update(request=request, name=name, given=given, listing=listing, sums=Sums(sums))

    @cached_property
    def expectation(self) -> Expectation:
        """By the method of the request; under auto from a sample where no exact one is affordable."""
        if not self.sums.why_sampled:
            parts = self.parts
            try:
                self.announce(parts, OF_MEANS)
                return expectation_of(parts)
            except NotAffordable as why:
                self.sample_instead(why)
        return sampled_of(self.parts)

    @cached_property
    def mean(self) -> Float[Tensor, "S V"]:
        """E[g_hat], however wide its interval, which is shown beside it."""
        return self.expectation.value

    def sample_instead(self, why: NotAffordable) -> None:
        """Draw groups from now on; raises `why` where a method was named, or groups cannot be drawn."""
        if self.listing.method != "auto" or any(why_not(problem) for _, problem in self.parts):
            raise why
        self.sums.why_sampled = str(why)

    def announce(self, parts: Parts, obstacles: Obstacles) -> None:
        """Say on stderr how long groups of a black box will be listed, where that is long."""
        method, sums = self.listing.method, self.sums
        if sums.announced or method == "sampled":
            return
        sums.announced = True
        if self.coupled:
            self.announce_updates(parts)
            return
        listed = [
            p for _, p in parts if choose_method_for(p, method, obstacles) == "groups" and not p.groups.known
        ]
        groups = sum(problem.groups.groups for problem in listed)
        seconds = (
            sum(problem.groups.seconds(problem.batch) for problem in listed if groups > FEW) * sums.ahead
        )
        self.say_how_long(f"{groups:,} groups", seconds)

    def announce_updates(self, parts: Parts) -> None:
        """The same of updates that a callable is given whole."""
        update = CoupledUpdate(parts)
        if isinstance(self.given, Estimator) or update.listing_obstacle() or update.every.groups <= FEW:
            return
        seconds = update.every.seconds(update.batch) * self.sums.ahead
        self.say_how_long(f"{update.every.groups:,} updates", seconds)

    def say_how_long(self, listed: str, seconds: float | int) -> None:
        """Say on stderr how long all sums will take, where that is long."""
        if seconds > LONG:
            times = f" for each of {self.sums.ahead} sums" if self.sums.ahead > 1 else ""
            said = f"{self.name}: listing {listed}{times}, about {seconds:,.0f} s in all"
            print(f"{said}; --method sampled takes a sample of them", file=sys.stderr)

    @property
    def coupled(self) -> bool:
        """Whether whole updates are summed, not groups."""
        return Update(self.checked).coupled

    def what_is_weighed(self) -> list[str]:
        """What the mean is weighed by, where that is not the weights of the world."""
        said = Update(self.checked).said
        return [f"{self.name}: {said}"] if said else []

    def rests_on(self, assumed: str) -> str:
        """What a number rests on besides what it is weighed by, which `what_is_weighed` says."""
        return assumed.removeprefix(Update(self.checked).said).removeprefix("; ")

    def moved(self, drift: Drift) -> "Means":
        """At theta of a file, or after the inner steps theta += eta E[g_hat] from theta_old."""
        given = self.request.given_theta(drift)
        self.sums.ahead += drift.inner_steps
        if given is not None:
            self.sums.ahead += 1
            return self.at(given)
        return after_steps(self, drift.learning_rate, drift.inner_steps)

    @cached_property
    def multiple(self) -> Scale:
        """`scale`, with its half width, and the cosine of E[g_hat] and grad J at theta_old."""
        (value, kind), old, half = self.scale, self.old, 0.0
        if kind == "least_squares":
            half = old.expectation.norm_half_width / float(old.gradient.norm())
        if "expectation" in vars(old):
            points = cosine(old, old)
        else:
            # c is known without E[g_hat], which is c grad J.
            seen = kind == "known" and float(old.gradient.norm()) > old.gradient_rounding
            points = pointing(value) if seen else None
        return Scale(value, kind, half, points)

    def notes(self, drifted: bool) -> list[str]:
        """What has to be said of the mean before it is shown."""
        said = [*self.what_was_said(), *self.what_is_lost(), *self.what_is_weighed()]
        found = dataclasses.replace(self.expectation, assumed=self.rests_on(self.expectation.assumed))
        if found.half_width is not None:
            why = because(self.sums.why_sampled)
            said.append(f"{self.name} is SAMPLED: {in_words(found, self.listing)}{why}")
            if drifted:
                said.append(
                    f"{self.name}: theta was reached along sampled means of the same seed, and the intervals "
                    f"are those at this theta"
                )
        elif not self.given.properties.known:
            # Updates of an Estimator are listed as multisets, by what its parts declare.
            order = "" if isinstance(self.given, Estimator) and self.coupled else " in every order"
            what = "updates" if self.coupled else "groups"
            rests_on = found.assumed or (f"{found.groups:,} {what} listed{order}" if found.groups else "")
            said += [f"{self.name}: by {found.method}, {rests_on}"] if rests_on else []
        return said

    def what_was_said(self) -> list[str]:
        """What the request has to say of the estimator."""
        said = self.request.said
        return [f"{self.name}: {said[self.name]}"] if self.name in said else []

    def what_is_lost(self, under: str = "theta") -> list[str]:
        """That responses which theta gives are never drawn, where there are some; `under` names theta."""
        if self.lost_mass == 0:
            return []
        who = self.request.sampler or "theta_old"
        return [f"{self.name}: {never_drawn(who, self.lost_mass, under)}"]


def never_drawn(who: str, mass: float, under: str) -> str:
    """How much of the responses that theta gives is never drawn; `under` names theta."""
    return (
        f"{who} never draws responses that have {mass:.4g} of the probability under {under}; what they would "
        f"add to grad J is missing"
    )


FEW = 2_000
"""Groups whose time need not be estimated."""


def in_words(found: Expectation, listing: Listing) -> str:
    """How good a sampled mean is."""
    norm = float(found.value.norm())
    wanted = 0.02 if listing.tolerance is None else listing.tolerance
    relative = f" ({found.norm_half_width / norm:.1%})" if norm > 0 else ""
    text = f"||E g|| = {norm:.5g} +- {found.norm_half_width:.2g}{relative} at 99 %; "
    text += found.assumed.removeprefix("sampled: ")
    if found.norm_half_width > wanted * norm:
        text += f"; wider than the tolerance of {wanted:.2g}: raise --limit or --tolerance"
    return text


def because(why: str) -> str:
    """Why a command drew groups by itself."""
    return f". No exact method is affordable: {why}" if why else ""


def widths(means: Means) -> dict[str, Any]:
    """99 % half widths of what follows from the mean; 0 where nothing is sampled."""
    found, scale, gradient = means.expectation, means.multiple, means.gradient
    h, norm = found.norm_half_width, float(found.value.norm())
    return {
        "groups": found.groups,
        "assumed": found.assumed,
        "half_width": found.half_width,
        "norm_half_width": h,
        "norm_rounding": found.rounding,
        "bias_rounding": found.rounding + means.gradient_rounding,
        "bias_scaled_rounding": found.rounding + abs(scale.value) * means.gradient_rounding,
        "scale_half_width": scale.half_width,
        "bias_half_width": h,
        "bias_scaled_half_width": h + scale.half_width * float(gradient.norm()),
        "cosine_half_width": cosine_half_width(cosine(means, means), h, norm),
    }


def cosine_half_width(value: float | None, h: float, norm: float) -> float:
    """How far the cosine of E[g_hat] may be from that of a mean of this norm with ||mean - E g_hat|| <= h."""
    if h == 0 or value is None:
        return 0.0
    turn = math.asin(h / norm) if h < norm else math.pi
    angle = math.acos(max(-1.0, min(1.0, value)))
    ends = (math.cos(min(math.pi, angle + turn)), math.cos(max(0.0, angle - turn)))
    return max(abs(end - value) for end in ends)
