"""math-verify as a judge, in a process of its own that can be killed: no answer costs more than its deadline.

math-verify evaluates what it reads: a power tower, a factorial or deep nesting keeps it busy for its whole
time limit and fills the memory, and its own limit is a signal that works in a main thread only. Here it runs
in one warm child process with a limit on its memory, and the parent waits with a deadline. A time-out kills
the child, scores as a wrong answer and is counted; the next answer starts another child, which takes about a
second. It also accepts 3+4 for 7, which a policy can learn: `rewards.correct` is the default for a reason.
"""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from llm.data import rewards

DEADLINE = 2.0
"""Seconds for one answer."""
MEMORY = 2**30
"""Bytes of address space of the child."""
START = 60.0
"""Seconds until a new child has imported math-verify."""
TAIL = 4096
"""Characters at the end of a response that are read; escaped they fit into a pipe, and no write blocks."""


@dataclass
class Counts:
    """How the answers were judged, for the metrics."""

    sent: int = 0
    """Answers that went to math-verify; strict integers that are right do not."""
    timeouts: int = 0
    crashes: int = 0
    """The child died or ran out of memory."""


class Verifier:
    """`correct(response, truth)` within a deadline; a context manager that leaves no process behind."""

    def __init__(self, deadline: float = DEADLINE, memory: int = MEMORY) -> None:
        if not deadline > 0 or not memory >= 2**28:
            raise ValueError(
                f"deadline = {deadline} s, memory = {memory} bytes: needs deadline > 0 and at least 256 MiB, "
                f"which math-verify takes before it reads an answer"
            )
        self.deadline = deadline
        self.memory = memory
        self.counts = Counts()
        self._child: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> "Verifier":
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def correct(self, response: str, truth: int) -> bool:
        """Whether the response gives `truth`, strictly or by the judgement of math-verify."""
        if rewards.correct(response, truth):
            return True
        self.counts.sent += 1
        child = self._child if self._child is not None and self._child.poll() is None else self._start()
        request = json.dumps({"response": response[-TAIL:], "truth": truth, "deadline": self.deadline})
        try:
            child.stdin.write(request.encode() + b"\n")  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
            verdict = self._line(self.deadline)
        except TimeoutError:
            self.counts.timeouts += 1
            self._kill()
            return False
        except (EOFError, BrokenPipeError):
            self.counts.crashes += 1
            self._kill()
            return False
        if verdict == b"out of memory":
            self.counts.crashes += 1
            self._kill()
        return verdict == b"right"

    def all_correct(self, responses: Sequence[str], truths: Sequence[int]) -> list[bool]:
        """`correct` for each response, one after another."""
        return [self.correct(response, truth) for response, truth in zip(responses, truths, strict=True)]

    def close(self) -> None:
        """End the child: it leaves by itself when its input ends, and is killed where it is busy."""
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()  # type: ignore[union-attr]
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1.0)
        self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        self._kill()
        # The package is found from its own location; one thread, whose stack counts against the limit.
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        self._child = subprocess.Popen(
            [sys.executable, "-c", f"from llm.data.math_verify_process import child; child({self.memory})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which then closes the child in order
        )
        try:
            ready = self._line(START)
        except (TimeoutError, EOFError) as error:
            self._kill()
            raise ValueError(
                f"the process of math-verify did not start ({error}) within {START:g} s and {self.memory} "
                f"bytes of memory; raise the limit, or set reward.kind = integer"
            ) from error
        if ready != b"ready":
            self._kill()
            raise ValueError(
                f"reward.kind = math_verify takes math-verify, which cannot be imported ({ready.decode()}): "
                f"pip install 'ticgrpo-theory[llm]', or set reward.kind = integer"
            )
        return self._child

    def _line(self, seconds: float) -> bytes:
        """The next line of the child; TimeoutError after `seconds`, EOFError where it died."""
        output = self._child.stdout.fileno()  # type: ignore[union-attr]
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([output], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer within {seconds:g} s")
            more = os.read(output, 4096)
            if not more:
                raise EOFError("it died")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _kill(self) -> None:
        child, self._child, self._unread = self._child, None, b""
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]


def child(memory: int) -> None:
    """The child: limit the memory, import math-verify, answer each line with one word until input ends."""
    verdicts = os.fdopen(os.dup(1), "wb", buffering=0)
    sys.stdout = open(os.devnull, "w")  # whatever a library prints must not pass for a verdict
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        judge("\\boxed{3+4}", 7)
    except Exception as error:
        verdicts.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n".encode())
        return
    verdicts.write(b"ready\n")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        # Ends this process without the parent: the default action of SIGALRM, whatever code is running.
        signal.setitimer(signal.ITIMER_REAL, 2 * request["deadline"])
        try:
            verdict = b"right" if judge(request["response"], request["truth"]) else b"wrong"
        except MemoryError:
            verdict = b"out of memory"
        except (
            Exception
        ):  # whatever the parsers raise (RecursionError, TypeError, their own): no right answer
            verdict = b"wrong"
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        verdicts.write(verdict + b"\n")


def judge(response: str, truth: int) -> bool:
    """What math-verify says, without its own time limits."""
    import logging

    import math_verify

    logging.disable(logging.CRITICAL)  # it warns at each call that its time limits are off
    gold = math_verify.parse(f"\\boxed{{{truth}}}", parsing_timeout=None)  # type: ignore[arg-type]
    given = math_verify.parse(response, parsing_timeout=None)  # type: ignore[arg-type]
    return bool(math_verify.verify(gold, given, timeout_seconds=None))
