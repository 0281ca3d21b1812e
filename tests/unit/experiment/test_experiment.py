"""experiment.py: what every experiment does alike, each one as a command, and figures from rows alone."""

import dataclasses
import functools
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import tyro
from matplotlib.figure import Figure

from experiments import bias_vs_drift, bias_vs_G, figures, length_bias, prompt_std_bias
from tests.thinned import only
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.experiment import Folders
from ticgrpo_theory.experiment.results_file import read

ROOT = Path(__file__).parents[3]

# The experiment, a Config that runs at once, words of its table, and the labels of its axes.
EXPERIMENTS = {
    "bias_vs_G": (
        bias_vs_G,
        bias_vs_G.Config(worlds=("xor", "three-values"), deltas=(0.0,), group_sizes=(2, 4, 8, 16)),
        ("exact", "three-values", "0.04591"),
        ("group size $G$ [responses]", r"[1 / logit]", "[(reward / logit)$^2$]"),
    ),
    "bias_vs_drift": (
        bias_vs_drift,
        bias_vs_drift.Config(worlds=("xor",), directions=("uphill",), drifts=(0.001, 0.002, 0.004, 0.008)),
        ("trajectory", "0.00 1.00", "with slopes from"),
        (r"drift $\Vert\theta - \theta_{\rm old}\Vert$ [logit]", "nearer gradient [1]"),
    ),
    "length_bias": (
        length_bias,
        length_bias.Config(estimators=("grpo", "tic_grpo"), deltas=(0.0,), group_sizes=(2, 4)),
        ("1.045e-02", "never", "is 0", "0.6614"),
        ("probability of token 0", "[(reward / logit)$^2$]"),
    ),
    "prompt_std_bias": (
        prompt_std_bias,
        prompt_std_bias.Config(deltas=(0.0, 1e-3, prompt_std_bias.NO_STD), group_sizes=(4,), policies=(0.5,)),
        ("3.211e-06", "no std", "opposed"),
        ("[reward]", "[1 / reward]", "[(reward / logit)$^2$]"),
    ),
}


def sorted_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(list(frame.columns), ignore_index=True)


