"""math-verify in its guarded process: what it accepts, and what hostile answers cost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm.data import math_verify_process, rewards
from llm.data.math_verify_process import DEADLINE, Verifier
from tests.thinned import more, one_in

pytest.importorskip("math_verify")

NOISE = 5.0
"""Seconds beyond the deadline that a busy machine may take to notice it."""

HOSTILE = {
    "power tower": r"\boxed{9^{9^{9^{9^{9}}}}}",
    "factorials": r"\boxed{9!!!!}",
    "nested braces": "\\boxed{" + "{" * 1500 + "7" + "}" * 1500 + "}",
    "digits": "\\boxed{" + "9" * 4_000 + "}",
    "megabytes": "\\boxed{8" + "+1" * 1_000_000 + "}",
}
MORE_HOSTILE = {
    "high power tower": "\\boxed{" + "9^{" * 300 + "9" + "}" * 300 + "}",
    "large factorial": r"\boxed{99999999!}",
    "nested roots": "\\boxed{" + "\\sqrt{" * 400 + "7" + "}" * 400 + "}",
    "nested fractions": "\\boxed{" + "\\frac{1}{1+" * 300 + "7" + "}" * 300 + "}",
    "binomial": r"\boxed{\binom{999999999}{499999999}}",
    "sum": r"\boxed{\sum_{n=1}^{999999999} n^{n}}",
}


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier() as started:
        yield started


@pytest.mark.parametrize("response", [r"so \boxed{7}", r"\boxed{3+4}", r"\boxed{\frac{14}{2}}", r"$x = 7$"])
def test_right_answers_in_any_form_are_accepted(verifier: Verifier, response: str) -> None:
    assert verifier.correct(response, 7)


@pytest.mark.parametrize("response", [r"\boxed{8}", "", "no number", r"\boxed{7", "\\boxed{\x00}", "\ud800"])
def test_wrong_answers_are_not(verifier: Verifier, response: str) -> None:
    assert not verifier.correct(response, 8 if response == r"\boxed{7" else 7)


@pytest.fixture(scope="module")
def hasty() -> Iterator[Verifier]:
    with Verifier(deadline=0.5) as started:
        yield started


def seconds_to_reject(judge: Verifier, response: str) -> float:
    judge.correct(r"\boxed{1+1}", 2)  # the child is warm, or the one after a kill has started
    began = time.perf_counter()
    assert not judge.correct(response, 7)
    return time.perf_counter() - began


@pytest.mark.parametrize("name", one_in(3, HOSTILE))
def test_hostile_answers_cost_their_deadline_at_most_and_score_nothing(hasty: Verifier, name: str) -> None:
    assert seconds_to_reject(hasty, HOSTILE[name]) < 0.5 + NOISE


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTILE, *MORE_HOSTILE])
def test_the_same_at_the_deadline_of_a_run(verifier: Verifier, name: str) -> None:
    assert seconds_to_reject(verifier, (HOSTILE | MORE_HOSTILE)[name]) < DEADLINE + NOISE


@more
def test_a_timeout_is_counted_and_the_next_answer_is_judged() -> None:
    with Verifier(deadline=2.0) as judge:
        assert judge.correct(r"\boxed{3+4}", 7)
        first = judge._child
        assert not judge.correct(HOSTILE["factorials"], 7)
        assert first is not None and first.poll() is not None
        assert judge.correct(r"\boxed{3+4}", 7)
        assert (judge.counts.sent, judge.counts.timeouts, judge.counts.crashes) == (3, 1, 0)


def test_memory_is_limited_and_running_out_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stand-in for math-verify that asks for more than the limit: what it asks for does not exist."""
    (tmp_path / "math_verify.py").write_text(
        "def parse(text, parsing_timeout=None):\n"
        "    return [bytearray(2**30 + 1)] if 'large' in text else [text]\n"
        "def verify(gold, given, timeout_seconds=None):\n"
        "    return True\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Verifier() as limited:
        assert limited.correct("small", 7)
        assert not limited.correct("large", 7)
        assert limited.correct("small", 7)
        assert (limited.counts.crashes, limited.counts.timeouts) == (1, 0)


def test_a_child_that_dies_is_counted_and_replaced() -> None:
    with Verifier() as mortal:
        assert mortal.correct(r"\boxed{3+4}", 7)
        assert mortal._child is not None
        mortal._child.kill()
        mortal._child.wait()
        assert mortal.correct(r"\boxed{3+4}", 7)


def test_strict_integers_do_not_wait_for_the_child(verifier: Verifier) -> None:
    before = verifier.counts.sent
    assert verifier.all_correct([r"\boxed{7}", "Answer: 8"], [7, 8]) == [True, True]
    assert verifier.counts.sent == before


def test_many_answers_in_sequence_keep_their_order(verifier: Verifier) -> None:
    responses = [f"\\boxed{{{i}+1}}" for i in range(100)]
    truths = [i + 1 + (i % 3 == 0) for i in range(100)]
    assert verifier.all_correct(responses, truths) == [i % 3 != 0 for i in range(100)]
    assert not any(rewards.correct(r, t) for r, t in zip(responses, truths, strict=True))


def test_nothing_is_left_behind() -> None:
    with Verifier() as closed:
        child = closed._child
        assert child is not None and child.poll() is None
    assert child.poll() is not None
    closed.close()  # once more does no harm


def test_the_child_ends_with_its_parent() -> None:
    """Killed with SIGKILL, the parent cannot close anything: its end of the pipe closes with it."""
    code = (
        "import time; from llm.data.math_verify_process import Verifier; v = Verifier(); v.__enter__(); "
        "print(v._child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(child)


def alive(process: int) -> bool:
    """Whether it runs; one that ended and is not yet waited for does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_without_math_verify_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot be imported \(ImportError: not here\): pip install"):
        Verifier().__enter__()


@pytest.mark.parametrize(("deadline", "memory"), [(0.0, 2**30), (1.0, 2**20)])
def test_limits_that_cannot_work_are_refused(deadline: float, memory: int) -> None:
    with pytest.raises(ValueError, match=r"needs deadline > 0 and at least 256 MiB"):
        Verifier(deadline, memory)


def test_the_limit_of_the_tail_keeps_a_request_below_a_pipe() -> None:
    worst = '{"response": "", "truth": , "deadline": }'
    assert (
        len(worst) + 12 * math_verify_process.TAIL + 200 < 65_536
    )  # \ud83d\ude00 is the longest escape of a character
