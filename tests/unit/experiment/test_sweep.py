"""experiment/sweep.py: one table of all cells, or a list of the failed ones; what does not fit is refused."""

import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from tests.unit.experiment import faults, toy_sweep
from tests.unit.experiment.killed_sweeps import FEW, TOY
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.atomic import holding
from ticgrpo_theory.experiment.grid import Grid, make
from ticgrpo_theory.experiment.sweep import Summary, sweep
from ticgrpo_theory.experiment.workers import workers


def run(folder: Path, grid: Grid = FEW, name: str = "toy", **pool) -> Summary:
    chosen = {"backend": "sequential", **pool}
    return sweep(name, grid, workers(**chosen), folder=folder, console=Console(file=io.StringIO()))


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("SWEEP_LOG", str(path))
    return path


def count(log: Path, word: str) -> int:
    return sum(line.startswith(word) for line in log.read_text().splitlines())


def test_the_table_holds_the_rows_of_every_cell_and_says_which_they_are(tmp_path):
    grid = make(TOY, {"name": "n"}, {"x": [1, 2], "etas": [0.1, [0.1, 0.2]]})
    summary = run(tmp_path, grid)
    made = pd.read_parquet(tmp_path / "toy.parquet")
    assert list(made.columns) == ["swept_x", "swept_etas", "eta", "k", "root", "y"]
    # 20 values of k for each eta: x = 2 with two etas has 40 rows, y = eta k x / 3.
    of = made[(made.swept_x == 2) & (made.swept_etas == "0.1, 0.2")]
    assert len(of) == 40 and (of.y == of.eta * of.k * 2 / 3).all() and set(of.eta) == {0.1, 0.2}
    assert (summary.cells, summary.kept, summary.computed, summary.failed) == (4, 0, 4, [])
    assert summary.rows == len(made) == 2 * 20 + 2 * 40
    about = json.loads((tmp_path / "toy.json").read_text())
    assert about["config"] == {
        "experiment": "toy_sweep",
        "grid": {"x": [1, 2], "etas": [[0.1], [0.1, 0.2]]},
        "fixed": {"name": "n", "fail": "", "seconds": 0.0},
    }


def test_the_order_of_completion_does_not_reach_the_table(tmp_path, monkeypatch):
    run(tmp_path / "a")
    monkeypatch.setattr("ticgrpo_theory.experiment.workers.Pool.outcomes", backwards)
    run(tmp_path / "b")
    a, b = ((tmp_path / folder / "toy.parquet").read_bytes() for folder in "ab")
    assert a == b


def backwards(self, source, tasks):
    return reversed(list(self._together(source, tasks)))


def test_a_complete_sweep_started_again_computes_nothing(tmp_path, log):
    run(tmp_path / "r")
    before = (tmp_path / "r" / "toy.parquet").stat().st_mtime_ns
    summary = run(tmp_path / "r")
    assert (summary.kept, summary.computed, summary.rows) == (3, 0, 60) and count(log, "begin") == 3
    assert (tmp_path / "r" / "toy.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize(("fail", "kind"), [("raises", "ZeroDivisionError"), ("exits", "SystemExit")])
def test_a_cell_that_fails_is_recorded_the_rest_goes_on_and_only_it_is_tried_again(
    tmp_path, log, fail, kind, monkeypatch
):
    grid = make(TOY, {"fail": fail}, {"x": [1, -1, 2]})
    summary = run(tmp_path / "r", grid)
    assert summary.computed == 2 and summary.table is None and not (tmp_path / "r" / "toy.parquet").exists()
    (failure,) = json.loads((tmp_path / "r" / "toy.failures.json").read_text())
    assert failure == summary.failed[0]
    assert failure["cell"] == {"x": -1} and failure["type"] == kind
    assert "Traceback" in failure["traceback"] and "toy_sweep.py" in failure["traceback"]
    assert count(log, "begin") == 3
    # Mended, it is the only one that is computed again.
    monkeypatch.setitem(grid.experiment.rows.__globals__["FAILURES"], fail, lambda cfg: None)
    summary = run(tmp_path / "r", grid)
    assert (summary.kept, summary.computed, summary.failed) == (2, 1, []) and count(log, "begin") == 4
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["toy.json", "toy.parquet"]


def test_an_interruption_is_no_failure_of_the_cell(tmp_path, monkeypatch):
    def interrupted(cfg):
        raise KeyboardInterrupt

    grid = make(TOY, {"fail": "raises"}, {"x": [1, -1, 2]})
    monkeypatch.setitem(grid.experiment.rows.__globals__["FAILURES"], "raises", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, grid)
    (cell,) = (tmp_path / "toy.cells").glob("*.json")
    assert json.loads(cell.read_text())["key"] == {"x": 1}


USERS = """
from dataclasses import dataclass
RESULTS_VERSION = 1
@dataclass(frozen=True)
class Config:
    x: int = 0
def rows(cfg: Config):
    print("said by rows")
    return {rows}
"""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[{'y': float('nan')}]", "column 'y' of row 0 is nan"),
        ("[]", "there are 0 rows"),
        ("[1]", r"rows(cfg) gave 1 (int); a row is a dict"),
        ("3", "gave 3 (int), which is no list of rows"),
        ("[{'y': object}]", "a result holds bool, int below 2**63, float and str"),
        ("[{'swept_x': 1}]", "has a column 'swept_x', which names the field of the grid; rename it"),
    ],
)
def test_rows_that_cannot_be_a_result_are_a_failure_of_their_cell(tmp_path, rows, message, capsys):
    path = tmp_path / "mine.py"
    path.write_text(USERS.format(rows=f"{rows} if cfg.x else [{{'y': 1.0}}]"))
    summary = run(tmp_path, make(str(path), {}, {"x": [0, 1]}))
    (failure,) = summary.failed
    assert failure["cell"] == {"x": 1} and message in failure["message"]
    # What rows prints must not mix with the summary.
    assert "said by rows" not in capsys.readouterr().out


