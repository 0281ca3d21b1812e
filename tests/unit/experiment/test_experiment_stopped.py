"""experiment.py: Ctrl-C, a full disk and folders in the place of files end in one line, and lose nothing."""

import itertools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tests.thinned import more
from tests.unit.experiment import faults
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Experiment, Folders


@dataclass(frozen=True)
class Config(Folders):
    """Numbers."""

    numbers: tuple[int, ...] = (1, 2, 3)


def made(cell=lambda cfg, key: [{"number": key}]) -> Experiment[Config]:
    return Experiment(
        name="numbers",
        version=1,
        config=Config,
        check=lambda cfg: None,
        keys=lambda cfg: cfg.numbers,
        cell=cell,
        show=lambda cfg, rows, console: None,
        draw=lambda rows: Figure(),
        what="numbers",
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["numbers"])
    return tmp_path


def stopped_in(key_of_stop: int):
    def cell(cfg: Config, key: int):
        if key == key_of_stop:
            raise KeyboardInterrupt
        return [{"number": key}]

    return cell


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (1, "no cell was finished; the same command begins anew"),
        (3, "2 of 3 cells are kept in results/numbers.cells; the same command goes on from there"),
    ],
)
def test_an_interrupted_run_says_what_is_kept_and_ends_as_a_shell_counts_it(capsys, at, left):
    with pytest.raises(SystemExit) as stop:
        made(stopped_in(at)).command("Numbers.")
    assert stop.value.code == 130 and capsys.readouterr().err == f"interrupted: {left}\n"
    made().command("Numbers.")
    assert "3 rows in results/numbers.parquet" in " ".join(capsys.readouterr().out.split())


def test_cells_from_before_an_edit_of_the_script_are_refused(folder, monkeypatch):
    with pytest.raises(SystemExit):
        made(stopped_in(3)).command("Numbers.")
    monkeypatch.setattr(experiment, "files_of", lambda script: {"numbers.py": "another"})
    with pytest.raises(
        SystemExit, match=r"error: results/numbers.cells holds cells from before .*numbers.py"
    ):
        made().command("Numbers.")


@more
def test_a_full_disk_at_any_moment_is_one_line_and_the_next_start_ends_alike(folder, capsys):
    made().command("Numbers.")
    rows, picture = folder / "results" / "numbers.parquet", folder / "figures" / "numbers.png"
    expected = rows.read_bytes(), picture.read_bytes()
    met = 0
    for n in itertools.count(1):
        where = ["numbers", "--results", str(folder / f"r{n}"), "--figures", str(folder / f"f{n}")]
        sys.argv = where
        try:
            with faults.at_operation(n, faults.disk_full) as done:
                made().command("Numbers.")
        except SystemExit as stop:
            met += 1
            assert str(stop.code).startswith("error: ") and "No space left on device" in str(stop.code)
            assert "\n" not in str(stop.code)
        if len(done) < n:
            break
        made().command("Numbers.")
        found = (folder / f"r{n}" / rows.name).read_bytes(), (folder / f"f{n}" / picture.name).read_bytes()
        assert found == expected
    assert n > 30 and met > 15


def test_an_old_figure_stays_where_a_new_one_cannot_be_written(folder):
    path = folder / "old.png"
    path.write_bytes(b"old")
    with faults.at_operation(3, faults.disk_full), pytest.raises(OSError, match=r"No space left .* old\.png"):
        experiment.save(Figure(), path)
    assert path.read_bytes() == b"old" and list(folder.glob("*.part")) == []


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("results/numbers.parquet", "results/numbers.parquet is a folder, in the place of a file"),
        ("results/numbers.json", "results/numbers.json is a folder, in the place of a file"),
        ("figures/numbers.png", "figures/numbers.png is a folder, in the place of the figure"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_computed(folder, taken, said):
    (folder / taken).mkdir(parents=True)
    computed = []
    with pytest.raises(SystemExit, match=said):
        made(lambda cfg, key: computed.append(key) or [{"number": key}]).command("Numbers.")
    assert not computed


@more
def test_a_table_is_readable_where_stdout_knows_ascii_alone(folder):
    ascii_only = {"PYTHONIOENCODING": "ascii", "COLUMNS": "60", "PATH": "/usr/bin"}
    command = [
        sys.executable,
        "-m",
        "ticgrpo_theory.cli",
        "gradient",
        "--world",
        "xor",
        "--estimator",
        "grpo",
    ]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=ascii_only, capture_output=True, check=True)
    assert b"||E g||" in done.stdout and b"+---" in done.stdout and done.stdout.isascii()
