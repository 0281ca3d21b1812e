"""What a terminal can hold: whole numbers in tables, other signs for those that it lacks, and Ctrl-C."""

import codecs
import contextlib
import io
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Column, Table

NUMBER = re.compile(r"[<>~(]*[-+]?(\d[\d,.]*(e[-+]?\d+)?|inf|nan)[%)]*|[-+/=%\N{PLUS-MINUS SIGN}]+|exact")
"""A word of a cell that holds numbers alone."""

WORD = 24
"""Longest word of a text for which a column keeps room; longer ones are folded."""

PLAIN = {"\N{PLUS-MINUS SIGN}": "+-", "\N{MULTIPLICATION SIGN}": "x", "\N{HORIZONTAL ELLIPSIS}": "..."}
"""What is written where the encoding of a stream lacks a sign."""


class Terminal(Console):
    """A console that leaves columns of a table out, by name, before it breaks a number over two lines."""

    def print(self, *objects: Any, **options: Any) -> None:
        left_out = [name for each in objects if isinstance(each, Table) for name in fit(each, self.width)]
        super().print(*objects, **options)
        if left_out:
            super().print(f"left out at {self.width} columns: {', '.join(left_out)}", markup=False)


def fit(table: Table, width: int) -> list[str]:
    """Take the padding away, then columns from the right, until all numbers fit; their headings."""
    left_out: list[str] = []
    if needed(table) > width:
        table.padding = (0, 0)
    while len(table.columns) > 1 and needed(table) > width:
        left_out.insert(0, str(table.columns.pop().header))
    if 1 + sum(natural(column) + border(table) for column in table.columns) > width:
        spare = max(0, width - needed(table))
        for column in table.columns:
            column.overflow, column.width = "fold", min(natural(column), least(column) + spare)
            spare -= column.width - least(column)
    return left_out


def border(table: Table) -> int:
    """Signs beside a column: a line and the padding."""
    _, right, _, left = table.padding
    return 1 + left + right


def needed(table: Table) -> int:
    """Least width at which no number of the table is broken."""
    return 1 + sum(least(column) + border(table) for column in table.columns)


def natural(column: Column) -> int:
    """The width at which nothing of a column is wrapped."""
    lines = [line for text in (column.header, *column.cells) for line in str(text).splitlines()]
    return max(map(len, lines), default=1)


def least(column: Column) -> int:
    """Least width of a column: whole numbers, intervals included, and whole words up to WORD."""
    cells = [str(cell) for cell in column.cells]
    whole = [len(cell) for cell in cells if is_number(cell)]
    texts = (str(column.header), *(cell for cell in cells if not is_number(cell)))
    return max([1, *whole, *(min(len(word), WORD) for text in texts for word in text.split())])


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, an interval, or a sign for none."""
    return all(NUMBER.fullmatch(word) for word in cell.split())


def plain_signs(error: UnicodeError) -> tuple[str, int]:
    """The error handler of `write_plainly`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = (PLAIN.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in lacking(error))
    return "".join(written), error.end


def lacking(error: UnicodeEncodeError) -> Iterable[str]:
    return error.object[error.start : error.end]


codecs.register_error("plain_signs", plain_signs)


def write_plainly() -> None:
    """Let stdout and stderr write signs that their encoding lacks as PLAIN has them, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(io.UnsupportedOperation):
                stream.reconfigure(errors="plain_signs")


_heard: list[bool] = []
"""One entry for each `interrupts_heard` that is on, the innermost last."""


@contextlib.contextmanager
def interrupts_heard() -> Iterator[None]:
    """Remember Ctrl-C, whatever becomes of its KeyboardInterrupt.

    In the middle of a compilation numba drops it, with a traceback, and fails later by another error.
    """

    def interrupt(signal_number: int, frame: Any) -> None:
        _heard[-1] = True
        raise KeyboardInterrupt

    def unraisable(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(dropped)

    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    # In another thread, or where Ctrl-C is ignored, as in the background of a shell, it stays as it is.
    ours = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    _heard.append(False)
    if ours:
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = unraisable
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
            sys.unraisablehook = hook
        _heard.pop()


def by_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, or comes from one that somebody dropped."""
    return isinstance(error, KeyboardInterrupt) or (bool(_heard) and _heard[-1])
