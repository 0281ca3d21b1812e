"""`ticgrpo`: commands as a user types them, their exit codes, and what they print."""

import json
import shlex
import tomllib
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from experiments import bias_vs_K
from tests.thinned import one_in
from tests.unit.experiment.killed_sweeps import TOY
from ticgrpo_theory.cli import main
from ticgrpo_theory.experiment.atomic import holding

ROOT = Path(__file__).parents[2]
SERIAL = ("--backend", "sequential")


def run(*args: str) -> int:
    try:
        return main.main(args)
    except SystemExit as stop:
        return int(stop.code or 0)


def said(capsys) -> str:
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).replace("│", " ").split())


def test_the_console_script_is_this_function():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["ticgrpo"].partition(":")
    assert getattr(import_module(module), function) is main.main


def test_help_names_every_command_and_every_option(capsys):
    assert run("--help") == 0
    printed = said(capsys)
    assert all(command in printed for command in main.COMMANDS)
    assert run("sweep", "--help") == 0
    printed = said(capsys)
    for option in ("grid", "set", "name", "results", "backend", "jobs", "address", "json"):
        assert f"--{option}" in printed
    for words in ("Once for each field", "Exit code: 0", "ticgrpo sweep bias_vs_K", "only what is missing"):
        assert words in printed


def test_no_command_and_an_unknown_option_are_errors_of_usage(capsys):
    assert run() == 2 and run("sweep", TOY, "--gird", "x=1") == 2
    assert "--grid" in said(capsys)


def test_a_sweep_from_the_command_line_says_where_its_table_is(tmp_path, capsys):
    options = ("--grid", "x=1,2", "--grid", "etas=0.1,0.2", "--results", str(tmp_path), *SERIAL)
    assert run("sweep", TOY, *options) == 0
    assert f"4 cells, 80 rows in {tmp_path}/sweeps/toy_sweep.parquet" in said(capsys)
    assert run("sweep", TOY, *options) == 0
    assert "4 cells (4 were there), 80 rows" in said(capsys)


def test_a_sweep_from_a_file_takes_what_the_command_line_says_of_the_same_field(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(f"experiment: {TOY}\nfixed: {{x: 3}}\ngrid: {{etas: [0.1, 0.2], name: [a, b]}}")
    assert run("sweep", str(path), "--results", str(tmp_path), *SERIAL) == 0
    about = json.loads((tmp_path / "sweeps" / "mine.json").read_text())
    assert about["config"]["grid"] == {"etas": [[0.1], [0.2]], "name": ["a", "b"]}
    changed = ("--grid", "x=1,2", "--set", "etas=0.3,0.4", "--name", "changed")
    assert run("sweep", str(path), *changed, "--results", str(tmp_path), *SERIAL) == 0
    about = json.loads((tmp_path / "changed.json").read_text())
    assert about["config"]["grid"] == {"name": ["a", "b"], "x": [1, 2]}
    assert about["config"]["fixed"]["etas"] == [0.3, 0.4]


def test_json_is_the_summary_and_nothing_else(tmp_path, capsys):
    options = ("--results", str(tmp_path), "--json", *SERIAL)
    assert run("sweep", TOY, "--grid", "x=1,2", *options) == 0
    summary = json.loads(capsys.readouterr().out)
    table = str(tmp_path / "sweeps" / "toy_sweep.parquet")
    assert summary.pop("seconds") >= 0
    assert summary == {
        "name": "sweeps/toy_sweep",
        "cells": 2,
        "kept": 0,
        "computed": 2,
        "failed": [],
        "table": table,
        "rows": 40,
        "failures": None,
    }


def test_failed_cells_are_listed_and_the_exit_code_says_so(tmp_path, capsys):
    options = ("--set", "fail=raises", "--results", str(tmp_path), "--name", "t", *SERIAL)
    assert run("sweep", TOY, "--grid", "x=1,-1,-2", *options) == 1
    printed = said(capsys)
    assert "failed: {'x': -1}: ZeroDivisionError: no -1 today" in printed and "{'x': -2}" in printed
    assert f"2 of 3 cells failed, and there is no table until .* {tmp_path}".split(" .* ")[0] in printed
    assert f"{tmp_path}/t.failures.json, the same command tries them again" in printed
    assert run("sweep", TOY, "--grid", "x=1,-1,-2", "--json", *options) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["kept"], summary["computed"], summary["table"]) == (1, 0, None)
    assert [failure["cell"] for failure in summary["failed"]] == [{"x": -1}, {"x": -2}]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("bias_vs_k", "--grid", "K=1"), "error: unknown experiment 'bias_vs_k'; nearest names: bias_vs_K"),
        ((TOY, "--grid", "X=1"), "error: toy_sweep has no field 'X'; the nearest is"),
        ((TOY,), "error: the grid is empty; vary at least one field"),
        ((TOY, "--grid", "x=1", "--jobs", "0"), "error: jobs = 0: it takes at least 1 worker"),
        (
            (TOY, "--grid", "x=1", "--address", "a:1"),
            "error: address = 'a:1' is of a cluster, and loky has none",
        ),
        ((TOY, "--grid", "x=1", "--name", "../up"), "error: '../up' cannot name a result"),
        (("absent.yaml",), "error: absent.yaml cannot be read"),
        ((TOY, "--grid", "x=1", "--results", __file__), "error: results = "),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    assert run("sweep", *args) == 1
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not list(tmp_path.rglob("*.parquet"))


