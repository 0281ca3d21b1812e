"""The demo reads runs as they are written, keeps styles apart, and says no more than every seed supports."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy import stats

from experiments import llm_demo as experiment_script
from llm.training import pretrain
from ticgrpo_theory.plots import llm as plots_llm

CFG = experiment_script.Config(
    estimators=("grpo", "tic_grpo"), seeds=(0, 1), rollouts=2, every=2, problems=200
)


def write_run(folder: Path, right: dict[int, list[int]], length: float = 30.0) -> None:
    """What a finished training run leaves behind."""
    (folder / "evaluations").mkdir(parents=True)
    for rollouts, answers in right.items():
        rows = [{"answer": 2776, "right": r, "mean_length": length} for r in answers]
        path = folder / "evaluations" / f"{rollouts:06d}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = {"clipped_positive": 0.1, "clipped_negative": 0.0, "effective_sample_size": 0.9, "length": 30.0}
    lines = [{"rollout": n, "log_ratio_sd": 0.1 * (n + 1), **line} for n in (0, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def runs(tmp_path: Path, better: int) -> experiment_script.Config:
    """tic_grpo solves `better` more of 200 problems than grpo, which solves 80, as the start does."""
    cfg = dataclasses.replace(CFG, runs=tmp_path)
    start = [1] * 80 + [0] * 120
    for seed in cfg.seeds:
        write_run(experiment_script.folder_of(cfg, "grpo", seed), {0: start, 2: start})
        end = [1] * (80 + better) + [0] * (120 - better)
        write_run(experiment_script.folder_of(cfg, "tic_grpo", seed), {0: start, 2: end})
    return cfg


def rows_of(cfg: experiment_script.Config) -> pd.DataFrame:
    return pd.DataFrame([row for seed in cfg.seeds for row in experiment_script.cell(cfg, seed)])


def test_gains_and_differences_are_taken_problem_by_problem(tmp_path):
    made = rows_of(runs(tmp_path, better=30))
    row = made[(made.estimator == "tic_grpo") & (made.rollouts == 2) & (made.seed == 0)].iloc[0]
    assert row.accuracy == pytest.approx(110 / 200) and row.gain == pytest.approx(0.15)
    # 30 of 200 differ, all one way: sd^2 = 200/199 p (1 - p), p = 0.15; two estimators and two seeds make
    # four intervals, which hold together with t of 199 degrees at 1 - 0.05 / 8.
    t = stats.t.ppf(1 - 0.05 / 8, 199)
    assert row.gain_half == pytest.approx(t * (0.15 * 0.85 / 199) ** 0.5, rel=1e-9)
    # Partner: the interval of one comparison alone is narrower by a fifth.
    assert row.gain_half > 1.2 * stats.t.ppf(0.975, 199) * (0.15 * 0.85 / 199) ** 0.5
    assert row.log_ratio_sd == pytest.approx(0.2)


def test_a_difference_in_every_seed_is_said_and_none_is_not(tmp_path):
    for better, said in ((30, "solves more than grpo"), (1, "not told apart from grpo")):
        cfg = runs(tmp_path / str(better), better)
        last = rows_of(cfg).query("rollouts == 2")
        sentences = experiment_script.conclusions(cfg, last)
        assert sentences[0] == "grpo: no gain established" and said in sentences[1]


def test_answers_without_work_are_counted_apart(tmp_path):
    cfg = dataclasses.replace(CFG, runs=tmp_path, estimators=("grpo",))
    write_run(experiment_script.folder_of(cfg, "grpo", 0), {0: [1, 0], 2: [1, 0]}, length=13.0)
    write_run(experiment_script.folder_of(cfg, "grpo", 1), {0: [1, 0], 2: [1, 0]}, length=30.0)
    made = rows_of(cfg)
    assert set(made[made.seed == 0].share_worked) == {0.0} and set(made[made.seed == 1].share_worked) == {1.0}


def test_a_missing_evaluation_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"000000.jsonl is missing: start the demo again"):
        experiment_script.cell(dataclasses.replace(CFG, runs=tmp_path), 0)


def test_the_title_says_who_is_ahead_where_every_seed_says_so(tmp_path):
    for better, text in ((30, "tic_grpo ahead of grpo"), (0, "tic_grpo not told apart from grpo")):
        made = rows_of(runs(tmp_path / str(better), better))
        assert text in plots_llm.llm_demo(made).get_suptitle()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"estimators": ("grppo",)}, "unknown entry 'grppo' of estimators; the nearest is 'grpo'"),
        ({"rollouts": 3}, "is no multiple of every = 2: .* --rollouts 4"),
        ({"target": 1.0}, "a share between 0 and 1"),
        ({"jobs": 0}, "jobs = 0: give at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(dataclasses.replace(CFG, **change))


def test_supervised_steps_lower_the_loss_and_the_start_is_reloaded_as_it_was(tmp_path):
    from llm.pretrained import load

    plan = pretrain.Plan(
        hidden=16, layers=1, heads=2, lr=2e-2, target=0.0, held_out=8, look_every=80, problems=300
    )
    said: list[str] = []
    model, _ = pretrain.pretrain(plan, say=said.append)
    assert float(said[0].split("loss ")[1].split(",")[0]) < 2.5  # ln 24 = 3.18 before the first step
    pretrain.save(model, tmp_path / "start")
    again = load(str(tmp_path / "start"))
    for (name, a), (_, b) in zip(
        model.network.named_parameters(), again.network.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_a_start_that_does_not_learn_enough_is_refused():
    plan = pretrain.Plan(
        hidden=16, layers=1, heads=2, target=0.9, held_out=4, look_every=2, most_steps=2, problems=300
    )
    with pytest.raises(ValueError, match=r"2 steps did not reach target = 0.9"):
        pretrain.pretrain(plan, say=lambda line: None)
