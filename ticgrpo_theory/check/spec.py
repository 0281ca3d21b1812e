"""What a SPEC of the command line names: file.py:name, module:name, a catalogue name, ENGINE:NAME."""

import ast
import importlib.metadata
from typing import Any

from ticgrpo_theory.check.subject import parameters_of
from ticgrpo_theory.estimators.catalogue.lines import ESTIMATORS
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.experiment.imports import called, imported, refuse_nameless

ENGINES = ("trl", "verl", "openrlhf", "polgrad")
"""Trainers and tools whose losses are reached through an adapter."""

GROUP = "ticgrpo_theory.losses"
"""Entry-point group of adapters: an entry `trl` is a function of what follows `trl:` that returns a loss."""


def named(spec: str) -> Any:
    """The loss, objective or estimator that a SPEC names; a function without open arguments is called.

    Raises ValueError where there is none, with the extra to install for an engine that is not there.
    """
    engine, colon, rest = spec.partition(":")
    if colon and engine in ENGINES:
        return from_engine(engine, rest)
    refuse_nameless(spec, "loss")
    if not colon:
        return ESTIMATORS[spec]
    found = imported(spec, "loss")
    if isinstance(found, Estimator | Objective | from_loss) or not callable(found):
        return found
    if isinstance(found, type):
        return called(found, spec, "loss")
    taken = parameters_of(found)
    if all(p.default is not p.empty for p in taken.values()):
        return called(found, spec, "loss")
    return found


def from_engine(engine: str, rest: str) -> Any:
    """The loss of an engine by its adapter. Raises ValueError where no adapter is registered."""
    for entry in importlib.metadata.entry_points(group=GROUP, name=engine):
        return entry.load()(rest)
    raise ValueError(
        f"{engine}:{rest}: no adapter for {engine} is registered under the entry points {GROUP}; install the "
        f"package with the extra [{engine}] where it has one, or name a function: module:name or file.py:name"
    )


def arguments(given: tuple[str, ...]) -> dict[str, Any]:
    """{NAME: value} of NAME=VALUE, each a Python literal, or else a string.

    Raises ValueError for what is no NAME=VALUE, and for a name given twice.
    """
    found: dict[str, Any] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--arg {one}: write --arg NAME=VALUE")
        if name in found:
            raise ValueError(f"--arg {name} is given twice: give it once")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found
