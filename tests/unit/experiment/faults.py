"""Makes the n-th file operation fail: the disk is full, or the process killed, in the middle of it."""

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from unittest import mock

OPERATIONS = (
    (os, "mkdir"),
    (os, "open"),
    (fcntl, "flock"),
    (os, "write"),
    (os, "fsync"),
    (os, "replace"),
    (os, "unlink"),
    (os, "rmdir"),
)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def at_operation(n: int, fail: Callable[[], None]) -> Iterator[list[str]]:
    """The n-th file operation calls `fail` instead of being done; a write is half done before.

    Yields the names of the operations as they come: fewer than n, and nothing failed.
    """
    met = []

    def failing(real: Callable, name: str) -> Callable:
        def operation(*arguments, **keywords):
            met.append(name)
            if len(met) == n:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                fail()
            return real(*arguments, **keywords)

        return operation

    with contextlib.ExitStack() as stack:
        for module, name in OPERATIONS:
            stack.enter_context(mock.patch.object(module, name, failing(getattr(module, name), name)))
        yield met


@contextlib.contextmanager
def short_writes(limit: int) -> Iterator[None]:
    """Every write takes at most `limit` bytes, as the system call is allowed to."""
    real = os.write
    with mock.patch.object(os, "write", lambda descriptor, data: real(descriptor, data[:limit])):
        yield


def in_a_child(work: Callable[[], object]) -> int:
    """Exit status of a forked process that does the work: 0, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
