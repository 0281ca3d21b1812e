"""`ticgrpo simulate`: the library's runs, their intervals, C1, progress, and going on in a folder."""

import numpy as np
import pytest
import torch

from tests.commands.typed_commands import answer, refusal, run
from ticgrpo_theory.bounds import check_c1
from ticgrpo_theory.simulate import Trace, simulate
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds import WORLDS

MDP = WORLDS["xor"].build()
START = WORLDS["xor"].theta_old(MDP)
SIZES = {"group_size": 4, "learning_rate": 0.2, "inner_steps": 2, "outer_steps": 12, "replicates": 6}
ASKED = ["simulate", "--world", "xor", "--seed", "3"]
ASKED += [word for name, value in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return {name: simulate(MDP, START, name, seed=3, **SIZES) for name in ("grpo", "tic_grpo")}


def test_means_and_intervals_are_those_of_the_library(capsys, traces):
    found = answer(capsys, *ASKED)
    assert [entry["estimator"] for entry in found["estimators"]] == list(traces)
    for entry in found["estimators"]:
        trace = traces[entry["estimator"]]
        J, squares = interval(trace.expected_return), interval(trace.gradient_norm_sq)
        assert [row["n"] for row in entry["rows"]] == [0, 2, 4, 6, 8, 10]
        for row in entry["rows"]:
            n = row["n"]
            assert (row["expected_return"], row["expected_return_half"]) == (
                float(J.mean[n]),
                float(J.half[n]),
            )
            assert row["gradient_norm_sq"] == float(squares.mean[n])
            assert row["gradient_norm_sq_half"] == float(squares.half[n])
        last, check = interval(trace.final_return), check_c1(MDP, trace)
        assert (entry["final_return"], entry["final_return_half"]) == (float(last.mean), float(last.half))
        mean = interval(trace.gradient_norm_sq.mean(dim=1))
        assert entry["mean_gradient_norm_sq"] == float(mean.mean)
        assert entry["mean_gradient_norm_sq_half"] == float(mean.half)
        assert (entry["c1_holds"], entry["c1_least_slack"]) == (True, float(check.slack.min()))
    # Partner: another seed is another run.
    other = answer(capsys, *ASKED[:3], "--seed", "4", *ASKED[5:])["estimators"][0]
    assert other["final_return"] != found["estimators"][0]["final_return"]


def test_the_difference_is_taken_replicate_by_replicate(capsys, traces):
    (difference,) = answer(capsys, *ASKED)["differences"]
    paired = interval(traces["tic_grpo"].final_return - traces["grpo"].final_return)
    assert difference["final_return"] == float(paired.mean)
    assert difference["final_return_half"] == float(paired.half)
    assert (difference["estimator"], difference["minus"]) == ("tic_grpo", "grpo")


def test_a_folder_keeps_the_runs_and_the_same_command_goes_on(tmp_path, capsys):
    options = (*ASKED, "--folder", str(tmp_path / "runs"))
    first = answer(capsys, *options)
    kept = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.npz")}
    assert {path.parent.name for path in kept} == {"grpo", "tic_grpo"}
    assert answer(capsys, *options) == first == answer(capsys, *ASKED)
    assert {path: path.read_bytes() for path in kept} == kept
    said = refusal(capsys, *options, "--batches", "disjoint")
    assert "is the state of a simulation with other settings" in said


def test_tables_have_intervals_and_the_verdict_of_c1(capsys, traces):
    assert run(*ASKED) == 0
    printed = capsys.readouterr().out
    J = interval(traces["grpo"].final_return)
    assert f"J_N = {float(J.mean):.5f} +- {float(J.half):.5f}" in printed
    assert printed.count("C1 holds for every replicate") == 2
    assert "J_N of tic_grpo minus grpo: " in printed


def test_a_violated_c1_is_said(capsys, monkeypatch):
    from ticgrpo_theory.bounds import Check
    from ticgrpo_theory.cli.answers import simulation

    one = torch.ones(6, dtype=torch.float64)
    monkeypatch.setattr(simulation, "check_c1", lambda mdp, trace: Check(one, 0 * one))
    assert run(*ASKED) == 0
    assert capsys.readouterr().out.count("C1 is violated") == 2


def test_replicates_that_left_the_numbers_are_not_averaged_over(capsys):
    options = ("--estimator", "trajectory_is", "--learning-rate", "1e160")
    said = refusal(capsys, *ASKED[:3], *options, "--outer-steps", "3", "--replicates", "4")
    assert "of 4 replicates hold values that are no numbers" in said and "lower the learning rate" in said


def test_progress_counts_the_outer_steps_of_all_replicates(tmp_path):
    counted: list[int] = []
    sizes = {**SIZES, "outer_steps": 130}
    simulate(MDP, START, "grpo", folder=tmp_path, progress=counted.append, record_every=100, **sizes)
    assert counted[-1] == 130 * 6 and (np.diff(counted) > 0).all() and len(counted) > 2
    again: list[int] = []
    simulate(MDP, START, "grpo", folder=tmp_path, progress=again.append, record_every=100, **sizes)
    assert again == [130 * 6]
