"""Rows about the expected gradient, exact over every group of tiny worlds."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.check import little_worlds, probes
from ticgrpo_theory.check.little_worlds import LittleWorld
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.check.subject import Subject
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.stats.rounding import norm, projection


@dataclass(frozen=True)
class Direction:
    """E[g_hat] beside a target g on one world."""

    world: LittleWorld
    group_size: int
    scale: float
    """c of the best multiple c g."""
    residual: float
    """||E - c g|| / ||E||, the sine of the angle between the two; 1 where E is 0."""
    size: float
    """||E||."""

    @property
    def degrees(self) -> float:
        """The angle to the target."""
        angle = math.degrees(math.asin(min(1.0, self.residual)))
        return angle if self.scale > 0 else 180 - angle

    @property
    def place(self) -> str:
        return f"{self.world.name}, G = {self.group_size}"


def direction(E: Tensor, g: Tensor, world: LittleWorld, G: int) -> Direction:
    """E[g_hat] [S, V] beside g [S, V]."""
    size, c = norm(E), projection(E, g)
    return Direction(world, G, c, norm(E - c * g) / size if size > 0 else 1.0, size)


@dataclass(eq=False)
class Expectations:
    """E[g_hat] of one subject, each found once; a world on which it raises keeps its error."""

    subject: Subject
    known: dict[Any, Tensor | ValueError] = field(default_factory=dict)

    @cached_property
    def silent(self) -> bool:
        """Whether the value has no graph to the log-probabilities of the usual rows: its gradient is 0."""
        apart = self.subject.on_rows.apart()
        apart(probes.update(self.subject.prompts))
        return not apart.depends

    def sizes(self, world: LittleWorld) -> tuple[int, ...]:
        """Group sizes: 2 and 4 (3 where responses are many), or what can be listed of whole updates."""
        if (self.subject.prompts or 1) > 1:
            return (2,)
        return (2, 3) if world in little_worlds.ANY_LENGTH[1:] else (2, 4)

    def at(
        self,
        world: LittleWorld,
        G: int | float,
        theta: Tensor | None = None,
        old: Tensor | None = None,
        sampler: Tensor | None = None,
    ) -> Float[Tensor, "S V"]:
        """E[g_hat] [S, V]; ValueError, the same each time, where there is none."""
        theta = world.theta if theta is None else theta
        old = world.theta if old is None else old
        key = (
            world.mdp.digest,
            G,
            *(None if x is None else tuple(x.flatten().tolist()) for x in (theta, old, sampler)),
        )
        if key not in self.known:
            try:
                self.known[key] = self.found(world, G, theta, old, sampler)
            except ValueError as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, ValueError):
            raise found
        return found

    def found(
        self, world: LittleWorld, G: int | float, theta: Tensor, old: Tensor, sampler: Tensor | None
    ) -> Tensor:
        """The same, from the exact engine."""
        given = self.subject.estimator
        if self.silent:
            return torch.zeros_like(theta)
        reads = isinstance(given, Objective) or getattr(given, "penalty", None) is not None
        whole = {"scope": "batch", "prompts": self.subject.prompts} if self.subject.of_updates else {}
        return expected_gradient(
            world.mdp, theta, old, given, G, theta_ref=old if reads else None, theta_sampler=sampler, **whole
        )  # type: ignore[call-overload]


def over_worlds(
    expectations: Expectations, worlds: Sequence[LittleWorld], each: Callable[[LittleWorld, int], Direction]
) -> tuple[list[Direction], str]:
    """(what was found, the first error in words) over worlds and group sizes."""
    found, failed = [], ""
    whole = (expectations.subject.prompts or 1) > 1
    for world in worlds:
        if whole and len(world.reward) > FEWEST:
            continue
        for G in expectations.sizes(world):
            try:
                found.append(each(world, G))
            except ValueError as error:
                failed = failed or f"on {world.name}, G = {G}: {error}"
    return found, failed


def on_policy(expectations: Expectations, worlds: Sequence[LittleWorld]) -> tuple[list[Direction], str]:
    """E[g_hat] beside grad J, theta = theta_old."""
    return over_worlds(
        expectations, worlds, lambda world, G: direction(expectations.at(world, G), world.gradient, world, G)
    )


def no_signal(found: Sequence[Direction], largest: float) -> bool:
    """Whether every expectation is 0, up to rounding of weights as large as `largest`."""
    return bool(found) and all(d.size <= 1e-9 * max(largest, 1e-300) for d in found)


def sign(expectations: Expectations, largest: float) -> Row:
    """Every step goes up."""
    worlds = (*little_worlds.ONE_LENGTH, *little_worlds.ANY_LENGTH, *little_worlds.PROMPTS)
    row = Row("sign", "on policy a step goes up: <E[g], grad J> > 0", "grad J(theta)")
    found, failed = on_policy(expectations, worlds)
    down = [d for d in found if not d.scale > 0]
    if no_signal(found, largest):
        return dataclasses.replace(
            row,
            holds=False,
            number=0.0,
            detail="E[g] is 0 on every world: there is no signal",
            witness=f"{found[0].place}: ||E[g]|| = {found[0].size:.2g}, "
            f"||grad J|| = {norm(found[0].world.gradient):.3g}",
            cause="the advantage, or the graph of the log-probabilities, does not reach the loss",
            cure="multiply by the advantage; detach only what is a weight, never all of it",
        )
    if down:
        worst = max(down, key=lambda d: d.degrees)
        every = len(down) == len(found)
        return dataclasses.replace(
            row,
            holds=False,
            number=worst.degrees,
            detail=f"{'every step goes' if every else 'steps go'} down: {worst.degrees:.3g} degrees from "
            f"grad J on {worst.place}",
            witness=f"{worst.place}: <E[g], grad J> = {worst.scale * norm(worst.world.gradient) ** 2:.4g}",
            cause="the sign: a loss is minimised, an objective maximised"
            if every
            else "weights that outweigh, on some worlds, those that point up",
            cure="return the negative" if every else "see the rows below",
        )
    if failed:
        return dataclasses.replace(row, detail=failed)
    return dataclasses.replace(row, holds=True, how="exact", number=max(d.degrees for d in found))


def unbiased(
    name: str,
    where: str,
    expectations: Expectations,
    worlds: Sequence[LittleWorld],
    tolerance: float,
    largest: float,
) -> Row:
    """E[g_hat] = c grad J with one c > 0 for each world and group size."""
    row = Row(name, f"on policy, {where}: E[g] = c grad J, c > 0", "grad J(theta)")
    found, failed = on_policy(expectations, worlds)
    if no_signal(found, largest):
        return dataclasses.replace(row, holds=False, detail="E[g] is 0: there is no signal")
    off = [d for d in found if d.residual > tolerance or not d.scale > 0]
    if off:
        worst = max(off, key=lambda d: d.degrees)
        return dataclasses.replace(
            row,
            holds=False,
            number=worst.degrees,
            detail=f"{worst.degrees:.3g} degrees from grad J on {where} ({worst.place})"
            + at_infinity(expectations, worlds, tolerance),
        )
    if failed:
        return dataclasses.replace(row, detail=failed)
    exact = all(abs(d.scale - 1) <= tolerance for d in found)
    return dataclasses.replace(
        row, holds=True, how="exact" if exact else "in direction", number=max(d.degrees for d in found)
    )


def at_infinity(expectations: Expectations, worlds: Sequence[LittleWorld], tolerance: float) -> str:
    """Whether an estimator's bias is gone at G = infinity, in words; '' where that is not known."""
    if not isinstance(expectations.subject.estimator, Estimator):
        return ""
    try:
        every = [direction(expectations.at(world, math.inf), world.gradient, world, 0) for world in worlds]
    except ValueError:
        return ""
    gone = all(d.residual <= tolerance and d.scale > 0 for d in every)
    return "; it is gone at G = infinity" if gone else "; it stays at G = infinity"


def largest_weight(subject: Subject) -> float:
    """max |c| of the usual rows, on policy."""
    return float(subject.weights(probes.update(subject.prompts)).abs().max())


FEWEST = 3
"""Responses of the worlds whose updates of several groups are listed."""
