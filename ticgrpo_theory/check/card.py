"""`check_loss` and `assert_loss`: every row of one loss, and the sentence on top."""

import dataclasses
import functools
import importlib.metadata
import io
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ticgrpo_theory.check import group_rows, little_worlds, probes
from ticgrpo_theory.check.gradient_rows import Expectations
from ticgrpo_theory.check.guard import TimedOut, guarded
from ticgrpo_theory.check.questions import CLAIMS, ROWS, questions_of
from ticgrpo_theory.check.report import Report
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.check.subject import Subject, subject_of
from ticgrpo_theory.check.verdict import verdict_of
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.losses import Objective, OfRewards
from ticgrpo_theory.estimators.properties import RELATIVE
from ticgrpo_theory.inputs.tracebacks import brief, said
from ticgrpo_theory.version import VERSION

SECONDS = 30.0
"""Longest time for one row: a card takes seconds, and a machine may be busy."""

HUNG = 2
"""Rows that may hang before the rest is given up."""

TOLERANCE = 1e-9
"""Residual of an unbiased row in float64; other dtypes have that of their own."""


def check_loss(
    loss: Any,
    *,
    advantage: Advantage | OfRewards | None = None,
    arguments: Mapping[str, Any] | None = None,
    scope: str = "group",
    prompts: int | None = None,
    rows: Iterable[str] | None = None,
    fail_above: float | str | None = None,
    name: str | None = None,
    seconds: float = SECONDS,
    command: str = "ticgrpo check SPEC",
) -> Report:
    """What a loss estimates: E[g_hat] = c grad J or not, exact over every group of tiny worlds. Ours.

    `loss` is an objective(batch) -> scalar to be maximised, a trainer's loss of logp, logp_old [B, T],
    advantages [B] or [B, T] and mask [B, T] to be minimised, an Estimator, from_loss(...) or a name of
    the catalogue. A loss of four arguments is fed leave-one-out advantages unless `advantage` names
    others. `fail_above` ("5deg", or a sine) widens the unbiased rows only. The user's code runs in this
    process; each row has `seconds`, and what it prints is kept apart.

    Raises ValueError for what is no loss, an argument that nobody knows, and an unknown row.
    """
    start = time.perf_counter()
    wanted = list(ROWS if rows is None else rows)
    for row in wanted:
        if row not in ROWS:
            raise ValueError(f"unknown row {row!r}: rows are {', '.join(ROWS)}")
    widened = None if fail_above is None else sine(fail_above)
    compile_once()
    kept = io.StringIO()
    how = {"advantage": advantage, "arguments": arguments, "scope": scope, "prompts": prompts, "name": name}
    try:
        subject = guarded(lambda: subject_of(loss, **how), seconds, kept)
        problem, notes, tolerance = first_look(subject, seconds, kept)
    except TimedOut as error:
        subject = Subject(name or getattr(loss, "__name__", type(loss).__name__), "loss", Objective(loss))
        problem, notes, tolerance = f"HANGS: {error}", [], TOLERANCE
    if problem:
        found, interrupted = [Row(row, CLAIMS[row], detail=problem) for row in wanted], False
    else:
        questions = questions_of(subject, tolerance, max(tolerance, widened or 0.0))
        found, interrupted = answered_rows(questions, wanted, seconds, kept)
    found = [dataclasses.replace(row, command=f"{command} --rows {row.name}") for row in found]
    if kept.getvalue().strip():
        notes.append(f"it prints: {brief(kept.getvalue(), 80)}")
    if fail_above is not None:
        notes.append(f"unbiased rows hold up to {fail_above}")
    return Report(
        subject.name,
        subject.form,
        problem or verdict_of(found, interrupted),
        tuple(found),
        subject.conventions,
        tuple(notes),
        versions(),
        round(time.perf_counter() - start, 3),
        interrupted,
        not problem,
    )


def answered_rows(
    questions: Mapping[str, Callable[[], Row]], wanted: list[str], seconds: float, kept: io.StringIO
) -> tuple[list[Row], bool]:
    """(rows, whether Ctrl-C cut them short); a loss that is not repeatable has no other row."""
    found, hung = [], 0
    for name in dict.fromkeys(["repeatable", *wanted]):
        try:
            if hung >= HUNG:
                raise TimedOut(f"{HUNG} rows hung")
            row = guarded(questions[name], seconds, kept)
        except KeyboardInterrupt:
            return found, True
        except TimedOut as error:
            row, hung = Row(name, CLAIMS[name], detail=f"stopped: {error}"), hung + 1
        except Exception as error:  # whatever a user's code raises is the answer to this row, not to others
            text = str(error) if isinstance(error, ValueError) else said(error)
            row = Row(name, CLAIMS[name], detail=brief(text, 300))
        if name in wanted or row.holds is False:
            found.append(row)
        if name == "repeatable" and row.holds is False:
            why = "the loss is not repeatable, so that no other number would mean anything"
            return [row, *(Row(other, CLAIMS[other], detail=why) for other in wanted if other != name)], False
    return found, False


