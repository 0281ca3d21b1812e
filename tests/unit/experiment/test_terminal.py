"""terminal.py: no number is broken or cut at any width, what is left out is named, and ASCII is enough."""

import contextlib
import ctypes
import io
import re
import signal
import sys

import pytest
from rich.table import Table

from ticgrpo_theory.experiment.terminal import (
    Terminal,
    by_interrupt,
    fit,
    interrupts_heard,
    is_number,
    least,
    needed,
    write_plainly,
)

ROWS = [("grpo, clipped", "0.0070122 +- 0.0015", "1.0569e-16", "-"), ("stale", "12 +- 3", "inf", "sampled")]


def made() -> Table:
    table = Table("estimator", "variance of a response", "bias", "method")
    for row in ROWS:
        table.add_row(*row)
    return table


def printed(width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Terminal(file=stream, width=width, markup=False, highlight=False).print(made())
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [30, 40, 45, 50, 60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_number_that_is_shown_is_whole_and_what_is_not_shown_is_named(width, encoding):
    text = printed(width, encoding)
    shown = text.partition("left out")[0]
    left_out = "".join(text.partition("left out")[2].split())
    for column, heading in enumerate(("estimator", "variance of a response", "bias", "method")):
        numbers = [row[column] for row in ROWS if is_number(row[column])]
        whole = all(number in shown for number in numbers) and heading.split()[0][:6] in shown
        assert whole != (heading.replace(" ", "") in left_out)
    assert all(len(line) <= width for line in shown.splitlines())


def test_a_wide_table_loses_nothing_and_a_narrow_one_its_last_columns():
    assert "left out" not in printed(80)
    assert printed(44).endswith("left out at 44 columns: method\n")
    # The first column stays, whatever the width.
    table = made()
    assert fit(table, 5) == ["variance of a response", "bias", "method"] and len(table.columns) == 1


def test_the_least_width_is_that_of_whole_numbers_and_words():
    variance, method = made().columns[1], made().columns[3]
    assert least(variance) == len("0.0070122 +- 0.0015") and least(method) == len("sampled")
    assert needed(made()) == 1 + sum(3 + least(column) for column in made().columns)


@pytest.mark.parametrize(
    "cell", ["0.5", "-1e-05", "1,024", "12 +- 3", "-", "inf", "-1.01 (32)", "3 %", "<2.5", ""]
)
def test_what_is_a_number(cell):
    assert is_number(cell)


@pytest.mark.parametrize("cell", ["grpo", "0.5 to the end", "k = 3", "e"])
def test_what_is_none(cell):
    assert not is_number(cell)


def test_signs_that_a_stream_lacks_are_written_in_others(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    write_plainly()
    print("1 \N{PLUS-MINUS SIGN} 2 \N{MULTIPLICATION SIGN} 3 d\N{LATIN SMALL LETTER E WITH ACUTE}j\xe0")
    stream.flush()
    assert stream.buffer.getvalue() == b"1 +- 2 x 3 d\\xe9j\\xe0\n"  # type: ignore[attr-defined]


def test_no_sign_is_changed_where_the_stream_has_it(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    write_plainly()
    print("\N{PLUS-MINUS SIGN}")
    stream.flush()
    assert re.fullmatch("\N{PLUS-MINUS SIGN}\n", stream.buffer.getvalue().decode())  # type: ignore[attr-defined]


@pytest.fixture
def interruptible():
    """As in the foreground: in the background of a shell a process inherits that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_that_somebody_drops_is_remembered(capfd):
    assert not by_interrupt(RuntimeError())
    with interrupts_heard():
        assert not by_interrupt(RuntimeError()) and by_interrupt(KeyboardInterrupt())
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert by_interrupt(RuntimeError())
        # As numba does it: an exception in a callback that cannot raise it.
        ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()
        ctypes.CFUNCTYPE(None)(lambda: 1 / 0)()
        with interrupts_heard():
            assert not by_interrupt(RuntimeError())
    assert not by_interrupt(RuntimeError()) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    printed = capfd.readouterr().err
    assert "ZeroDivisionError" in printed and "KeyboardInterrupt" not in printed
