"""Estimators by name: of the catalogue, or of something in a user's own Python, with parameters."""

import difflib
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, FACTORIES
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.resolve import AnyEstimator, as_loss, loss_arguments, needed_arguments, resolve
from ticgrpo_theory.experiment.imports import called as run
from ticgrpo_theory.experiment.imports import imported, refuse_nameless
from ticgrpo_theory.experiment.own_files import Files, edited, files_named, said_of
from ticgrpo_theory.experiment.typed_values import is_tuple, read
from ticgrpo_theory.experiment.yaml_fields import refuse_unknown

DEFAULT = standardised()
"""The advantage that a loss of four arguments is fed where none is named."""


def named_estimators(names: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """The estimators of an experiment: entries of `known`, or what file.py:name or module:name is.

    Raises ValueError with the nearest name of `known`, and where something of a user's own is no estimator.
    """
    found = {}
    for name in names:
        if ":" in name or name.endswith(".py"):
            found[name] = own_estimator(name)
        elif name in known:
            found[name] = known[name]
        else:
            near, *_ = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(
                f"unknown entry {name!r} of estimators; the nearest is {near!r} (estimators: "
                f"{', '.join(known)}, or file.py:name of your own)"
            )
    return found


LOADED: dict[tuple[str, Path], tuple[Files, AnyEstimator]] = {}
"""What was imported in this process, with the files that it came from."""


def own_estimator(reference: str) -> AnyEstimator:
    """`estimator_of` without parameters, imported once; imported again where its own file was edited.

    Says on stderr which advantages a loss of four arguments is fed. Raises ValueError as `estimator_of` does,
    and where a module that the file imports was edited meanwhile, which Python does not read again.
    """
    refuse_nameless(reference, "estimators")
    files = files_named(reference)
    before, made = LOADED.get((reference, Path.cwd()), (None, None))
    if made is not None and before == files:
        return made
    beside = [name for name in edited(before, files) if name != str(Path(reference.rpartition(":")[0]))]
    if made is not None and beside:
        raise ValueError(
            f"estimators = {reference}: {said_of(beside)} after it was imported; start Python again"
        )
    made = estimator_of(reference, {}, what="estimators")
    LOADED[reference, Path.cwd()] = files, made
    if is_fed(made):
        print(f"{reference}: {fed(made)}; from_loss(loss, advantage) names another", file=sys.stderr)
    return made


def reads_reference(estimator: AnyEstimator) -> bool:
    """Whether a penalty or an objective(batch) may compare with a reference policy."""
    penalised = estimator.penalty is not None
    return penalised or isinstance(estimator, Objective)


def is_fed(estimator: AnyEstimator) -> TypeGuard[from_loss]:
    """Whether it is a loss of four arguments, whose advantages are not its own."""
    return isinstance(estimator, from_loss) and getattr(estimator.loss, "of_command_line", False)


def fed(estimator: from_loss) -> str:
    """What a loss of four arguments is fed, in words, where nobody has named it."""
    return f"minimised, with advantages {estimator.advantage!r}, by default"


def estimator_of(
    reference: str, given: Mapping[str, list[Any]], advantage: Any = None, what: str = "estimator"
) -> AnyEstimator:
    """The estimator of a name of the catalogue, or of something in Python, with parameters.

    In Python: an Estimator, from_loss(...), an objective(batch) -> scalar, a loss, or a function that returns
    one. A function of one argument without a default is an objective, one of logp, logp_old, advantages and
    mask, by names, a loss that is fed `advantage`; its other arguments are parameters.
    """
    refuse_nameless(reference, what)
    if ":" not in reference:
        # An unknown name is answered by the catalogue, with the nearest ones.
        ESTIMATORS[reference]
        found: Any = next(factory for factory in FACTORIES if factory.__name__ == reference)
    else:
        found = imported(reference, what)
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
        made: Any = run(functools.partial(found, **parameters), reference, what)
        return loss_of(made, advantage) if is_loss(made) else resolve(made)
    if loss_arguments(left_open) is not None:
        return loss_of(with_parameters(found, left_open, parameters), advantage)
    if len(left_open) > 1:
        raise ValueError(
            f"{reference} needs {', '.join(left_open)}: give them with --set, or name an objective(batch), "
            f"or a loss(logp, logp_old, advantages, mask), whose other arguments have defaults"
        )
    return resolve(with_parameters(found, left_open, parameters))


def is_loss(made: Any) -> bool:
    """Whether a function takes the four arguments of a trainer's loss, by their names."""
    plain = callable(made) and not isinstance(made, type) and not hasattr(made, "token_weights")
    return plain and loss_arguments(needed_arguments(made)) is not None


def loss_of(function: Callable[..., Any], advantage: Any) -> from_loss:
    """The loss, fed the advantage that was named, or the default."""
    made = as_loss(function, DEFAULT if advantage is None else advantage)
    made.loss.of_command_line = True  # type: ignore[attr-defined]
    return made


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


def with_parameters(
    function: Callable[..., Any], left_open: list[str], parameters: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function of what is left open, under a name that says its parameters."""
    if not parameters:
        return function
    by_position = (
        inspect.signature(function).parameters[left_open[0]].kind == inspect.Parameter.POSITIONAL_ONLY
    )

    def of_batch(batch: Any) -> Any:
        one = {} if by_position else {left_open[0]: batch}
        return function(*([batch] if by_position else []), **one, **parameters)

    given: Any = of_batch if len(left_open) == 1 else functools.partial(function, **parameters)
    shown = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
    given.__name__ = f"{getattr(function, '__name__', type(function).__name__)}({shown})"
    return given
