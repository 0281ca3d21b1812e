"""Runs a user's code: what it prints is kept apart, what hangs is stopped, what it warns of is counted."""

import contextlib
import io
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class TimedOut(BaseException):
    """A row took longer than its limit. No Exception: no `except Exception` on the way swallows it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimedOut inside after `seconds`, where signals can be had: the main thread of a Unix process."""
    possible = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not possible:
        yield
        return

    def stop(signal_number: int, frame: Any) -> None:
        # A function that swallows the first is told again.
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        raise TimedOut(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def quiet(kept: io.StringIO) -> Iterator[None]:
    """Keep what is printed inside, and let no warning of the user's code through."""
    with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def guarded(ask: Callable[[], T], seconds: float, kept: io.StringIO) -> T:
    """What `ask` finds. Raises TimedOut after `seconds`."""
    with quiet(kept), limited(seconds):
        return ask()