@pytest.mark.parametrize("name", only(["bias_vs_drift"], EXPERIMENTS))
def test_each_command_writes_its_rows_prints_its_finding_and_draws_a_figure_that_redraws(
    name, tmp_path, capsys
):
    module, small, words, labels = EXPERIMENTS[name]
    assert module.EXPERIMENT.name == name
    cfg = dataclasses.replace(small, results=tmp_path / "results", figures=tmp_path / "figures")
    module.main(cfg)
    printed = " ".join(capsys.readouterr().out.split())
    assert [word for word in words if word not in printed] == []
    made = read(name, config=cfg, results_version=module.EXPERIMENT.version, folder=cfg.results)
    expected = pd.DataFrame(module.rows(cfg)).astype(made.dtypes.to_dict())
    pd.testing.assert_frame_equal(sorted_rows(made), sorted_rows(expected), check_exact=True)
    picture = cfg.figures / f"{name}.png"
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG") and len(first) > 10_000
    figures.main(figures.Config(results=cfg.results, figures=tmp_path / "again"))
    assert (tmp_path / "again" / f"{name}.png").read_bytes() == first
    drawn = module.draw(made)
    axes = " ".join(f"{ax.get_xlabel()} {ax.get_ylabel()}" for ax in drawn.axes)
    assert [label for label in labels if label not in axes] == [] and drawn.get_suptitle()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_help_documents_every_option(name, capsys):
    with pytest.raises(SystemExit) as stop:
        tyro.cli(EXPERIMENTS[name][0].Config, args=["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in dataclasses.fields(EXPERIMENTS[name][0].Config):
        assert f"--{option.name.replace('_', '-')}" in printed
    assert "Folder of the table of results" in printed and "Folder of the figure" in printed


KEYS = {
    "bias_vs_G": ["world", "delta", "group_size"],
    "bias_vs_drift": ["world", "direction", "ratio", "drift"],
    "length_bias": ["estimator", "delta", "group_size"],
    "prompt_std_bias": ["world", "delta", "group_size", "p"],
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_committed_result_is_of_the_experiment_as_it_stands(name):
    module, by = EXPERIMENTS[name][0], KEYS[name]
    cfg = module.Config()
    made = read(name, config=cfg, results_version=module.EXPERIMENT.version, folder=ROOT / "results")
    # One cell of it computed again.
    again = pd.DataFrame(module.trace(cfg, *module.keys(cfg)[-1]))
    kept = again[by].merge(made, on=by, how="left")
    assert len(kept) == len(again)
    pd.testing.assert_frame_equal(kept[again.columns], again, check_dtype=False, rtol=1e-9, atol=1e-12)


@dataclasses.dataclass(frozen=True)
class Config(Folders):
    """Squares of whole numbers."""

    numbers: tuple[int, ...] = (1, 2, 3)
    """What is squared."""


def squares(cfg: Config, cell=lambda cfg, key: [{"number": key, "square": key**2}]) -> str:
    shown = io.StringIO()
    experiment.Experiment(
        name="squares",
        version=1,
        config=Config,
        check=lambda cfg: experiment.check_lists(cfg, "numbers"),
        keys=lambda cfg: cfg.numbers,
        cell=cell,
        show=lambda cfg, made, console: shown.write(f"{cfg.numbers} {made.square.sum()}"),
        draw=lambda made: Figure(figsize=(1, 1)),
        what="numbers",
    ).main(cfg)
    return shown.getvalue()


def test_a_run_that_dies_goes_on_with_the_cells_that_it_lacks(tmp_path):
    cfg = Config(results=tmp_path / "r", figures=tmp_path / "f")
    computed = []

    def dies(cfg, key):
        computed.append(key)
        if computed == [1, 2]:
            raise KeyboardInterrupt
        return [{"number": key, "square": key**2}]

    with pytest.raises(KeyboardInterrupt):
        squares(cfg, dies)
    assert not (tmp_path / "r" / "squares.parquet").exists()
    assert squares(cfg, dies) == "(1, 2, 3) 14" and computed == [1, 2, 2, 3]
    assert (tmp_path / "f" / "squares.png").exists()
    about = json.loads((tmp_path / "r" / "squares.json").read_text())
    assert about["config"] == {"numbers": [1, 2, 3]}


@pytest.mark.parametrize("option", ["results", "figures"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, option):
    (tmp_path / "file").write_text("")
    folders = {"results": tmp_path / "r", "figures": tmp_path / "f"} | {option: tmp_path / "file" / "below"}
    computed = []
    with pytest.raises(ValueError, match=rf"{option} = .*below cannot be written .*--{option}"):
        squares(Config(**folders), lambda cfg, key: computed.append(key))
    assert not computed


def test_lists_are_refused_empty_or_with_a_value_twice():
    experiment.check_lists(Config(), "numbers")
    for numbers in ((), (1, 2, 1)):
        with pytest.raises(ValueError, match=r"numbers = .*: give at least one, and none twice"):
            experiment.check_lists(Config(numbers=numbers), "numbers")


def test_a_name_that_is_not_known_is_answered_with_the_nearest_one_and_all_others():
    known = {"one": 1, "three": 3}
    given = SimpleNamespace(numbers=("one", "tree"))
    said = r"unknown entry 'tree' of numbers; the nearest is 'three' \(numbers: one, three\)"
    with pytest.raises(ValueError, match=said):
        experiment.check_names(given, numbers=known)
    experiment.check_names(SimpleNamespace(numbers=("one", "three")), numbers=known)


def test_a_command_ends_in_one_line_on_bad_input(monkeypatch):
    def main(cfg: Config) -> None:
        experiment.check_lists(cfg, "numbers")

    monkeypatch.setattr(sys, "argv", ["squares", "--numbers", "1", "1"])
    with pytest.raises(SystemExit, match=r"error: numbers = \(1, 1\): give at least one, and none twice"):
        experiment.command(main, Config, "Squares.")
    monkeypatch.setattr(sys, "argv", ["squares", "--numbers", "1", "2"])
    assert experiment.command(main, Config, "Squares.") is None


def test_figures_without_results_say_what_makes_them(tmp_path):
    with pytest.raises(ValueError, match=r"holds no result of an experiment; make them with `make results`"):
        figures.main(figures.Config(results=tmp_path, figures=tmp_path))


def test_figures_of_another_version_are_refused(tmp_path):
    squares(Config(results=tmp_path, figures=tmp_path))
    assert figures.drawable(tmp_path) == []  # no script of that name
    module, small, _, _ = EXPERIMENTS["length_bias"]
    cfg = dataclasses.replace(small, results=tmp_path, figures=tmp_path)
    module.main(cfg)
    sidecar = tmp_path / "length_bias.json"
    about = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(about | {"results_version": 0}))
    with pytest.raises(ValueError, match=r"RESULTS_VERSION 0, not 1; make it with .*length_bias.py"):
        figures.main(figures.Config(results=tmp_path, figures=tmp_path))


SCRIPTS = sorted(
    path for path in (ROOT / "experiments").glob("*.py") if "\nEXPERIMENT = " in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_is_read_from_a_script_as_text_is_what_its_experiment_says(script, capsys):
    """The Makefile and figures.py do not import the scripts."""
    module = importlib.import_module(f"experiments.{script.stem}")
    declared = module.EXPERIMENT
    assert figures.DECLARED.findall(script.read_text()) == [declared.name]
    for target, runs in (
        ("results", not (declared.slow or declared.needs_data)),
        ("results-slow", declared.slow and not declared.needs_data),
    ):
        assert (f".venv/bin/python {script.relative_to(ROOT)};" in made_by(target)) == runs
    assert module.draw is declared.draw


@functools.cache
def made_by(target: str) -> str:
    """The commands of a target of the Makefile, each script as it is called."""
    command = ["make", "--dry-run", "CORE=", "WITH_LLM=", "INSTALLED=", target]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    scripts = printed.partition("in ")[2].partition(";")[0].split()
    return "".join(f".venv/bin/python {script};" for script in scripts) or printed


def test_make_redraws_the_figures():
    assert ".venv/bin/python experiments/figures.py" in made_by("figures")


def test_every_experiment_that_draws_has_a_claim_and_a_command_in_its_docstring():
    assert {path.stem for path in SCRIPTS} >= {*EXPERIMENTS, "authors_logs", "bias_vs_K", "llm_demo"}
    for path in SCRIPTS:
        head = path.read_text()
        assert head.startswith('"""Claim') and f"python experiments/{path.name}" in head
        assert "\ndef draw(" in head


def test_every_script_that_draws_is_an_experiment():
    scripts = [path for path in (ROOT / "experiments").glob("*.py") if "\ndef draw(" in path.read_text()]
    assert sorted(scripts) == SCRIPTS
