"""cells.py: a run that dies at any file operation, started again, gives the bytes of an undisturbed one."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thinned import more
from tests.unit.experiment import faults
from tests.unit.experiment.killed_runs import IDENTITY, KEYS, rows_of, run
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.cells import Cells, one_by_one, run_cells
from ticgrpo_theory.experiment.sweep_cell import Outcome


@pytest.fixture
def undisturbed(tmp_path) -> bytes:
    """The bytes that `record.write` gives for all rows at once: no cells, and in another order."""
    rows = [row for key in reversed(KEYS) for row in rows_of(key)]
    path = results_file.write("long", rows, **IDENTITY, seconds=0.75, folder=tmp_path / "undisturbed")
    return path.read_bytes()


def really_killed(mode: str, folder: Path) -> list[dict]:
    here = Path(__file__)
    program = [sys.executable, here.with_name("killed_runs.py"), mode, folder]
    environment = {**os.environ, "PYTHONPATH": str(here.parents[3])}
    return json.loads(subprocess.run(program, check=True, stdout=subprocess.PIPE, env=environment).stdout)


@more
def test_sigkill_at_every_file_operation_loses_nothing(tmp_path, undisturbed):
    facts = really_killed("every", tmp_path / "every")
    *killed, last = facts
    assert {fact["status"] for fact in killed} == {-9} and last["status"] == 0
    # Each operation was met: those of three cells, of the result, and of the removal.
    assert len(killed) > 30
    for fact in facts:
        assert fact["again"] == 0 and fact["refusal"] is None
        assert bytes.fromhex(fact["rows"]) == undisturbed
        assert fact["files"] == ["long.json", "long.parquet"]
    # A kill costs at most the cell in flight; only the run that was not killed was made twice.
    assert {fact["begun"] for fact in killed} == {len(KEYS), len(KEYS) + 1}
    assert [fact["done_twice"] for fact in killed] == [[]] * len(killed)
    assert last["begun"] == 2 * len(KEYS)
    # Between its two files the result was refused, and not read as if it were whole.
    assert any((fact["after_kill"] or "").endswith("long.json does not exist") for fact in killed)


@more
def test_a_run_killed_again_and_again_ends_with_the_same_bytes_20_times_of_20(tmp_path, undisturbed):
    facts = really_killed("random", tmp_path / "random")
    assert len(facts) == 20 and sum(fact["kills"] for fact in facts) > 40
    for fact in facts:
        assert bytes.fromhex(fact["rows"]) == undisturbed
        assert fact["files"] == ["long.json", "long.parquet"] and fact["done_twice"] == []


def test_a_full_disk_at_every_file_operation_loses_nothing(tmp_path, undisturbed):
    for n in itertools.count(1):
        folder = tmp_path / str(n)
        try:
            with faults.at_operation(n, faults.disk_full) as done:
                run(folder)
        except OSError as error:
            assert "No space left on device" in str(error)
            run(folder)
        if len(done) < n:
            break
        assert (folder / "long.parquet").read_bytes() == undisturbed
        assert sorted(path.name for path in folder.rglob("*")) == ["long.json", "long.parquet"]
        log = folder.with_suffix(".log").read_text().split("\n")
        assert all(log.count(line) == 1 for line in log if line.startswith("done"))
    assert n > 30


def test_only_missing_cells_are_computed_and_the_seconds_of_both_runs_are_added(tmp_path, undisturbed):
    Cells("long", KEYS, **IDENTITY, folder=tmp_path).finish(KEYS[1], rows_of(KEYS[1]), seconds=2.0)
    work = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
    assert work.missing == [KEYS[0], KEYS[2]]
    for key in work.missing:
        work.finish(key, rows_of(key), seconds=1.0)
    assert work.write().read_bytes() == undisturbed
    assert json.loads((tmp_path / "long.json").read_text())["seconds"] == 4.0
    assert not (tmp_path / "long.cells").exists()


def test_a_finished_run_started_again_computes_every_cell_anew(tmp_path):
    run(tmp_path / "r")
    assert Cells("long", KEYS, **IDENTITY, folder=tmp_path / "r").missing == KEYS


def test_a_result_that_is_written_can_be_written_again(tmp_path, undisturbed):
    work = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
    for _ in run_cells(work, one_by_one(work.missing, rows_of)):
        assert not work.written
    for _ in range(2):
        assert work.write().read_bytes() == undisturbed and work.written and work.missing == []


def test_an_outcome_is_on_the_disk_before_it_is_yielded_and_an_error_leaves_its_cell_missing(tmp_path):
    work = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
    fault = {"type": "ValueError", "message": "no", "traceback": ""}
    outcomes = [Outcome(KEYS[0], 1.0, rows=rows_of(KEYS[0])), Outcome(KEYS[1], 2.0, error=fault)]
    for outcome in run_cells(work, outcomes):
        again = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
        assert KEYS[0] not in again.missing and KEYS[1] in again.missing
        assert again.failed == ([(KEYS[1], fault)] if outcome.error else [])
    assert work.missing == KEYS[1:]
    with pytest.raises(ValueError, match="there are 0 rows"):
        list(run_cells(work, [Outcome(KEYS[2], 0.0, rows=[])]))


def test_what_a_cell_raises_ends_the_run_and_the_finished_ones_stay(tmp_path):
    def dies(key):
        if key == KEYS[1]:
            raise ZeroDivisionError
        return rows_of(key)

    work = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
    with pytest.raises(ZeroDivisionError):
        list(run_cells(work, one_by_one(work.missing, dies)))
    assert Cells("long", KEYS, **IDENTITY, folder=tmp_path).missing == KEYS[1:]


def test_a_result_cannot_be_written_before_all_cells_are_finished(tmp_path):
    work = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
    work.finish(KEYS[0], rows_of(KEYS[0]), seconds=0.0)
    with pytest.raises(
        ValueError, match=r"'long' has 2 of 3 cells unfinished, the first \('tree', 0.2\); finish"
    ):
        work.write()
    assert not (tmp_path / "long.parquet").exists()


@pytest.mark.parametrize("other", [{"config": {"etas": [0.3]}}, {"results_version": 2}])
def test_cells_of_another_configuration_or_version_are_refused(tmp_path, other):
    Cells("long", KEYS, **IDENTITY, folder=tmp_path).finish(KEYS[0], rows_of(KEYS[0]), seconds=0.0)
    with pytest.raises(
        ValueError, match=r"long\.cells holds cells of another configuration or of another RESULTS"
    ):
        Cells("long", KEYS, **{**IDENTITY, **other}, folder=tmp_path)


def test_a_removal_left_by_another_configuration_does_not_pass_for_this_one(tmp_path):
    run(tmp_path / "r")
    (tmp_path / "r" / "long.merged").mkdir()
    other = {**IDENTITY, "results_version": 2}
    assert Cells("long", KEYS, **other, folder=tmp_path / "r").missing == KEYS
    (tmp_path / "r" / "long.merged").mkdir()
    assert Cells("long", KEYS, **IDENTITY, folder=tmp_path / "r").missing == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b"\xff"])
def test_a_damaged_cell_is_refused_by_name(tmp_path, content):
    Cells("long", KEYS, **IDENTITY, folder=tmp_path).finish(KEYS[0], rows_of(KEYS[0]), seconds=0.0)
    (path,) = (tmp_path / "long.cells").iterdir()
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{path.name} is not a finished cell .*; delete it and it is computed"
    ):
        Cells("long", KEYS, **IDENTITY, folder=tmp_path)


def test_keys_must_be_listed_and_distinct(tmp_path):
    with pytest.raises(ValueError, match="'long' lists 4 cells but only 3 keys; give each its own"):
        Cells("long", [*KEYS, KEYS[0]], **IDENTITY, folder=tmp_path)
    with pytest.raises(ValueError, match="'new' is not among the 3 cells of 'long'; list it in `keys`"):
        Cells("long", KEYS, **IDENTITY, folder=tmp_path).finish("new", rows_of(KEYS[0]), seconds=0.0)


def test_a_nan_is_refused_when_its_cell_is_finished_and_not_hours_later(tmp_path):
    with pytest.raises(ValueError, match="column 'bias' of row 0 is nan"):
        Cells("long", KEYS, **IDENTITY, folder=tmp_path).finish(
            KEYS[0], [{"bias": float("nan")}], seconds=0.0
        )


def test_a_cell_that_fails_is_kept_with_its_error_and_stays_missing_until_it_is_finished(tmp_path):
    error = {"type": "ZeroDivisionError", "message": "no eta", "traceback": "..."}
    Cells("long", KEYS, **IDENTITY, folder=tmp_path).fail(KEYS[1], error, seconds=1.0)
    work = Cells("long", KEYS, **IDENTITY, folder=tmp_path)
    assert work.failed == [(KEYS[1], error)] and work.missing == KEYS
    for key in KEYS:
        work.finish(key, rows_of(key), seconds=1.0)
    assert work.failed == [] and Cells("long", KEYS, **IDENTITY, folder=tmp_path).failed == []
    assert len(list((tmp_path / "long.cells").iterdir())) == len(KEYS)
    with pytest.raises(ValueError, match="'new' is not among the 3 cells of 'long'"):
        work.fail("new", error, seconds=0.0)
