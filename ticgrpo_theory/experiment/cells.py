"""Long runs that can be killed: each finished cell is a file; started again, a run computes only the others.

work = Cells("name", keys, config=cfg, results_version=1)
for outcome in run_cells(work, one_by_one(work.missing, rows_of)):
    ...                                           # the cell is on the disk: say so
work.write()

A cell that cannot be computed is kept with its error by `fail`; it is missing until it is finished.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.experiment.own_files import Files, edited, said_of
from ticgrpo_theory.experiment.sweep_cell import Outcome


class Cells:
    """The cells of one run of an experiment; a key is a string, a number or a tuple of them.

    Finished ones lie in `<folder>/<name>.cells/`. Cells of another configuration or RESULTS_VERSION are
    refused, never mixed, and so are those from before one of the `sources` was edited, unless they are
    `trusted`. The result of a run that was killed and resumed has the bytes of one that was not.
    """

    def __init__(
        self,
        name: str,
        keys: Iterable[Any],
        *,
        config: Any,
        results_version: int,
        folder: Path | str = "results",
        may_be_missing: Sequence[str] = (),
        sources: Files | None = None,
        trusted: bool = False,
    ) -> None:
        self.sources, self.trusted = sources, trusted
        self.name, self.config, self.results_version = name, config, results_version
        self.folder, self.may_be_missing = folder, may_be_missing
        listed = tuple(keys)
        self.keys = {results_file.digest(key): key for key in listed}
        if len(self.keys) < len(listed):
            raise ValueError(
                f"{name!r} lists {len(listed)} cells but only {len(self.keys)} keys; give each its own"
            )
        rows_file, _ = results_file.pair(name, folder)
        self.unfinished, self.merged = rows_file.with_suffix(".cells"), rows_file.with_suffix(".merged")
        self.written = False
        if self.merged.exists():
            # The last run died after its result was written: nothing is missing, only the removal.
            reason = results_file.refusal(name, config=config, results_version=results_version, folder=folder)
            self.written = reason is None
            shutil.rmtree(self.merged)
        kept = {results_file.digest(cell["key"]): cell for cell in map(self._load, self._files())}
        self.cells = {code: cell for code, cell in kept.items() if "rows" in cell}
        self.failures = {code: cell for code, cell in kept.items() if "error" in cell}

    @property
    def missing(self) -> list[Any]:
        """The keys still to be computed, in the order in which they were listed."""
        return [] if self.written else [key for code, key in self.keys.items() if code not in self.cells]

    def finish(self, key: Any, rows: Sequence[Mapping[str, Any]], *, seconds: float) -> None:
        """Keep the rows of one cell: when this returns, no crash loses them."""
        code = self._code(key)
        self.cells[code] = self._keep(
            code, {"rows": results_file.plain_rows(rows, self.may_be_missing)}, seconds
        )
        self.failures.pop(code, None)

    def fail(self, key: Any, error: Mapping[str, str], *, seconds: float) -> None:
        """Keep what went wrong with one cell, in the place of its rows."""
        code = self._code(key)
        self.failures[code] = self._keep(code, {"error": dict(error)}, seconds)

    @property
    def failed(self) -> list[tuple[Any, dict[str, str]]]:
        """The keys that could not be computed, each with its error, in the order of the keys."""
        return [
            (key, self.failures[code]["error"]) for code, key in self.keys.items() if code in self.failures
        ]

    def write(self, sources: Files | None = None) -> Path:
        """Write all rows as one result, remove the cells, and return the path of the rows.

        A result says from which `sources` it comes where it is given them.
        """
        if self.missing:
            raise ValueError(
                f"{self.name!r} has {len(self.missing)} of {len(self.keys)} cells unfinished, the first "
                f"{self.missing[0]!r}; finish every key of `missing` before write()"
            )
        rows_file, _ = results_file.pair(self.name, self.folder)
        if not self.written:
            finished = [self.cells[code] for code in self.keys]
            results_file.write(
                self.name,
                [row for cell in finished for row in cell["rows"]],
                config=self.config,
                results_version=self.results_version,
                seconds=sum(cell["seconds"] for cell in finished),
                folder=self.folder,
                may_be_missing=self.may_be_missing,
                sources=sources,
            )
            # Renamed before it is emptied: a run killed half-way through the removal would otherwise leave a
            # folder with cells missing, and the next one would compute those again.
            os.replace(self.unfinished, self.merged)
            self.written = True
            shutil.rmtree(self.merged)
        return rows_file

    def _code(self, key: Any) -> str:
        code = results_file.digest(key)
        if code not in self.keys:
            raise ValueError(
                f"{key!r} is not among the {len(self.keys)} cells of {self.name!r}; list it in `keys`"
            )
        return code

    def _keep(self, code: str, outcome: dict[str, Any], seconds: float) -> dict[str, Any]:
        cell = {"key": self.keys[code], "stamp": self._stamp(), "seconds": seconds, **outcome}
        if self.sources is not None:
            cell["sources"] = dict(self.sources)
        replace_files({self.unfinished / f"{code}.json": json.dumps(cell).encode()})
        return cell

    def _files(self) -> list[Path]:
        return sorted(self.unfinished.glob("*.json"))

    def _stamp(self) -> list[Any]:
        return [results_file.digest(results_file.plain_config(self.config)), self.results_version]

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            cell = json.loads(path.read_bytes())
            outcome = "error" if "error" in cell else "rows"
            stamp, *_ = (cell[part] for part in ("stamp", "key", "seconds", outcome))
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{path} is not a finished cell ({error!r}); delete it and it is computed again"
            raise ValueError(reason) from None
        if stamp != self._stamp():
            raise ValueError(
                f"{path.parent} holds cells of another configuration or of another RESULTS_VERSION than "
                f"{self.results_version}; finish that run as it was configured, or delete the folder"
            )
        if self.sources is not None and not self.trusted:
            changed = edited(cell.get("sources"), self.sources)
            if changed:
                raise ValueError(
                    f"{path.parent} holds cells from before {said_of(changed)}; undo the edit, or delete the "
                    f"folder to compute them again; in ticgrpo sweep, --trust keeps their numbers"
                )
        return cell

    @property
    def kept(self) -> str:
        """What an interrupted run leaves, in words."""
        if not self.cells:
            return "no cell was finished; the same command begins anew"
        return (
            f"{len(self.cells):,} of {len(self.keys):,} cells are kept in {self.unfinished}; "
            f"the same command goes on from there"
        )


def run_cells(work: Cells, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Keep each outcome, rows or error, as it is ready; it is yielded once it is on the disk.

    Whoever computes the cells makes the outcomes: `one_by_one` in this process, or the workers of a sweep.
    Raises ValueError for rows that cannot be part of a result.
    """
    for outcome in outcomes:
        if outcome.error is not None:
            work.fail(outcome.key, outcome.error, seconds=outcome.seconds)
        else:
            work.finish(outcome.key, outcome.rows or [], seconds=outcome.seconds)
        yield outcome


def one_by_one(keys: Iterable[Any], cell: Callable[[Any], Sequence[Mapping[str, Any]]]) -> Iterator[Outcome]:
    """cell(key) for each key, one after another in this process; what a cell raises ends the run."""
    for key in keys:
        began = time.perf_counter()
        rows = list(cell(key))
        yield Outcome(key, time.perf_counter() - began, rows=rows)
