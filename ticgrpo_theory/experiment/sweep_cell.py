"""One cell as it was computed, and how a worker of a sweep computes it.

Every worker imports this file before its first cell: no more than the standard library.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ticgrpo_theory.experiment.source import Source, load


@dataclass(frozen=True)
class Outcome:
    """Rows or an error, never both."""

    key: Any
    """Of the cell, as `Cells` lists it."""
    seconds: float
    rows: list[Mapping[str, Any]] | None = None
    error: dict[str, str] | None = None


def compute(source: Source, key: dict[str, Any], values: dict[str, Any], parent: int | None) -> Outcome:
    """rows(Config(**values)) on one thread; whatever it raises is an outcome, but for an interruption.

    `key` comes back with it: outcomes arrive in the order in which they are ready. A worker whose `parent`
    has died ends: nobody would take what it computes.
    """
    if parent is not None:
        _end_with(parent)
    began = time.perf_counter()
    try:
        loaded = load(source)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # sums keep one order, and the workers do not crowd each other
        # What an experiment prints is not the result of the sweep.
        with contextlib.redirect_stdout(sys.stderr):
            rows = _listed(loaded.rows(loaded.config(**values)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(key, time.perf_counter() - began, error=described(error))
    return Outcome(key, time.perf_counter() - began, rows=rows)


def described(error: BaseException) -> dict[str, str]:
    """Type, message and traceback, as they are kept."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _listed(rows: Any) -> list[Mapping[str, Any]]:
    if not isinstance(rows, Iterable):
        raise TypeError(f"rows(cfg) gave {rows!r} ({type(rows).__name__}), which is no list of rows")
    listed = list(rows)
    for row in listed:
        if not isinstance(row, Mapping):
            raise TypeError(f"rows(cfg) gave {row!r} ({type(row).__name__}); a row is a dict by column")
    return listed


_watched: set[int] = set()


def _end_with(parent: int) -> None:
    """End this process within a second of the death of its parent, from which no signal comes."""
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