def test_two_at_once_are_refused_by_exit_code_1(tmp_path, capsys):
    with holding(tmp_path / "t.lock"):
        options = ("--grid", "x=1", "--name", "t", "--results", str(tmp_path), *SERIAL)
        assert run("sweep", TOY, *options) == 1
    assert "error: another sweep is at work on" in said(capsys)


def test_an_interruption_is_told_from_a_failure(monkeypatch, capsys):
    def interrupted(what: str, /) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(main.COMMANDS, "sweep", interrupted)
    assert run("sweep", "a") == 130
    assert "interrupted: what is finished is kept" in said(capsys)


def test_another_command_is_one_entry(monkeypatch, capsys):
    def double(number: int, /, *, json: bool = False) -> int:
        """Twice the number."""
        print(2 * number)
        return 0

    monkeypatch.setitem(main.COMMANDS, "double", double)
    assert run("double", "21") == 0
    assert capsys.readouterr().out == "42\n"


def readme_sweeps() -> list[list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("    ticgrpo sweep ")]


@pytest.mark.parametrize("args", one_in(2, readme_sweeps()), ids=" ".join)
def test_every_sweep_that_the_readme_shows_runs(tmp_path, monkeypatch, capsys, args):
    monkeypatch.chdir(ROOT)
    assert run(*args, "--results", str(tmp_path), *SERIAL) == 0
    (table,) = tmp_path.rglob("*.parquet")
    assert f"rows in {table}" in said(capsys)


def test_the_table_of_the_readme_is_where_it_says_and_agrees_with_the_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (args,) = [args for args in readme_sweeps() if args[1] == "bias_vs_K"]
    assert run(*args, "--results", str(tmp_path), *SERIAL) == 0
    made = pd.read_parquet(tmp_path / "sweeps" / "bias_vs_K.parquet")
    assert {"swept_K", "swept_etas"} <= set(made.columns)
    assert (made.swept_etas == made.eta).all() and (made.groupby("swept_K").k.max() == [1, 2]).all()
    cfg = bias_vs_K.Config(worlds=("xor",), estimators=("grpo", "tic_grpo"), K=2, etas=(0.2,))
    one = made[(made.swept_K == 2) & (made.swept_etas == 0.2)].drop(columns=["swept_K", "swept_etas"])
    by = ["estimator", "k"]
    pd.testing.assert_frame_equal(
        one.sort_values(by, ignore_index=True),
        pd.DataFrame(bias_vs_K.rows(cfg)).sort_values(by, ignore_index=True),
        check_exact=True,
    )
