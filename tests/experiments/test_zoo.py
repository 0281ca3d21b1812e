"""experiments/zoo.py: its claims, on its own rows, each beside a case that must fail."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from experiments import zoo as script
from experiments.zoo import Config, choices, rows
from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import policy_gradient
from ticgrpo_theory.stats.direction import sine
from ticgrpo_theory.worlds.catalogue import WORLDS

LINES = ("grpo", "trl_dapo", "verl_grpo", "tis", "opsm", "rloo", "trajectory_is", "dppo_tv", "delta_l")
SMALL = Config(worlds=("two-prompts", "length-trap"), lines=LINES, drifts=(0.0, 1.0), group_size=2)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(SMALL))


def test_every_line_has_its_row_and_those_that_read_a_sampler_two(table):
    assert len(table) == 2 * 2 * (len(LINES) + 5)
    far = table[table.mismatch > 0]
    assert set(far.line) == {"grpo", "trl_dapo", "verl_grpo", "tis", "opsm"}
    at = table.set_index(["world", "drift", "mismatch", "line"]).scale
    for world in SMALL.worlds:
        # Without a mismatch there is nothing to correct; with one there is.
        assert at[world, 1.0, 0.0, "tis"] == pytest.approx(at[world, 1.0, 0.0, "grpo"], abs=EXACT["atol"])
        assert abs(at[world, 1.0, 0.3, "tis"] - at[world, 1.0, 0.3, "grpo"]) > 1e-7


def test_the_trajectory_ratio_is_unbiased_and_the_token_ratio_is_not_once_it_has_drifted(table):
    at = table[table.mismatch == 0].set_index(["world", "drift", "line"])
    for world in SMALL.worlds:
        for drift in SMALL.drifts:
            assert at.bias[world, drift, "trajectory_is"] == pytest.approx(0.0, abs=1e-11)
        assert at.residual[world, 0.0, "rloo"] == pytest.approx(0.0, abs=1e-11)
    assert at.residual["two-prompts", 1.0, "grpo"] > MOVES


def test_signal_is_the_projection_over_the_standard_deviation_by_a_sum_over_groups():
    world = WORLDS["length-trap"]
    mdp = world.build()
    old = world.theta_old(mdp)
    theta = old + sine(old)
    gradient = policy_gradient(mdp, theta)
    cfg = dataclasses.replace(SMALL, worlds=("length-trap",), drifts=(1.0,), lines=("rloo",))
    (row,) = rows(cfg)
    log_old, log_now = old.log_softmax(-1)[0], theta.log_softmax(-1)[0]
    parts, each = [], []
    for y in [(1,), (0, 1), (0, 0, 0), (0, 0, 1)]:
        score = sum((torch.eye(2).double()[a] - log_now.exp() for a in y), torch.zeros(2).double())
        each.append((math.exp(sum(float(log_old[a]) for a in y)), float(len(y) == 2), score))
    for p1, r1, s1 in each:
        for p2, r2, s2 in each:
            parts.append((p1 * p2, ((r1 - r2) * s1 + (r2 - r1) * s2) / 2))
    mean = torch.stack([p * g for p, g in parts]).sum(dim=0)
    variance = sum(p * float((g - mean).square().sum()) for p, g in parts)
    found = float((mean * gradient[0]).sum()) / float(gradient.norm()) / math.sqrt(variance)
    assert row["signal"] == pytest.approx(found, abs=1e-11)


def test_the_nearest_line_and_the_one_with_most_signal_part_after_a_drift(table):
    found = choices(table).set_index(["world", "drift"])
    assert found.cosine["two-prompts", 1.0] == pytest.approx(1.0, abs=1e-9)
    assert found.nearest["two-prompts", 1.0] == "trajectory_is"
    assert (found["signal"] >= found["TRL signal"]).all() and (found["cosine"] >= found["verl cosine"]).all()


def test_a_default_goes_downhill_after_a_drift_where_the_full_ratio_does_not():
    lines = ("trl_dapo", "verl_grpo", "trajectory_is")
    cfg = dataclasses.replace(SMALL, worlds=("prompt-trap",), lines=lines)
    at = pd.DataFrame(rows(cfg)).query("mismatch == 0").set_index(["drift", "line"]).cosine
    assert at[0.0, "trl_dapo"] > 0.99 and at[1.0, "trl_dapo"] < -0.99 and at[1.0, "verl_grpo"] < -0.99
    assert at[1.0, "trajectory_is"] > 0.99


def test_what_cannot_be_listed_is_blank_and_says_so():
    cfg = dataclasses.replace(SMALL, worlds=("count-mod-3",), drifts=(0.0,), lines=("delta_l",), group_size=4)
    (row,) = rows(cfg)
    assert row["method"] == "" and row["cosine"] is None and row["signal"] is None


def test_every_line_of_the_catalogue_is_there():
    assert Config().lines == tuple(ESTIMATORS) and Config().worlds == tuple(WORLDS)
    assert len(Config().drifts) == 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"worlds": ("xorr",)}, r"unknown entry 'xorr' of worlds; the nearest is 'xor'"),
        ({"lines": ("grppo",)}, r"unknown entry 'grppo' of lines"),
        ({"drifts": (-1.0,)}, r"drift = -1.0: a distance is finite and at least 0"),
        ({"group_size": 3}, r"group_size = 3: a group has a mean, and two micro-batches"),
        ({"mismatch": 0.0}, r"mismatch = 0.0: give a finite noise above 0"),
        ({"lines": ()}, r"lines = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


def test_the_script_writes_rows_and_a_figure(tmp_path):
    cfg = dataclasses.replace(SMALL, worlds=("xor",), lines=("grpo", "tis"))
    script.main(dataclasses.replace(cfg, results=tmp_path / "r", figures=tmp_path / "f"))
    assert (tmp_path / "r" / "zoo.parquet").stat().st_size > 0
    assert (tmp_path / "f" / "zoo.png").stat().st_size > 10_000
