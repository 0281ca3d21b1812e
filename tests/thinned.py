"""Which cases stand for their family in the default run; `make test-all` runs every one."""

from collections.abc import Iterable
from typing import Any

import pytest

more = pytest.mark.more
"""On a test, or on a case: another that is quick stands for it in the default run."""


def one_in(every: int, cases: Iterable[Any]) -> list[Any]:
    """All cases (a tuple is one of several arguments), all but each `every`-th of them marked `more`."""
    return [case if i % every == 0 else marked(case) for i, case in enumerate(cases)]


def only(wanted: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """All cases, all but the wanted ones marked `more`; ValueError where a wanted one is not among them."""
    wanted, cases = list(wanted), list(cases)
    absent = [case for case in wanted if case not in cases]
    if absent:
        raise ValueError(f"{absent[0]!r} is not among the cases; name some of {cases}")
    return [case if case in wanted else marked(case) for case in cases]


def marked(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=more)
