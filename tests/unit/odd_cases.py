"""Odd inputs of the library, each with what is said of it: a sentence (a pattern), or the number that it is.

    python -m tests.unit.odd_cases          # one line of JSON for each case: name, what happened, text

Run as a script, without the type checker of the tests: users have none.
"""

import json
import math
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

SECONDS = 20
"""After which a case hangs."""


class Odd(NamedTuple):
    """A call, and the pattern that its ValueError matches, or the number that it, or another call, gives."""

    call: Callable[[], Any]
    expected: str | float | Callable[[], Any]


class Hanging(BaseException):
    """Raised by the alarm; no handler of errors catches it."""


def ring(*_: Any) -> None:
    raise Hanging


def happened(case: Odd) -> tuple[str, str]:
    """("value", number), or the class of the exception and its text."""
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        found = case.call()
        return "value", repr(summed(found))
    except Hanging:
        return "hang", f"longer than {SECONDS} s"
    except BaseException as error:
        return type(error).__name__, str(error)
    finally:
        signal.alarm(0)


def summed(found: Any) -> float:
    """One number for whatever comes back: the sum of a table; NaN for what is no number."""
    try:
        return float(found.sum() if hasattr(found, "sum") else found)
    except (TypeError, ValueError):
        return math.nan


def report(cases: Mapping[str, Odd]) -> None:
    for name, case in cases.items():
        print(json.dumps([name, *happened(case)]), flush=True)


if __name__ == "__main__":
    from tests.unit.odd_problems import PROBLEMS
    from tests.unit.odd_runs import RUNS
    from tests.unit.odd_worlds import WORLDS

    chosen = {
        name: case
        for name, case in {**WORLDS, **PROBLEMS, **RUNS}.items()
        if not sys.argv[1:] or name in sys.argv
    }
    report(chosen)
