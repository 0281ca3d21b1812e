"""experiments/bias_vs_K.py as a command: what it refuses, writes and prints, and a run that is killed."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tyro

from experiments.bias_vs_K import EXPERIMENT, Config, main, rows, trace
from tests.thinned import more
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.experiment.results_file import read
from ticgrpo_theory.worlds import WORLDS

KEY = ["world", "estimator", "eta", "k"]

TINY = Config(worlds=("xor",), estimators=("grpo", "trajectory_is"), etas=(0.5,), K=2, group_size=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": 0}, r"K = 0: it takes at least 1 inner step .* --K 1"),
        ({"etas": (0.1, 0.0)}, r"eta = 0.0: .* above 0; give for instance --etas 0.1"),
        ({"etas": (-1.0,)}, r"eta = -1.0: "),
        ({"etas": (math.inf,)}, r"eta = inf: .* finite"),
        ({"etas": (math.nan,)}, r"eta = nan: .* finite"),
        ({"etas": ()}, r"etas = \(\): give at least one"),
        ({"worlds": ("xor", "xor")}, r"worlds = \('xor', 'xor'\): .* none twice"),
        (
            {"worlds": ("right-answers",)},
            r"unknown entry 'right-answers' of worlds; the nearest is 'right-answer'",
        ),
        ({"estimators": ("grppo",)}, r"unknown entry 'grppo' of estimators; the nearest is 'grpo'"),
        ({"group_size": 1}, r"leave_one_out.* group of 1; .* group_size >= 2"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(TINY, **change))


@pytest.mark.parametrize("option", ["results", "figures"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, option):
    (tmp_path / "file").write_text("")
    folders = {"results": tmp_path / "r", "figures": tmp_path / "f"} | {option: tmp_path / "file" / "below"}
    with pytest.raises(
        ValueError, match=rf"{option} = .*below cannot be written \(Not a directory\): .*--{option}"
    ):
        main(dataclasses.replace(TINY, **folders))
    assert not list(tmp_path.rglob("*.cells"))


def test_main_writes_the_rows_and_the_figure_and_prints_the_table(tmp_path, capsys):
    main(dataclasses.replace(TINY, results=tmp_path / "results", figures=tmp_path / "figures"))
    made = read(EXPERIMENT.name, config=TINY, folder=tmp_path / "results").sort_values(KEY, ignore_index=True)
    expected = pd.DataFrame(rows(TINY)).sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(made, expected, check_exact=True)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        f"{EXPERIMENT.name}.json",
        f"{EXPERIMENT.name}.parquet",
    ]
    assert (
        "results" not in json.loads((tmp_path / "results" / f"{EXPERIMENT.name}.json").read_text())["config"]
    )
    picture = (tmp_path / "figures" / f"{EXPERIMENT.name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("trajectory_is", "exact", "xor", "by dynamic_programming"))


def run(*arguments: str) -> subprocess.Popen[str]:
    """The script as a user starts it, in a process of its own."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(root / "experiments" / "bias_vs_K.py"), *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@more
def test_a_run_that_is_killed_and_started_again_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    cfg = dataclasses.replace(TINY, estimators=FIRST[:10], K=12, group_size=4)
    names = ("--worlds", *cfg.worlds, "--estimators", *cfg.estimators, "--etas", "0.5", "--K", "12")
    folders = ("--results", str(tmp_path / "killed"), "--figures", str(tmp_path))
    process = run(*names, "--group-size", "4", *folders)
    cells = tmp_path / "killed" / f"{EXPERIMENT.name}.cells"
    deadline = time.monotonic() + 120
    while len(list(cells.glob("*.json"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = list(cells.glob("*.json"))
    assert 2 <= len(done) < 10 and not (tmp_path / "killed" / f"{EXPERIMENT.name}.parquet").exists()
    for folder in ("killed", "undisturbed"):
        main(dataclasses.replace(cfg, results=tmp_path / folder, figures=tmp_path))
    first, second = (tmp_path / folder / f"{EXPERIMENT.name}.parquet" for folder in ("killed", "undisturbed"))
    assert first.read_bytes() == second.read_bytes() and not cells.exists()


def test_cells_of_another_configuration_are_refused_and_not_mixed(tmp_path, monkeypatch):
    cfg = dataclasses.replace(TINY, results=tmp_path, figures=tmp_path)
    calls = []

    def dies(cfg, world, name):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return trace(cfg, world, name)

    monkeypatch.setattr("experiments.bias_vs_K.EXPERIMENT", dataclasses.replace(EXPERIMENT, cell=dies))
    with pytest.raises(KeyboardInterrupt):
        main(cfg)
    with pytest.raises(ValueError, match="cells of another configuration"):
        main(dataclasses.replace(cfg, K=3))
    main(cfg)
    # Only the cell that was in flight was computed again.
    assert calls == ["grpo", "trajectory_is", "trajectory_is"]


def test_help_documents_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        tyro.cli(Config, args=["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in ("worlds", "estimators", "etas", "K", "group-size", "results", "figures", "list"):
        assert f"--{option}" in printed
    for words in (
        "Learning rates eta",
        "Inner steps between",
        "Responses G in a group",
        "Folder of the figure",
    ):
        assert words in printed


def test_list_names_every_world_with_its_reason_and_every_estimator_with_its_source(capsys):
    main(Config(list=True))
    printed = capsys.readouterr().out
    for name in (*WORLDS, *FIRST):
        assert f" {name} " in printed
    assert "arXiv:2508.02833" in printed and "sparse reward" in printed


@more
def test_the_script_ends_with_one_line_and_no_traceback_on_bad_input(tmp_path):
    process = run("--worlds", "bigrams", "--results", str(tmp_path), "--figures", str(tmp_path))
    printed, _ = process.communicate()
    assert process.returncode == 1 and "Traceback" not in printed
    assert "error: unknown entry 'bigrams' of worlds; the nearest is 'bigram'" in printed
