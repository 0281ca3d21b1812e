"""Shapes and types are checked in the first calls that each test makes of a function, not in all its loops.

The hook of `--jaxtyping-packages` checks every call of every function, which takes as long as all that these
functions compute: the search for a fixed point makes the same call a thousand times. A signature that does
not hold shows in the first ones. With CHECK_EVERY_CALL=1 in the environment every call is checked.
"""

import functools
import inspect
import math
import os
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
from jaxtyping import _decorator

CHECKED = math.inf if os.environ.get("CHECK_EVERY_CALL") else 40
"""Calls of one function that are checked in one test."""

test = [0]
"""Number of the test that runs, to which every count belongs."""


def begin_test() -> None:
    """Every function is checked again."""
    test[0] += 1


def in_first_calls(function: Callable, checked: Callable, calls: float = CHECKED) -> Callable:
    """`checked` in the first `calls` calls within a test, `function` in those that follow."""
    number = test
    counted, left = number[0], calls

    def called(*args, **kwargs):
        nonlocal counted, left
        if counted != number[0]:
            counted, left = number[0], calls
        if left <= 0:
            return function(*args, **kwargs)
        left -= 1
        return checked(*args, **kwargs)

    # With the file and the globals of the wrapper that it stands for: by these the package knows what the
    # hook put around a function of its own, and jaxtyping what it has wrapped.
    code, closure = called.__code__.replace(co_filename=_decorator.__file__), called.__closure__
    twin = FunctionType(code, vars(_decorator), function.__name__, None, closure)
    return functools.wraps(function)(twin)


def check_first_calls() -> None:
    """From here on the hook checks the first calls of each function alone.

    Methods and properties reach it as functions, one by one.
    """
    every_call = _decorator.jaxtyped

    def jaxtyped(fn: Any = _decorator._sentinel, **options: Any) -> Any:
        checked = every_call(fn, **options)
        return in_first_calls(fn, checked) if inspect.isfunction(fn) else checked

    _decorator.jaxtyped = jaxtyping.jaxtyped = jaxtyped
