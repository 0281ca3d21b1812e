"""authors_logs.py: statements are judged by the numbers that are given, aggregates alone are kept."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import authors_logs, figures
from tests.thinned import more
from tests.unit.training_logs.logged_runs import SETTINGS, STEPS, one_run, step_line, write_tables
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.training_logs.comparison import BEYOND_BOTH, UNKNOWN_SPREAD
from ticgrpo_theory.training_logs.paper import AGREES, CONTRADICTS, needs, statements
from ticgrpo_theory.training_logs.tables import read_tables

pytestmark = more

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_tables(folder)
    return folder


def judged(folder: Path) -> dict[str, str]:
    return {found.name: found.judgement for found in statements(read_tables(folder))[0]}


def test_every_statement_is_judged_against_the_generated_runs(tables):
    found = {each.name: each for each in statements(read_tables(tables))[0]}
    assert {each.judgement for each in found.values()} == {CONTRADICTS}
    assert len(found) == 13
    assert found["stale gradients"].value == 1 and found["reuse"].value == 1
    assert found["model"].value == 1.7 and found["evaluation"].value == 400
    assert found["clip, A >= 0"].value == pytest.approx(math.exp(0.01 * 32))  # 1024 tokens
    assert found["clip, A < 0"].value == pytest.approx(0.07)
    assert found["variance of log w'"].value == pytest.approx(0.01 / 1.01, abs=0.02)
    assert found["mean of w'"].value > 1.4 and abs(found["mean of log w'"].value) < 0.02


def test_the_same_statements_are_not_contradicted_by_runs_that_are_as_the_text_says(tmp_path):
    settings = copy.deepcopy(SETTINGS)
    settings["only_old_policy"] |= {"ppo_mini_batch_size": 32, "model": "a/qwen3_1.5B"}
    settings["seq_grpo"]["ppo_epochs"] = 4
    write_tables(tmp_path, settings=settings, drift=0.5, noise=0.0, floor=0.07, problems=30)
    found = judged(tmp_path)
    agreeing = {
        "stale gradients",
        "reuse",
        "model",
        "evaluation",
        "mean of log w'",
        "mean of w'",
        "variance of log w'",
        *(f"dynamic sampling ({run})" for run in ("only_old_policy", "seq_grpo", "seq_clip")),
    }
    assert {name for name, said in found.items() if said == AGREES} == agreeing


def test_entries_whose_runs_or_settings_are_absent_are_left_out_by_name(tmp_path):
    settings = copy.deepcopy(SETTINGS)
    del settings["only_old_policy"]["rollout_n"], settings["only_old_policy"]["model"]
    write_tables(tmp_path, settings=settings)
    found, absent = statements(read_tables(tmp_path))
    assert not {each.name for each in found} & {"model", "overlong shaping"}
    assert "model is left out: model = None of run only_old_policy names no size" in "\n".join(absent)
    assert "dynamic_sampling is left out: rollout_n = None; a positive number is needed" in "\n".join(absent)
    logs = pd.read_csv(tmp_path / "verl_logs_x.csv")
    logs[logs.run == "seq_clip"].to_csv(tmp_path / "verl_logs_x.csv", index=False)
    found, absent = statements(read_tables(tmp_path))
    assert [each.name for each in found] == ["clip, A < 0"]
    assert "ratio is left out: there is no run seq_grpo" in absent


def test_ranges_in_words():
    assert needs(2.0, math.inf) == "at least 2"
    assert needs(30.0, 30.0) == "30" and needs(0.0, 1.28) == "0 to 1.28"


def test_data_become_aggregates_a_figure_and_curves_that_stay_away_from_results(tables, tmp_path, capsys):
    cfg = authors_logs.Config(data=tables, results=tmp_path / "r", figures=tmp_path / "f")
    authors_logs.main(cfg)
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("near-identical runs", "needs at least 2, logged 1", "cannot tell:", "left out:"):
        assert words in printed
    made = results_file.read("authors_logs_summary", folder=tmp_path / "r")
    # Aggregates only: nothing of fewer steps than two in each block, but settings and statements.
    assert select(made, kind="mean").steps.min() >= 8 and select(made, kind="difference").steps.min() >= 8
    about = (tmp_path / "r" / "authors_logs_summary.json").read_text()
    assert str(tables) not in about and "dynamic_sen_clip" in about
    assert {path.name for path in (tmp_path / "f").iterdir()} == {
        "authors_logs.png",
        "authors_logs_curves.png",
    }
    assert "figures/authors_logs_curves.png" in (ROOT / ".gitignore").read_text().splitlines()
    drawn = (tmp_path / "f" / "authors_logs.png").read_bytes()
    # From the summary alone, by the command for all figures, under the name of the script.
    assert figures.drawable(tmp_path / "r") == ["authors_logs"]
    figures.main(figures.Config(results=tmp_path / "r", figures=tmp_path / "again"))
    assert (tmp_path / "again" / "authors_logs.png").read_bytes() == drawn
    (tmp_path / "r" / "authors_logs_summary.json").unlink()
    with pytest.raises(ValueError, match=r"make it with `python experiments/authors_logs.py`"):
        figures.main(figures.Config(results=tmp_path / "r", figures=tmp_path / "again"))


def test_differences_know_what_was_put_into_the_runs(tables):
    made = pd.DataFrame(authors_logs.rows(authors_logs.Config(data=tables)))
    reward = select(made, kind="difference", metric="reward", window="4/4").set_index(["run", "versus"])
    far = reward.loc[("sen_clip2_only_upper", "dapo_baseline")]
    assert far.value == pytest.approx(0.1, abs=5 * far.error) and far.verdict == BEYOND_BOTH
    near = reward.loc[("math8b_compare/grpo", "math8b_compare/dapo")]
    assert near.value == pytest.approx(0.0, abs=5 * near.error) and near.verdict != BEYOND_BOTH
    # Near-identical runs are the measure of others and not compared themselves.
    assert not made[made.kind == "difference"].family.eq("math8b_gspo_eps").any()
    assert select(made, kind="difference", family="across").run.unique().tolist() == [
        "math8b_compare/tic-grpo"
    ]


def test_other_tables_are_not_taken_for_the_published_ones(tables, tmp_path):
    (tmp_path / "d").mkdir()
    curves = pd.read_csv(tables / "wandb_curves_x.csv")
    curves.to_csv(tmp_path / "d" / "wandb_curves_mine.csv", index=False)
    authors_logs.main(
        authors_logs.Config(data=tmp_path / "d", results=tmp_path / "r", figures=tmp_path / "f")
    )
    about = json.loads((tmp_path / "r" / "own_logs_summary.json").read_text())
    assert about["config"]["source"] == "logs of a user"
    assert {path.name for path in (tmp_path / "f").iterdir()} == {"own_logs.png"}


def console_log(path: Path, run: int, shift: float = 0.0) -> Path:
    reward = one_run(9, run, shift=shift).frame.reward
    lines = [
        f"(TaskRunner pid=5) {step_line(step, critic__score__mean=value, actor__entropy=0.3)}"
        for step, value in reward.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_own_logs_are_compared_and_never_written_over_the_published_summary(tmp_path, capsys):
    logs = (console_log(tmp_path / "a" / "x.log", 0), console_log(tmp_path / "b" / "x.log", 1, shift=0.05))
    cfg = authors_logs.Config(logs=logs, results=tmp_path / "r", figures=tmp_path / "f")
    authors_logs.main(cfg)
    made = results_file.read("own_logs_summary", folder=tmp_path / "r")
    found = select(made, kind="difference", metric="reward", run="b/x", versus="a/x", window="all").iloc[0]
    assert found.value == pytest.approx(0.05, abs=5 * found.error) and found.verdict == UNKNOWN_SPREAD
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "own_logs_summary.parquet",
        "own_logs_summary.json",
    }
    assert (tmp_path / "f" / "own_logs.png").stat().st_size > 10_000
    assert "b/x - a/x" in capsys.readouterr().out


def test_own_repeats_give_the_spread(tmp_path):
    logs = tuple(console_log(tmp_path / f"{i}.log", i, shift=0.05 * (i == 4)) for i in range(5))
    cfg = authors_logs.Config(logs=logs, repeats=("0", "1", "2", "3"))
    made = pd.DataFrame(authors_logs.rows(cfg))
    reward = select(made, kind="difference", metric="reward", window="all").set_index(["run", "versus"])
    assert set(reward.index) == {("4", str(i)) for i in range(4)}
    assert (reward.verdict == BEYOND_BOTH).all()


def test_a_log_that_is_cut_off_early_leaves_the_others_their_windows(tmp_path):
    logs = [console_log(tmp_path / f"{i}.log", i) for i in range(3)]
    text = logs[2].read_text().splitlines()[:20]
    logs[2].write_text("\n".join(text))
    made, left_out = authors_logs.rows_of(
        cfg := authors_logs.Config(logs=tuple(logs)), authors_logs.read(cfg)
    )
    frame = pd.DataFrame(made)
    assert any("breaks off within step 20" in sentence for sentence in left_out)
    full = select(frame, kind="mean", metric="reward", run="0")
    assert full.window.tolist() == ["1/4", "2/4", "3/4", "4/4", "all"] and full.last_step.max() == STEPS
    short = select(frame, kind="difference", metric="reward", run="2", versus="0")
    assert short.last_step.tolist() == [20]


def test_a_logged_ratio_of_ones_own_is_judged_under_the_names_that_are_given(tmp_path):
    rng = np.random.default_rng(0)
    keys = {"log_ratio_mean": "actor/lr/mean", "log_ratio_sd": "actor/lr/std"}
    lines = [
        step_line(
            step,
            actor__lr__mean=float(0.01 * rng.standard_normal()),
            actor__lr__std=1.0,
            actor__ppo_kl=0.0,
            response_length__mean=400.0,
        )
        for step in range(1, 33)
    ]
    path = tmp_path / "run.log"
    path.write_text("\n".join(lines) + "\n")
    cfg = authors_logs.Config(logs=(path,), rename=tuple(f"{ours}={key}" for ours, key in keys.items()))
    made = pd.DataFrame(authors_logs.rows(cfg))
    ratio = select(made, kind="ratio").set_index("metric").value
    assert ratio["explained"] == 0 and ratio["mean_if_ratio"] == -0.5 and ratio["token_sd"] == 0.05
    without = authors_logs.rows(authors_logs.Config(logs=(path,)))
    assert not [row for row in without if row["kind"] == "ratio"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "give either --data DIR, a folder of tidy tables, or --logs FILE"),
        ({"data": Path("a"), "logs": (Path("b"),)}, "give either --data DIR"),
        ({"data": Path("absent")}, "absent is not a folder"),
        ({"data": Path("a"), "windows": 0}, "windows = 0; give at least 1"),
        ({"data": Path("a"), "reading_error": -1.0}, "reading_error = -1.0; give a reward between 0 and 1"),
        ({"logs": (Path("a"),), "rename": ("reward",)}, "rename = 'reward'; give NAME=KEY"),
        ({"logs": (Path("a"),), "rename": ("rewards=x",)}, "with a NAME of reward, "),
    ],
)
def test_what_cannot_be_run_is_refused(change, says):
    with pytest.raises(ValueError) as error:
        authors_logs.read(authors_logs.Config(**change))
    assert says in str(error.value)


def test_two_repeats_and_unknown_ones_are_refused(tmp_path):
    logs = tuple(console_log(tmp_path / f"{i}.log", i) for i in range(2))
    with pytest.raises(ValueError, match="2 near-identical runs tell no spread; name at least 3"):
        authors_logs.rows(authors_logs.Config(logs=logs, repeats=("0", "1")))
    with pytest.raises(ValueError, match="no run is called 'z'"):
        authors_logs.rows(authors_logs.Config(logs=logs, repeats=("z",)))


def test_the_committed_summary_holds_no_series_and_says_where_it_comes_from():
    made = results_file.read(
        authors_logs.EXPERIMENT.name, results_version=authors_logs.EXPERIMENT.version, folder=ROOT / "results"
    )
    windowed = made[made.kind.isin(["mean", "difference", "spread"])]
    assert windowed.steps.min() >= 8
    assert (windowed.groupby(["kind", "run", "versus", "metric"]).size() <= 5).all()
    about = json.loads((ROOT / "results" / f"{authors_logs.EXPERIMENT.name}.json").read_text())
    assert "dynamic_sen_clip, commit 3b37d82" in about["config"]["source"]
    ratio = select(made, kind="ratio", run="seq_grpo").set_index("metric").value
    assert 0 < ratio["explained"] < 0.03  # about 99 % of the variance does not come with the logged KL
    assert abs(ratio["mean"] - ratio["mean_if_ratio"]) > 0.5
    assert set(select(made, kind="statement").verdict) == {CONTRADICTS}
