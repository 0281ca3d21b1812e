"""Deliberate mistakes: one edit of one function each, and the check that must fail on it.

The edited text is compiled and its code put in place of the original's, so that every reference to the
function meets the mistake. Text that is no longer there exactly once is an error: mutants follow the code.
Checks are functions that the ordinary tests call. `mutants_of_axes` and its neighbours list the mistakes.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType

import pytest


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in the source of `function`; `check` passes before and fails after."""

    name: str
    function: Callable
    old: str
    new: str
    check: Callable[[], None]


def code_of(mutant: Mutant, function: FunctionType) -> CodeType:
    """The compiled body of the edited function."""
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(mutant.old) != 1:
        raise LookupError(
            f"the mutant {mutant.name!r} edits {mutant.old!r}, which stands {source.count(mutant.old)} times "
            f"in {function.__qualname__}; quote a text that stands there once"
        )
    module = compile(source.replace(mutant.old, mutant.new), f"<mutant: {mutant.name}>", "exec")
    return next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)


def plant(mutant: Mutant, patch: pytest.MonkeyPatch) -> None:
    """Put the mistake in place until the patch is undone."""
    function = inspect.unwrap(getattr(mutant.function, "__func__", mutant.function))
    patch.setattr(function, "__code__", code_of(mutant, function))
