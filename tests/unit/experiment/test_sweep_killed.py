"""sweep/: killed at any moment and started again, it gives the same bytes and computes no kept cell again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.thinned import more
from tests.unit.experiment import toy_sweep
from tests.unit.experiment.killed_sweeps import FAILING, FEW, MANY, TOY
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.grid import Grid

ROOT = Path(__file__).parents[3]


def table(grid: Grid, folder: Path) -> bytes:
    """The bytes that `record.write` gives for the rows of all cells at once: no cells, another order."""
    rows = []
    for config in reversed(grid.configs()):
        swept = grid.columns(config)
        rows += [{**swept, **row} for row in toy_sweep.rows(toy_sweep.Config(**config))]
    identity = {"config": grid.identity(), "results_version": 1, "may_be_missing": ("root",)}
    return results_file.write("expected", rows, **identity, seconds=1.0, folder=folder).read_bytes()


def really_killed(mode: str, folder: Path, *more: str) -> list[dict]:
    program = [sys.executable, Path(__file__).with_name("killed_sweeps.py"), mode, folder, *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, check=True, capture_output=True, env=environment)
    return json.loads(done.stdout)


def begun(lines: list[str]) -> list[str]:
    return sorted(line.removeprefix("begin ") for line in lines if line.startswith("begin"))


def cells_of(grid: Grid) -> list[str]:
    return sorted(f"{c['x']} {tuple(c.get('etas', (0.5,)))}" for c in grid.configs())


@more
def test_sigkill_at_every_file_operation_loses_no_cell_and_computes_no_kept_one_again(tmp_path):
    *killed, last = really_killed("every", tmp_path / "every")
    assert {fact["status"] for fact in killed} == {-9} and last["status"] == 0
    # Each operation was met: those of the lock, of three cells, of the result, and of the removals.
    assert len(killed) > 50
    expected = table(FEW, tmp_path).hex()
    for fact in [*killed, last]:
        assert fact["again"] == 0 and sorted(fact["files"]) == ["toy.json", "toy.parquet"]
        assert fact["files"]["toy.parquet"] == expected
        assert not set(begun(fact["after"])) & set(fact["kept"])
    # Killed in the middle it computes the rest and nothing else; killed after its end, nothing.
    assert {len(fact["kept"]) for fact in killed} == {0, 1, 2, 3}
    for fact in killed:
        assert begun(fact["after"]) in (sorted(set(cells_of(FEW)) - set(fact["kept"])), [])
    assert last["after"] == [""]


@more
def test_sigkill_at_every_file_operation_of_a_sweep_with_a_failing_cell(tmp_path):
    *killed, last = really_killed("failing", tmp_path / "failing")
    assert {fact["status"] for fact in killed} == {-9} and last["status"] == 0
    assert len(killed) > 35
    for fact in [*killed, last]:
        assert fact["again"] == 0 and "toy.parquet" not in fact["files"]
        assert not any(name.endswith((".part", ".lock")) for name in fact["files"])
        assert fact["files"]["toy.failures.json"] == last["files"]["toy.failures.json"]
        # The failed cell is tried again, the finished ones are not.
        assert begun(fact["after"]) == sorted(set(cells_of(FAILING)) - set(fact["kept"]))
    (failure,) = json.loads(bytes.fromhex(last["files"]["toy.failures.json"]))
    assert failure["cell"] == {"x": -1} and failure["message"] == "no -1 today"


@more
@pytest.mark.parametrize("repetitions", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_process_tree_killed_at_random_ends_with_the_same_bytes_every_time(tmp_path, repetitions):
    facts = really_killed("random", tmp_path / "random", str(repetitions))
    expected = table(MANY, tmp_path).hex()
    assert len(facts) == repetitions and {fact["status"] for fact in facts} == {-9}
    for fact in facts:
        assert fact["again"] == 0 and sorted(fact["files"]) == ["toy.json", "toy.parquet"]
        assert fact["files"]["toy.parquet"] == expected
        # Every cell that was not on the disk is computed once more, and only those.
        assert begun(fact["after"]) in (sorted(set(cells_of(MANY)) - set(fact["kept"])), [])
    # The kills came before, between and after cells.
    assert len({len(fact["kept"]) for fact in facts}) >= (4 if repetitions == 20 else 2)


def start(*arguments: str, log: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a terminal starts it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SWEEP_LOG": str(log)}
    return subprocess.Popen(
        [sys.executable, "-m", "ticgrpo_theory.cli", "sweep", TOY, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, Ctrl-C is ignored, and so it would be in the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def text(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def state(pid: int) -> str:
    """Empty where the process is gone, Z where only its exit status is left."""
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout


def test_ctrl_c_leaves_everything_whole_and_the_same_command_goes_on(tmp_path):
    log = tmp_path / "log"
    options = ("--grid", "x=1,2,3,4,5,6", "--results", str(tmp_path), "--name", "t", "--jobs", "2")
    process = start(*options, "--set", "seconds=0.3", log=log)
    wait_for(lambda: "done" in text(log) or process.poll() is not None, "no cell was finished")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error" not in errors and "Traceback" not in errors
    left = sorted(path.suffix for path in tmp_path.rglob("t*") if path.is_file())
    kept = [json.loads(path.read_text())["key"]["x"] for path in (tmp_path / "t.cells").glob("*.json")]
    assert set(left) <= {".json"} and len(kept) < 6
    goes_on = (
        f"{len(kept)} of 6 cells are kept in {tmp_path / 't.cells'}; the same command goes on from there"
    )
    assert (
        f"interrupted: {goes_on if kept else 'no cell was finished; the same command begins anew'}" in errors
    )
    again = start(*options, "--set", "seconds=0.3", "--json", log=tmp_path / "again")
    printed, _ = again.communicate(timeout=60)
    summary = json.loads(printed)
    assert again.returncode == 0 and summary["kept"] == len(kept) and summary["computed"] == 6 - len(kept)
    assert text(tmp_path / "again").count("begin") == 6 - len(kept)


@more
def test_workers_end_when_the_process_that_wanted_their_results_is_killed(tmp_path):
    log = tmp_path / "log"
    options = ("--grid", "x=1,2", "--set", "seconds=50", "--results", str(tmp_path), "--jobs", "2")
    process = start(*options, log=log)
    wait_for(lambda: text(log).count("pid") == 2 or process.poll() is not None, "no cell was begun")
    workers = [int(line.split()[1]) for line in text(log).splitlines() if line.startswith("pid")]
    assert len(set(workers)) == 2 and process.pid not in workers
    process.kill()
    process.communicate()
    wait_for(lambda: all(state(pid).strip()[:1] in ("", "Z") for pid in workers), "a worker lives on")


@pytest.mark.parametrize("grid", [FEW, MANY], ids=["few", "many"])
def test_the_expected_bytes_are_told_apart_from_those_of_another_grid(grid, tmp_path):
    other = Grid(grid.experiment, grid.fixed, {**grid.values, "x": (1, 2, 7)})
    assert table(grid, tmp_path) != table(other, tmp_path)