def test_cells_with_other_columns_are_refused_by_name_and_kept(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USERS.format(rows="[{'y' if cfg.x else 'z': 1.0}]"))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"cell \{'x': 1\} has the columns \['swept_x', 'y'\], \{'x': 0\}"
        ):
            run(tmp_path, make(str(path), {}, {"x": [0, 1]}))
    assert len(list((tmp_path / "toy.cells").glob("*.json"))) == 2


def test_results_and_cells_of_another_grid_or_version_are_refused_by_name(tmp_path):
    other = make(TOY, {"name": "other"}, {"x": [1, 2, 3]})
    run(tmp_path / "whole")
    before = (tmp_path / "whole" / "toy.parquet").read_bytes()
    with pytest.raises(
        ValueError,
        match=r"toy.parquet is of another configuration \(fixed: .*choose another --name, or delete",
    ):
        run(tmp_path / "whole", other)
    assert (tmp_path / "whole" / "toy.parquet").read_bytes() == before
    failing = make(TOY, {"fail": "raises"}, {"x": [1, -1]})
    run(tmp_path / "cells", failing)
    with pytest.raises(ValueError, match=r"toy\.cells holds cells of another configuration"):
        run(tmp_path / "cells")


def test_a_raised_results_version_is_refused_by_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USERS.format(rows="[{'y': 1.0}]"))
    run(tmp_path, make(str(path), {}, {"x": [0, 1]}))
    newer = tmp_path / "newer" / "mine.py"
    newer.parent.mkdir()
    newer.write_text(path.read_text().replace("RESULTS_VERSION = 1", "RESULTS_VERSION = 2"))
    with pytest.raises(ValueError, match=r"toy.parquet has RESULTS_VERSION 1, not 2; nothing is mixed"):
        run(tmp_path, make(str(newer), {}, {"x": [0, 1]}))


@pytest.mark.parametrize("damaged", ["toy.json", "toy.parquet"])
def test_a_damaged_result_without_its_cells_is_refused_and_not_overwritten(tmp_path, damaged):
    run(tmp_path)
    (tmp_path / damaged).write_bytes(b"{")
    with pytest.raises(ValueError, match="choose another --name, or delete that result"):
        run(tmp_path)


def test_a_second_sweep_of_the_same_name_is_refused_and_one_of_another_is_not(tmp_path):
    with holding(tmp_path / "toy.lock"):
        with pytest.raises(
            ValueError, match=r"another sweep is at work on .*toy; wait for its end, or choose"
        ):
            run(tmp_path)
        assert not (tmp_path / "toy.cells").exists() and (tmp_path / "toy.lock").exists()
        assert run(tmp_path, name="other").computed == 3
    assert run(tmp_path).computed == 3


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, log):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"results = .*below cannot be written \(Not a directory\): name another"
    ):
        run(tmp_path / "file" / "below")
    assert count(log, "begin") == 0


def test_a_lock_file_left_by_a_killed_process_is_taken_over_and_removed(tmp_path):
    (tmp_path / "toy.lock").write_text("")
    run(tmp_path)
    assert not (tmp_path / "toy.lock").exists()


def test_a_lock_whose_file_is_removed_before_it_is_held_is_taken_anew(tmp_path, monkeypatch):
    real = faults.fcntl.flock
    taken = []

    def removed(descriptor, how):
        real(descriptor, how)
        taken.append(descriptor)
        if len(taken) == 1:  # the process that held it before ends at this moment
            os.unlink(tmp_path / "lock")

    monkeypatch.setattr(faults.fcntl, "flock", removed)
    with holding(tmp_path / "lock"):
        assert len(taken) == 2 and (tmp_path / "lock").exists()
        monkeypatch.undo()
        with pytest.raises(BlockingIOError), holding(tmp_path / "lock"):
            pass


def test_progress_counts_failures_and_says_what_time_is_left(tmp_path):
    shown = io.StringIO()
    grid = make(TOY, {"fail": "raises"}, {"x": [1, -1]})
    sweep("toy", grid, workers("sequential"), folder=tmp_path, console=Console(file=shown, width=120))
    line = " ".join(shown.getvalue().split())
    assert "toy" in line and "2/2 cells, 1 failed, 0:00:0" in line and line.endswith("left")


def test_the_experiment_is_called_once_for_each_cell_with_the_type_of_its_config(tmp_path):
    run(tmp_path)
    made = results_file.read("toy", config=FEW.identity(), results_version=1, folder=tmp_path)
    expected = [row | {"swept_x": x} for x in (1, 2, 3) for row in toy_sweep.rows(toy_sweep.Config(x))]
    columns = list(made.columns)
    pd.testing.assert_frame_equal(
        made.sort_values(columns, ignore_index=True),
        pd.DataFrame(expected)[columns].sort_values(columns, ignore_index=True),
        check_exact=True,
    )


def test_torch_has_one_thread_in_a_cell(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\n" + USERS.format(rows="[{'threads': torch.get_num_threads()}]"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(tmp_path, make(str(path), {}, {"x": [0]}))
    finally:
        torch.set_num_threads(before)
    assert list(pd.read_parquet(tmp_path / "toy.parquet").threads) == [1]
