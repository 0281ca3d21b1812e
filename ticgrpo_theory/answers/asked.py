"""What is asked about, from what was typed: a world, estimators with their parameters, a group size."""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.answers.world_files import world_of_file
from ticgrpo_theory.commands.options import Asked, Drift
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, FACTORIES
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import AnyEstimator, check_group_size, resolve
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.policy import logits
from ticgrpo_theory.references import imported
from ticgrpo_theory.sweep.values import is_tuple, read
from ticgrpo_theory.worlds import WORLDS, World, graded
from ticgrpo_theory.yaml_fields import options, refuse_unknown

BOTH_ALGORITHMS = ("grpo", "tic_grpo")


@dataclass(frozen=True, eq=False)
class Question:
    """A world with its start, estimators by what they were called, and G."""

    world: str
    mdp: TokenMDP
    theta_old: Float[Tensor, "S V"]
    estimators: Mapping[str, AnyEstimator]
    group_size: int | float

    def head(self) -> dict[str, Any]:
        """What every answer begins with."""
        mdp = self.mdp
        sizes = {"rows": mdp.num_rows, "vocab_size": mdp.vocab_size, "horizon": mdp.horizon}
        world = {"name": self.world, **sizes, "prompts": len(mdp.prompts)}
        return {"world": world, "group_size": self.group_size}

    def reference(self, estimator: AnyEstimator) -> Tensor | None:
        """theta_old, for an estimator whose penalty compares with a reference policy."""
        penalised = isinstance(estimator, Estimator) and estimator.penalty is not None
        return self.theta_old if penalised else None

    def mean(self, estimator: AnyEstimator, theta: Tensor, method: str = "auto") -> Float[Tensor, "S V"]:
        """E[g_hat] at theta."""
        G, reference = self.group_size, self.reference(estimator)
        return expected_gradient(self.mdp, theta, self.theta_old, estimator, G, method, reference)  # type: ignore[arg-type]

    def moved(self, estimator: AnyEstimator, drift: Drift) -> Float[Tensor, "S V"]:
        """theta after the inner steps: theta += eta E[g_hat], from theta_old."""
        check_drift(drift.inner_steps, drift.learning_rate)
        theta = self.theta_old
        for _ in range(drift.inner_steps):
            theta = theta + drift.learning_rate * self.mean(estimator, theta)
        return theta


def check_drift(inner_steps: int, learning_rate: float) -> None:
    """Raise ValueError for steps that cannot be taken."""
    if inner_steps < 0:
        raise ValueError(f"inner_steps = {inner_steps}: give 0 or more steps away from theta_old")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate = {learning_rate}: a step size must be > 0 and finite")


def question(asked: Asked, default: Sequence[str] = BOTH_ALGORITHMS) -> Question:
    """Everything looked up and checked; ValueError with the nearest name for one that is not there."""
    mdp, theta_old = world_of(asked.world)
    given = options([word for words in asked.set for word in words], "set")
    names = [name for names in asked.estimator for name in names] or list(default)
    G = math.inf if asked.group_size == "inf" else asked.group_size
    estimators = {called(name, given): estimator_of(name, given) for name in names}
    for estimator in estimators.values():
        check_group_size(G, estimator)
    return Question(asked.world, mdp, theta_old, estimators, G)


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
        found = found()
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


def estimator_of(reference: str, given: Mapping[str, list[Any]]) -> AnyEstimator:
    """The estimator of a name of the catalogue, or of something in Python, with parameters.

    In Python: an Estimator, from_loss(...), an objective(batch) -> scalar, or a function that returns one.
    A function of one argument without a default is an objective; its other arguments are parameters.
    """
    if ":" not in reference:
        # An unknown name is answered by the catalogue, with the nearest ones.
        ESTIMATORS[reference]
        found: Any = next(factory for factory in FACTORIES if factory.__name__ == reference)
    else:
        found = imported(reference, "estimator")
    if not callable(found) or (hasattr(found, "token_weights") and not isinstance(found, type)):
        if given:
            raise ValueError(
                f"--set {next(iter(given))}: {reference} is an estimator that takes no parameters; name a "
                f"function that returns one"
            )
        return resolve(cast(Any, found))
    taken = inspect.signature(found).parameters
    left_open = [p.name for p in taken.values() if is_open(p) and p.name not in given]
    settable = [name for name in taken if name not in left_open]
    if given and not settable:
        raise ValueError(f"--set {next(iter(given))}: {reference} takes no parameters")
    refuse_unknown(given, settable, "parameter", reference)
    parameters = {name: value_of(found, name, values) for name, values in given.items()}
    if not left_open:
        made: Any = found(**parameters)
        return resolve(made)
    if len(left_open) > 1:
        raise ValueError(
            f"{reference} needs {', '.join(left_open)}: give them with --set, or name an objective(batch), "
            f"whose other arguments have defaults"
        )
    return resolve(with_parameters(found, parameters))


def is_open(parameter: inspect.Parameter) -> bool:
    """Whether a call must give it."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in several


def value_of(function: Callable[..., Any], name: str, values: list[Any]) -> Any:
    """The value of a parameter, of the type that the function says, if it says one."""
    kind = typing.get_type_hints(function).get(name, Any)
    if is_tuple(kind):
        return read(values, kind, f"--set {name}")
    if len(values) > 1:
        raise ValueError(f"--set {name}: takes one value, not {len(values)}")
    return values[0] if kind is Any else read(values[0], kind, f"--set {name}")


def with_parameters(objective: Callable[..., Any], parameters: Mapping[str, Any]) -> Callable[..., Any]:
    """The objective with these arguments, under a name that says them."""
    if not parameters:
        return objective

    @functools.wraps(objective)
    def given(batch: Any) -> Any:
        return objective(batch, **parameters)

    shown = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
    given.__name__ = f"{getattr(objective, '__name__', type(objective).__name__)}({shown})"
    return given
