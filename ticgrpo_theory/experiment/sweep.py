"""A sweep: rows(cfg) for every cell of a grid, each kept on disk when it is finished, then one table.

    grid = make("bias_vs_K", {"worlds": "xor"}, {"etas": [0.1, 1.0]})
    summary = sweep("sweeps/mine", grid, workers("loky"))

`<name>.cells/` holds a file for each finished cell, and for each failed one its error. When all are finished
they become `<name>.parquet` and `<name>.json`; while one has failed there is `<name>.failures.json` instead,
and the next start tries the failed ones again. Killed at any moment and started again, a sweep ends with the
bytes of an undisturbed one, and computes no cell again whose file was there. One process at a time: a second
one is refused.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.atomic import holding, remove, replace_files
from ticgrpo_theory.experiment.cells import Cells, run_cells
from ticgrpo_theory.experiment.grid import Grid
from ticgrpo_theory.experiment.own_files import files_named, together
from ticgrpo_theory.experiment.source import files
from ticgrpo_theory.experiment.sweep_cell import Outcome, described
from ticgrpo_theory.experiment.terminal import by_interrupt
from ticgrpo_theory.experiment.workers import Pool


@dataclass(frozen=True)
class Summary:
    """What a sweep did."""

    name: str
    cells: int
    kept: int
    """Cells that were finished when it started."""
    computed: int
    """Cells that it finished."""
    failed: list[dict[str, Any]]
    """The cells that raised, each with type, message and traceback of the error."""
    table: str | None
    """The rows of all cells; None while one has failed."""
    rows: int | None
    failures: str | None
    """The file of the failed cells; None where there are none."""
    seconds: float

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)


def sweep(
    name: str,
    grid: Grid,
    workers: contextlib.AbstractContextManager[Pool],
    *,
    folder: Path | str = "results",
    trusted: bool = False,
    console: Console | None = None,
) -> Summary:
    """Compute the missing cells, and write <folder>/<name>.parquet when none is missing any more.

    Raises ValueError for what was computed before the experiment was edited, or a file of the user's own that
    it imports, unless it is `trusted`.
    """
    began = time.perf_counter()
    with _alone(name, folder):
        identity = {"config": grid.identity(), "results_version": grid.experiment.results_version}
        sources = together(files(grid.experiment.source), files_named(identity))
        by_code = {results_file.digest(grid.key(config)): config for config in grid.configs()}
        work = Cells(
            name,
            [grid.key(config) for config in by_code.values()],
            **identity,
            folder=folder,
            may_be_missing=grid.experiment.may_be_missing,
            sources=sources,
            trusted=trusted,
        )
        rows_file, sidecar = results_file.pair(name, folder)
        compared = None if trusted else sources
        reason = results_file.refusal(name, **identity, folder=folder, sources=compared)
        complete = reason is None and not work.cells
        missing = [] if complete else work.missing
        if reason and missing and (rows_file.exists() or sidecar.exists()):
            raise ValueError(f"{reason}; nothing is mixed: choose another --name, or delete that result")
        tasks = [(key, by_code[results_file.digest(key)]) for key in missing]
        if tasks:  # a cluster is not started for nothing
            with (
                contextlib.redirect_stdout(sys.stderr),  # Ray writes there what it has to say of its workers
                workers as pool,
                _progress(name, len(by_code) - len(tasks), len(by_code), console) as count,
            ):
                computed = pool.outcomes(grid.experiment.source, tasks)
                try:
                    for outcome in run_cells(work, (_swept(grid, by_code, outcome) for outcome in computed)):
                        count(outcome.error)
                except BaseException as error:
                    if not by_interrupt(error):
                        raise
                    raise KeyboardInterrupt(work.kept) from None
        failed = [] if complete else [{"cell": key, **error} for key, error in work.failed]
        if not (failed or complete):
            _refuse_unlike(work)
            work.write(sources)
        failures = _keep_failed(failed, rows_file)
    return Summary(
        name=name,
        cells=len(by_code),
        kept=len(by_code) - len(tasks),
        computed=len(tasks) - len(failed),
        failed=failed,
        table=None if failed else str(rows_file),
        rows=None if failed else len(results_file.read(name, **identity, folder=folder)),
        failures=failures,
        seconds=round(time.perf_counter() - began, 3),
    )


def _keep_failed(failed: list[dict[str, Any]], rows_file: Path) -> str | None:
    """The file of the failed cells, kept while there are any."""
    failures = rows_file.with_suffix(".failures.json")
    if not failed:
        remove(failures)
        return None
    replace_files({failures: (json.dumps(failed, indent=1) + "\n").encode()})
    return str(failures)


def _swept(grid: Grid, by_code: Mapping[str, dict[str, Any]], outcome: Outcome) -> Outcome:
    """The outcome with the columns of the grid; an error where its rows cannot be part of a result."""
    if outcome.rows is None:
        return outcome
    columns = grid.columns(by_code[results_file.digest(outcome.key)])
    try:
        rows = [_joined(columns, row) for row in outcome.rows]
        return dataclasses.replace(
            outcome, rows=results_file.plain_rows(rows, grid.experiment.may_be_missing)
        )
    except ValueError as refused:
        return dataclasses.replace(outcome, rows=None, error=described(refused))


def _joined(swept: dict[str, Any], row: Any) -> dict[str, Any]:
    both = sorted(set(swept) & set(row))
    if both:
        raise ValueError(f"rows(cfg) has a column {both[0]!r}, which names the field of the grid; rename it")
    return {**swept, **row}


def _refuse_unlike(work: Cells) -> None:
    """A table has one set of columns; the message names the cells, which `record` does not know."""
    columns = {code: list(work.cells[code]["rows"][0]) for code in work.keys} if not work.written else {}
    for code, found in columns.items():
        first = next(iter(columns))
        if found != columns[first]:
            raise ValueError(
                f"the cell {work.keys[code]} has the columns {found}, "
                f"{work.keys[first]} has {columns[first]}; let rows(cfg) give the same ones for every cell, "
                f"or sweep them under two names"
            )


@contextlib.contextmanager
def _alone(name: str, folder: Path | str) -> Iterator[None]:
    rows_file, _ = results_file.pair(name, folder)
    lock = holding(rows_file.with_suffix(".lock"))
    try:
        lock.__enter__()
    except BlockingIOError:
        raise ValueError(
            f"another sweep is at work on {rows_file.with_suffix('')}; "
            f"wait for its end, or choose another --name"
        ) from None
    except OSError as error:
        raise ValueError(
            f"results = {rows_file.parent} cannot be written ({error.strerror}): "
            f"name another folder with --results"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.push(lock)
        yield


@contextlib.contextmanager
def _progress(name: str, kept: int, cells: int, console: Console | None) -> Iterator[Any]:
    """Cells done, failed, and the time left; what was kept from an earlier start does not count as speed."""
    columns: Sequence[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells, {task.fields[failed]} failed,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    # rich looks back 30 s by default, and would say nothing of cells that take longer.
    with Progress(
        *columns, console=console or Console(stderr=True), speed_estimate_period=float("inf")
    ) as bar:
        task = bar.add_task(name, total=cells, completed=kept, failed=0)
        failed = 0

        def count(error: dict[str, str] | None) -> None:
            nonlocal failed
            failed += error is not None
            bar.update(task, advance=1, failed=failed)

        yield count
