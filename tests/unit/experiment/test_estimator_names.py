"""Estimators of a user's own in experiments and sweeps: found, the same numbers, none from before an edit."""

import dataclasses
import io
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from experiments import bias_vs_K, length_bias, reuse_bias, tic_vs_grpo
from tests.properties.tolerances import VISIBLE
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.exact import Problem
from ticgrpo_theory.experiment.cells import Cells
from ticgrpo_theory.experiment.estimator_names import named_estimators
from ticgrpo_theory.experiment.grid import make
from ticgrpo_theory.experiment.own_files import files_named, together
from ticgrpo_theory.experiment.sweep import sweep
from ticgrpo_theory.experiment.workers import workers
from ticgrpo_theory.worlds import WORLDS

MINE = """
import helper
from ticgrpo_theory.estimators.catalogue import grpo


def plain(batch):
    A = batch.reward - batch.reward.mean()
    return helper.factor() * (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def loss(logp, logp_old, advantages, mask):
    return -(advantages[:, None] * (logp - logp_old).exp() * mask).sum() / mask.sum()


def to_reference(batch):
    return plain(batch) - 0.5 * ((batch.logp - batch.logp_ref) * batch.mask).square().sum()


def both(logp, logp_old, advantages, mask, width):
    return 0.0


ENTRY = grpo(0.1, 0.1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("helper", "mine"):
        # Other tests have modules of these names.
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / "mine.py").exists()])
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("def factor():\n    return 1.0\n")
    return tmp_path


SMALL = bias_vs_K.Config(worlds=("xor",), estimators=("mine.py:plain",), etas=(1.0,), K=1, group_size=2)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.usefixtures("folder")
def test_each_kind_of_estimator_is_found_beside_those_of_the_experiment(capsys):
    names = ("grpo", "mine.py:plain", "./mine.py:loss", "mine.py:ENTRY", "mine:ENTRY")
    found = named_estimators(names, ESTIMATORS)
    assert list(found) == list(names) and found["grpo"] is ESTIMATORS["grpo"]
    assert isinstance(found["mine.py:plain"], Objective) and isinstance(found["./mine.py:loss"], from_loss)
    assert found["mine.py:ENTRY"] == found["mine:ENTRY"] != ESTIMATORS["grpo"]
    assert named_estimators(names, ESTIMATORS) == found  # imported once
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("./mine.py:loss: minimised, with advantages standardised(delta=1e-06, ddof=0), by")


@pytest.mark.usefixtures("folder", "unchecked_signatures")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "grppo",
            r"unknown entry 'grppo' of estimators; the nearest is 'grpo' .*or file.py:name of your",
        ),
        (
            "mine.py",
            r"estimators = mine.py names no estimators in it; write mine.py:NAME, with one of",
        ),
        ("mine.py:other", r"estimators = mine.py:other cannot be imported \(AttributeError: "),
        ("none.py:plain", r"estimators = none.py:plain cannot be imported \(FileNotFoundError: "),
        ("mine.py:both", r"mine.py:both needs logp, logp_old, advantages, mask, width: give them with --set"),
        ("mine.py:helper", r"estimator <module 'helper' .*is neither a name, an Estimator"),
    ],
)
def test_what_is_no_estimator_is_refused(name, says):
    with pytest.raises(ValueError, match=says):
        bias_vs_K.rows(dataclasses.replace(SMALL, estimators=(name,)))


@pytest.mark.usefixtures("folder")
def test_an_experiment_has_the_numbers_of_the_library_for_an_objective():
    made = bias_vs_K.rows(SMALL)
    mdp = WORLDS["xor"].build()
    old = WORLDS["xor"].theta_old(mdp)
    objective = named_estimators(SMALL.estimators, {})["mine.py:plain"]
    first = Problem(mdp, old, old, objective, 2)
    assert [row["estimator"] for row in made] == ["mine.py:plain"] * 2
    assert made[0]["bias_current"] == float((first.mean - first.gradient).norm()) > VISIBLE
    assert made[0]["scale_kind"] == "least_squares" and made[0]["clip_fraction"] != made[0]["clip_fraction"]
    (entry, *_) = bias_vs_K.rows(dataclasses.replace(SMALL, estimators=("mine.py:ENTRY",), K=3))[-1:]
    assert entry["clip_fraction"] > 0


def test_reuse_and_training_take_them_too(folder):
    reused = {"worlds": ("match-row",), "group_sizes": (2,), "etas": (0.5,), "K": 1, "disjoint_sizes": (2,)}
    names = ("token", "mine.py:plain", "mine.py:to_reference")
    cfg = reuse_bias.Config(estimators=names, disjoint_K=1, **reused)
    made = pd.DataFrame(reuse_bias.rows(cfg))
    last = made[(made.batches == "reused") & (made.k == 1)].set_index("estimator").bias
    assert last["token"] > VISIBLE / 10 and last["mine.py:plain"] > VISIBLE / 10
    # A distance to theta_old, the reference where none is named, pulls at k = 1 alone.
    assert last["mine.py:to_reference"] != last["mine.py:plain"]
    course = {"worlds": ("right-answer",), "conditions": ("equal step",), "batches": ("reused",)}
    short = {"outer_steps": 2, "replicates": 2, "group_size": 2, "K": 1, "record_every": 1}
    cfg = tic_vs_grpo.Config(estimators=("grpo", "mine.py:plain"), **course, **short)
    assert {row["estimator"] for row in tic_vs_grpo.rows(cfg)} == {"grpo", "mine.py:plain"}


def test_an_experiment_about_its_own_list_says_who_takes_others(folder):
    with pytest.raises(
        ValueError, match=r"mine.py:plain, and this experiment is about its own \(grpo, .*bias"
    ):
        length_bias.rows(length_bias.Config(estimators=("mine.py:plain",)))


def test_a_figure_of_ones_own_estimator_is_drawn_from_the_rows_alone(folder):
    made = pd.DataFrame(bias_vs_K.rows(dataclasses.replace(SMALL, estimators=("grpo", "mine.py:plain"))))
    (folder / "mine.py").unlink()
    figure = bias_vs_K.draw(made)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["grpo (token, clipped)", "mine.py:plain"]


@pytest.mark.parametrize("name", ["mine.py", "helper.py"])
def test_cells_of_an_experiment_from_before_an_edit_are_refused_by_the_name_of_the_file(
    folder, name, monkeypatch
):
    cfg = dataclasses.replace(
        SMALL, estimators=("mine.py:plain", "mine.py:ENTRY"), results=folder, figures=folder
    )
    calls = []

    def dies(cfg, world, estimator):
        calls.append(estimator)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return bias_vs_K.trace(cfg, world, estimator)

    stopped = dataclasses.replace(bias_vs_K.EXPERIMENT, cell=dies)
    with pytest.raises(KeyboardInterrupt):
        stopped.main(cfg)
    before = (folder / name).read_text()
    (folder / name).write_text(before + "\n# another line\n")
    # Another process than the one that imported it, as when the command is typed again.
    monkeypatch.setattr("ticgrpo_theory.experiment.estimator_names.LOADED", {})
    with pytest.raises(ValueError, match=rf"holds cells from before {name} was edited"):
        stopped.main(cfg)
    (folder / name).write_text(before)
    monkeypatch.setattr("ticgrpo_theory.experiment.estimator_names.LOADED", {})
    stopped.main(cfg)
    assert calls == ["mine.py:plain", "mine.py:ENTRY", "mine.py:ENTRY"]


@pytest.mark.parametrize("name", ["mine.py", "helper.py"])
def test_a_sweep_from_before_an_edit_is_refused_by_the_name_of_the_file(folder, name, monkeypatch):
    def run():
        same = {"worlds": "xor", "estimators": ["mine.py:plain", "grpo"], "etas": 1.0, "group_size": 2}
        grid = make("bias_vs_K", same, {"K": [1, 2]}, folder=folder)
        quiet = Console(file=io.StringIO())
        return sweep("t", grid, workers("sequential"), folder=folder, console=quiet)

    first = run()
    assert (first.computed, first.failed, first.rows) == (2, [], 10)
    assert run().kept == 2
    (folder / name).write_text((folder / name).read_text() + "\n# another line\n")
    monkeypatch.setattr("ticgrpo_theory.experiment.estimator_names.LOADED", {})
    with pytest.raises(ValueError, match=rf"from before {name} was edited \(--trust keeps its numbers\)"):
        run()


def test_a_process_never_computes_with_code_that_is_no_longer_in_the_file(folder):
    before = bias_vs_K.rows(SMALL)[0]["bias_current"]
    edit(folder / "mine.py", "helper.factor() *", "2 * helper.factor() *")
    assert abs(bias_vs_K.rows(SMALL)[0]["bias_current"] - before) > VISIBLE
    edit(folder / "helper.py", "1.0", "3.0")
    with pytest.raises(ValueError, match=r"mine.py:plain: helper.py was edited after it was imported; start"):
        bias_vs_K.rows(SMALL)


def test_the_files_of_a_configuration_are_those_that_its_names_stand_in(folder):
    config = {"a": ["grpo", "mine.py:plain"], "b": {"c": "numpy:array"}, "d": 3, "e": "no.py:x", "f": "a:b"}
    assert sorted(files_named(config)) == ["helper.py", "mine.py"]
    assert sorted(files_named("helper:factor")) == ["helper.py"]
    assert files_named(str(folder / "helper.py") + ":factor").keys() == {str(folder / "helper.py")}
    assert files_named("numpy:array", "math:pi", "mine.py") == {}


def test_two_files_of_one_name_are_two(folder):
    both = together({"mine.py": "1", "x.py": "2"}, {"mine.py": "3", "y.py": "4"})
    assert both == {"mine.py": "1", "x.py": "2", str(folder / "mine.py"): "3", "y.py": "4"}


def test_cells_name_the_file_of_an_estimator(folder):
    how = {"config": {}, "results_version": 1, "folder": folder}
    work = Cells("t", ["a"], sources=files_named("mine.py:plain"), **how)
    work.finish("a", [{"x": 1}], seconds=0.0)
    edit(folder / "mine.py", "0.1, 0.1", "0.2, 0.2")
    with pytest.raises(ValueError, match=r"from before mine\.py was edited"):
        Cells("t", ["a"], sources=files_named("mine.py:plain"), **how)