def assert_loss(
    loss: Any, requires: Iterable[str] = ("sign", "finite", "mask", "unbiased_on_policy"), **options: Any
) -> Report:
    """The report of `check_loss`, where every row of `requires` holds = True. Ours. A loss takes [B, T].

    Raises AssertionError with the verdict, and each row that fails or has no answer; ValueError as
    `check_loss`.
    """
    required = list(requires)
    report = check_loss(
        loss,
        rows=[row for row in ROWS if row in required] + [r for r in required if r not in ROWS],
        **options,
    )
    failing = report.failing(required)
    if failing:
        told = "\n".join(
            f"  {row.name}: {row.said}: {row.detail}" + (f"\n    {row.cure}" if row.cure else "")
            for row in failing
        )
        raise AssertionError(f"{report.name}: {report.verdict}\n{told}")
    return report


@functools.cache
def compile_once() -> None:
    """Let the engine compile what it needs on its own objective, so that no row of a user's waits for it."""

    def centred(batch: Batch) -> Tensor:
        A = batch.reward - batch.reward.mean()
        return (A[:, None] * batch.logp * batch.mask).sum()

    expectations = Expectations(Subject("centred", "objective", Objective(centred)))
    for world in (little_worlds.ONE_LENGTH[0], little_worlds.ANY_LENGTH[0]):
        expectations.at(world, 2)


def first_look(subject: Subject, seconds: float, kept: io.StringIO) -> tuple[str, list[str], float]:
    """(why there is no answer at all, notes, tolerance of the dtype that it computes in)."""
    notes: list[str] = []

    def look() -> float:
        given = subject.on_rows
        apart = given.apart()
        apart(probes.update(subject.prompts, probes.SMALL_DRIFT))
        notes.extend(f"ignores {name}" for name in group_rows.ignored(subject))
        tolerance = max(TOLERANCE, RELATIVE[apart.dtype])
        if tolerance > TOLERANCE:
            notes.append(
                f"computes in {str(apart.dtype).removeprefix('torch.')}: tolerances are {tolerance:g}"
            )
        return tolerance

    try:
        return "", notes, guarded(look, seconds, kept)
    except TimedOut as error:
        return f"HANGS: {error}", notes, TOLERANCE
    except Exception as error:  # a user's code may raise anything; the sentence says what
        problem = brief(str(error) if isinstance(error, ValueError) else said(error), 300)
    if answers_somewhere(subject, seconds, kept):
        return "", [*notes, f"no answer on the usual rows: {problem}"], TOLERANCE
    return f"NO ANSWER: {problem}", notes, TOLERANCE


def answers_somewhere(subject: Subject, seconds: float, kept: io.StringIO) -> bool:
    """Whether any little world has an answer, so that a card can be made of the rows that have one."""
    expectations = Expectations(subject)
    for world in (little_worlds.ONE_LENGTH[0], little_worlds.ANY_LENGTH[0], little_worlds.ONE_LENGTH[1]):
        for G in (2, 4):
            try:
                guarded(lambda world=world, G=G: expectations.at(world, G), seconds, kept)
                return True
            except (Exception, TimedOut):  # any answer will do
                continue
    return False


def sine(angle: float | str) -> float:
    """The residual of an angle such as "5deg", or the number itself.

    Raises ValueError for what is no angle from 0 to 90 degrees and no number from 0 to 1.
    """
    text = str(angle).strip()
    try:
        degrees = text.endswith("deg")
        number = float(text.removesuffix("deg"))
    except ValueError:
        number, degrees = math.nan, False
    if not 0 <= number <= (90 if degrees else 1):
        raise ValueError(f"fail_above = {angle!r}: give an angle such as 5deg, or a residual from 0 to 1")
    return math.sin(math.radians(number)) if degrees else number


def versions() -> dict[str, str]:
    """Of what computed the report."""
    return {"ticgrpo-theory": VERSION, "torch": importlib.metadata.version("torch")}
