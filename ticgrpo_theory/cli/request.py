"""The request, from what was typed: a world, estimators with their parameters, a group size."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.cli.advantage_names import advantage_of
from ticgrpo_theory.cli.options import DRAWING, UPDATES, Drawing, Drift, RequestFields, Updates
from ticgrpo_theory.cli.theta_files import drawn_by, logits_of_file
from ticgrpo_theory.cli.world_files import world_of_file
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import AnyEstimator, check_group_size
from ticgrpo_theory.experiment.estimator_names import estimator_of, is_fed, is_open, reads_reference
from ticgrpo_theory.experiment.imports import called as run
from ticgrpo_theory.experiment.imports import imported, refuse_nameless
from ticgrpo_theory.experiment.yaml_fields import options
from ticgrpo_theory.worlds.catalogue import WORLDS, World, graded
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import logits

BOTH_ALGORITHMS = ("grpo", "tic_grpo")


@dataclass(frozen=True, eq=False)
class Request:
    """A world with its start, estimators by what they were called, and G."""

    world: str
    mdp: TokenMDP
    theta_old: Float[Tensor, "S V"]
    estimators: Mapping[str, AnyEstimator]
    group_size: int | float
    theta_ref: Float[Tensor, "S V"] | None = None
    """The reference policy that was given; None: theta_old."""
    said: Mapping[str, str] = field(default_factory=dict)
    """What an answer has to say of an estimator, by its name."""
    sampler: str = ""
    """How the policy that draws is called; empty for theta_old."""
    theta_sampler: Float[Tensor, "S V"] | None = None
    """Its logits; None for theta_old."""
    prompts: int | str | None = None
    """Groups of an update, or "each" prompt once; None: one group is all."""
    scope: str = "group"
    """What a callable is given: one "group", or the "batch" of a whole update."""

    def head(self) -> dict[str, Any]:
        """What every answer begins with."""
        mdp = self.mdp
        sizes = {"rows": mdp.num_rows, "vocab_size": mdp.vocab_size, "horizon": mdp.horizon}
        world = {"name": self.world, **sizes, "prompts": len(mdp.prompts)}
        drawn = {"sampler": self.sampler} if self.sampler else {}
        whole = {} if self.prompts is None else {"prompts": self.prompts}
        scope = {} if self.scope == "group" else {"scope": self.scope}
        return {"world": world, "group_size": self.group_size, **drawn, **whole, **scope}

    def reference(self, estimator: AnyEstimator) -> Tensor | None:
        """The reference policy, by default theta_old, of an estimator that may read one; None of another."""
        if not reads_reference(estimator):
            return None
        return self.theta_old if self.theta_ref is None else self.theta_ref

    def given_theta(self, drift: Drift) -> Float[Tensor, "S V"] | None:
        """theta of a file; None where steps lead to it. ValueError for steps that cannot be taken."""
        check_drift(drift.inner_steps, drift.learning_rate)
        if drift.theta is None:
            return None
        if drift.inner_steps > 0:
            raise ValueError(
                f"--theta {drift.theta} says where theta is, and --inner-steps {drift.inner_steps} leads to "
                f"another one: give one of them (--inner-steps 0 takes no step)"
            )
        return logits_of_file(drift.theta, self.mdp, "--theta")


def check_drift(inner_steps: int, learning_rate: float) -> None:
    """Raise ValueError for steps that cannot be taken."""
    if inner_steps < 0:
        raise ValueError(f"inner_steps = {inner_steps}: give 0 or more steps away from theta_old")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate = {learning_rate}: a step size must be > 0 and finite")


def request_of(
    request: RequestFields,
    default: Sequence[str] = BOTH_ALGORITHMS,
    drawing: Drawing = DRAWING,
    updates: Updates = UPDATES,
) -> Request:
    """Everything looked up and checked; ValueError with the nearest name for one that is not there."""
    mdp, theta_old = world_of(request.world)
    given = options([word for words in request.set for word in words], "set")
    names = [name for names in request.estimator for name in names] or list(default)
    G = math.inf if request.group_size == "inf" else request.group_size
    advantage = None if request.advantage is None else advantage_of(request.advantage)
    estimators = {called(name, given): estimator_of(name, given, advantage) for name in names}
    for estimator in estimators.values():
        check_group_size(G, estimator)
    said = fed(estimators, [name for name in names if ":" in name], given, request.advantage)
    reference = None
    if request.theta_ref is not None:
        reference = logits_of_file(request.theta_ref, mdp, "--theta-ref")
        if not any(map(reads_reference, estimators.values())):
            raise ValueError(
                f"--theta-ref {request.theta_ref}: none of {', '.join(estimators)} reads a reference policy; "
                f"leave it out, or name an objective(batch) or an estimator with a penalty"
            )
    drawn = drawn_by(drawing, mdp, theta_old)
    prompts = prompts_of(updates.prompts, request.world, len(mdp.prompts))
    check_scope(updates.scope, estimators)
    whole = (prompts, updates.scope)
    return Request(request.world, mdp, theta_old, estimators, G, reference, said, *drawn, *whole)


def prompts_of(written: str | None, world: str, there: int) -> int | str | None:
    """P or "each", as it was written; ValueError for what is neither, and for each of one prompt."""
    if written is None:
        return None
    if written == "each":
        if there == 1:
            raise ValueError(
                f"--prompts each: {world} has one prompt, and an update one group of it, as it has without: "
                f"leave it out, or give a number P of groups"
            )
        return written
    if not (written.isascii() and written.isdigit()) or int(written) < 1:
        raise ValueError(
            f"--prompts {written}: give a whole number P >= 1 of groups, or each for every prompt once"
        )
    return int(written)


def check_scope(scope: str, estimators: Mapping[str, AnyEstimator]) -> None:
    """Raise ValueError for an estimator that is given no batch, but says by its parts what it reads."""
    told = [name for name, estimator in estimators.items() if isinstance(estimator, Estimator)]
    if scope == "batch" and told:
        raise ValueError(
            f"--scope batch: {told[0]} is an Estimator, and its parts say what they read of an update: leave "
            f"it out, or name an objective(batch) or a loss alone"
        )


def fed(
    estimators: Mapping[str, AnyEstimator],
    own: list[str],
    given: Mapping[str, list[Any]],
    written: str | None,
) -> dict[str, str]:
    """Which advantages losses of four arguments are fed; ValueError where --advantage feeds none."""
    losses = {
        name: made
        for name, made in ((called(name, given), estimators[called(name, given)]) for name in own)
        if is_fed(made)
    }
    if written is not None and not losses:
        raise ValueError(
            f"--advantage {written}: none of {', '.join(estimators)} is a loss of (logp, logp_old, "
            f"advantages, mask), which alone is fed one; leave it out"
        )
    why = ", by default; --advantage names another" if written is None else ""
    return {name: f"minimised, with advantages {shown(made.advantage)}{why}" for name, made in losses.items()}


def shown(advantage: Any) -> str:
    return repr(advantage) if isinstance(advantage, Advantage) else f"of {advantage.__name__}"


def called(name: str, given: Mapping[str, list[Any]]) -> str:
    """The name, and what was set."""
    parameters = ", ".join(f"{field}={','.join(map(str, values))}" for field, values in given.items())
    return f"{name}({parameters})" if parameters else name


def world_of(reference: str) -> tuple[TokenMDP, Float[Tensor, "S V"]]:
    """The world and theta_old of a name, of a YAML file, or of something in Python.

    In Python: a TokenMDP, a World, a pair (TokenMDP, theta_old), or a function without parameters that
    returns one of them. A TokenMDP alone starts at `graded`.
    """
    if reference.endswith((".yaml", ".yml")):
        return world_of_file(Path(reference))
    refuse_nameless(reference, "world")
    if ":" not in reference:
        named = WORLDS[reference]
        mdp = named.build()
        return mdp, named.theta_old(mdp)
    found = imported(reference, "world")
    if callable(found) and not isinstance(found, type):
        needed = [p.name for p in inspect.signature(found).parameters.values() if is_open(p)]
        if needed:
            raise ValueError(
                f"world = {reference} needs {', '.join(needed)}; name a function that takes no parameters"
            )
        found = run(found, reference, "world")
    if isinstance(found, World):
        mdp = found.build()
        return mdp, logits(mdp, found.theta_old(mdp), f"{reference}: theta_old")
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], TokenMDP):
        return found[0], logits(found[0], found[1], f"{reference}: theta_old")
    if isinstance(found, TokenMDP):
        return found, graded(found)
    raise ValueError(
        f"world = {reference} is {type(found).__name__}; it must be a TokenMDP, (TokenMDP, theta_old), a "
        f"World, or a function that returns one"
    )
