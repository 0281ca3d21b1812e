"""E[g_hat] of one estimator at any theta: exactly where that is affordable, else from groups that are drawn.

The library never draws by itself; a command does, and says so. A number that rests on a sample is shown with
the half width of its 99 % interval, which follows from ||mean - E g_hat|| <= h:

    |  ||mean - v|| - ||E g_hat - v||  | <= h,   the angle of mean and E g_hat is at most asin(h / ||mean||).
"""

import math
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.cli.answers.directions import ZERO, cosine, pointing
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.exact.expectation import OBSTACLES as OF_MEANS
from ticgrpo_theory.exact.expectation import Obstacles, choose_method_for, expectation
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.known_scale import scale_of
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.exact.problem import Asked, Problem, problems
from ticgrpo_theory.exact.sampled import Expectation, mixed, why_not

LONG = 2.0
"""Seconds of listing that are announced before they begin."""

Parts = list[tuple[float, Problem]]


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
class Means:
    """E[g_hat] of one estimator, with the one at theta_old kept."""

    asked: Request
    name: str
    estimator: AnyEstimator
    listing: Listing
    sums: int = 1
    """Sums over groups that are to come, for the announcement of their time."""
    why_sampled: str = ""
    """Why no exact method was taken, where a command drew groups by itself."""
    announced: bool = field(default=False, init=False)

    def parts(self, theta: Tensor) -> Parts:
        """The problem of every prompt, as the options ask for it."""
        asked, how = self.asked, self.listing
        options = Asked(how.ordered(), how.limit, how.tolerance, how.seed, by_name=how.method != "auto")
        reference = asked.reference(self.estimator)
        return problems(
            asked.mdp, theta, asked.theta_old, self.estimator, asked.group_size, reference, options
        )

    def at(self, theta: Float[Tensor, "S V"]) -> Expectation:
        """E[g_hat] at theta."""
        return self.at_theta_old if theta.equal(self.asked.theta_old) else self.found(theta)

    @cached_property
    def at_theta_old(self) -> Expectation:
        return self.found(self.asked.theta_old)

    def found(self, theta: Float[Tensor, "S V"]) -> Expectation:
        """By the method that is asked for; under auto from a sample where no exact one is affordable."""
        parts, method = self.parts(theta), self.listing.method
        if self.why_sampled:
            method = "sampled"
        try:
            self.announce(parts, method, OF_MEANS)
            return mixed([(weight, expectation(problem, method)) for weight, problem in parts])
        except NotAffordable as why:
            self.sample_instead(parts, why)
        return mixed([(weight, expectation(problem, "sampled")) for weight, problem in parts])

    def sample_instead(self, parts: Parts, why: NotAffordable) -> None:
        """Draw groups from now on; raises `why` where a method was named, or groups cannot be drawn."""
        if self.listing.method != "auto" or any(why_not(problem) for _, problem in parts):
            raise why
        self.why_sampled = str(why)

    def announce(self, parts: Parts, method: str, obstacles: Obstacles) -> None:
        """Say on stderr how long groups of a black box will be listed, where that is long."""
        if self.announced or method == "sampled":
            return
        self.announced = True
        listed = [
            p for _, p in parts if choose_method_for(p, method, obstacles) == "groups" and not p.groups.known
        ]
        groups = sum(problem.groups.groups for problem in listed)
        seconds = sum(problem.groups.seconds(problem.batch) for problem in listed if groups > FEW) * self.sums
        if seconds > LONG:
            times = f" for each of {self.sums} sums" if self.sums > 1 else ""
            said = f"{self.name}: listing {groups:,} groups{times}, about {seconds:,.0f} s in all"
            print(f"{said}; --method sampled takes a sample of them", file=sys.stderr)

    def moved(self, drift: Drift) -> Float[Tensor, "S V"]:
        """theta of a file, or after the inner steps theta += eta E[g_hat] from theta_old."""
        given = self.asked.given_theta(drift)
        self.sums += drift.inner_steps
        if given is not None:
            self.sums += 1
            return given
        theta = self.asked.theta_old
        for _ in range(drift.inner_steps):
            theta = theta + drift.learning_rate * self.at(theta).value
        return theta

    @cached_property
    def scale(self) -> Scale:
        """`known_scale`, with E[g_hat] at theta_old as this estimator's are found."""
        asked = self.asked
        value, kind = scale_of(asked.mdp, self.parts(asked.theta_old), lambda: self.at_theta_old.value)
        gradient, half = policy_gradient(asked.mdp, asked.theta_old), 0.0
        if kind == "least_squares":
            half = self.at_theta_old.norm_half_width / float(gradient.norm())
        if "at_theta_old" in vars(self):
            points = cosine(self.at_theta_old.value, gradient)
        else:
            # c is known without E[g_hat], which is c grad J.
            points = pointing(value) if kind == "known" and float(gradient.norm()) > ZERO else None
        return Scale(value, kind, half, points)

    def notes(self, found: Expectation, drifted: bool) -> list[str]:
        """What has to be said of the number before it is shown."""
        asked = self.asked
        said = [f"{self.name}: {asked.said[self.name]}"] if self.name in asked.said else []
        if found.half_width is not None:
            said.append(f"{self.name} is SAMPLED: {in_words(found, self.listing)}{because(self.why_sampled)}")
            if drifted:
                said.append(
                    f"{self.name}: theta was reached along sampled means of the same seed, and the intervals "
                    f"are those at this theta"
                )
        elif not self.estimator.properties.known:
            listed = f"{found.groups:,} groups listed in every order" if found.groups else ""
            said.append(f"{self.name}: by {found.method}, {found.assumed or listed}")
        return said


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


def widths(found: Expectation, scale: Scale, gradient: Tensor) -> dict[str, Any]:
    """99 % half widths of what follows from the mean; 0 where nothing is sampled."""
    h, norm = found.norm_half_width, float(found.value.norm())
    return {
        "groups": found.groups,
        "assumed": found.assumed,
        "half_width": found.half_width,
        "norm_half_width": h,
        "scale_half_width": scale.half_width,
        "bias_half_width": h,
        "bias_scaled_half_width": h + scale.half_width * float(gradient.norm()),
        "cosine_half_width": cosine_half_width(cosine(found.value, gradient), h, norm),
    }


def cosine_half_width(value: float | None, h: float, norm: float) -> float:
    """How far the cosine of E[g_hat] may be from that of a mean of this norm with ||mean - E g_hat|| <= h."""
    if h == 0 or value is None:
        return 0.0
    turn = math.asin(h / norm) if h < norm else math.pi
    angle = math.acos(max(-1.0, min(1.0, value)))
    ends = (math.cos(min(math.pi, angle + turn)), math.cos(max(0.0, angle - turn)))
    return max(abs(end - value) for end in ends)
