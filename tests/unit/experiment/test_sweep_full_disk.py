"""sweep/: a disk that is full at any file operation, and one that takes a few bytes at a time."""

import io
import itertools
from pathlib import Path

from rich.console import Console

from tests.thinned import more
from tests.unit.experiment import faults
from tests.unit.experiment.killed_sweeps import FEW, TOY
from ticgrpo_theory.experiment.grid import Grid, make
from ticgrpo_theory.experiment.sweep import Summary, sweep
from ticgrpo_theory.experiment.workers import workers


def run(folder: Path, grid: Grid = FEW) -> Summary:
    return sweep("toy", grid, workers("sequential"), folder=folder, console=Console(file=io.StringIO()))


@more
def test_a_full_disk_at_every_file_operation_loses_nothing_and_computes_no_kept_cell_again(
    tmp_path, monkeypatch
):
    log = tmp_path / "log"
    monkeypatch.setenv("SWEEP_LOG", str(log))
    run(tmp_path / "undisturbed")
    expected = (tmp_path / "undisturbed" / "toy.parquet").read_bytes()
    stopped = 0
    for n in itertools.count(1):
        folder = tmp_path / str(n)
        log.write_text("")
        try:
            with faults.at_operation(n, faults.disk_full) as done:
                run(folder)
        except (OSError, ValueError) as error:
            assert "No space left on device" in str(error)
            stopped += 1
            kept = len(list((folder / "toy.cells").glob("*.json")))
            assert run(folder).computed in (3 - kept, 0)
        if len(done) < n:
            break
        if (folder / "toy.lock").exists():  # its removal failed: it locks nobody out, and the next takes it
            assert run(folder).computed == 0
        assert (folder / "toy.parquet").read_bytes() == expected
        assert sorted(path.name for path in folder.rglob("*")) == ["toy.json", "toy.parquet"]
        # One cell at most is in flight when the disk is full; it alone may be computed twice.
        assert log.read_text().count("begin") <= 4
    assert n > 50 and stopped > 35


def test_a_full_disk_at_every_file_operation_of_a_sweep_with_a_failing_cell(tmp_path):
    grid = make(TOY, {"fail": "raises"}, {"x": [1, -1]})
    run(tmp_path / "undisturbed", grid)
    expected = (tmp_path / "undisturbed" / "toy.failures.json").read_bytes()
    for n in itertools.count(1):
        folder = tmp_path / str(n)
        try:
            with faults.at_operation(n, faults.disk_full) as done:
                run(folder, grid)
        except (OSError, ValueError) as error:
            assert "No space left on device" in str(error)
        if not (folder / "toy.failures.json").exists() or (folder / "toy.lock").exists():
            run(folder, grid)  # not above, where the error of the disk would be in the traceback of the cell
        if len(done) < n:
            break
        assert (folder / "toy.failures.json").read_bytes() == expected
        assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.lock"))
    assert n > 25


def test_writes_that_take_seven_bytes_at_a_time_arrive_whole(tmp_path):
    run(tmp_path / "undisturbed")
    with faults.short_writes(7):
        run(tmp_path / "short")
    short, undisturbed = ((tmp_path / x / "toy.parquet").read_bytes() for x in ("short", "undisturbed"))
    assert short == undisturbed
