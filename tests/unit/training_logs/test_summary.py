"""summary.py: a row for each mean, difference and spread, with the windows that they are of."""

import math

import pytest

from tests.unit.training_logs.logged_runs import one_run, ratio_frame
from ticgrpo_theory.training_logs.comparison import UNKNOWN_SPREAD
from ticgrpo_theory.training_logs.paper import Statement
from ticgrpo_theory.training_logs.runs import Logs, Run
from ticgrpo_theory.training_logs.summary import EMPTY, MAY_BE_MISSING, summary


def test_two_runs_are_compared_in_every_window_and_over_the_whole():
    runs = (one_run(0, 0), one_run(0, 1, shift=0.1))
    rows = summary(Logs(runs))
    gaps = [row for row in rows if row["kind"] == "difference"]
    assert [row["window"] for row in gaps] == ["1/4", "2/4", "3/4", "4/4", "all"]
    assert [(row["first_step"], row["last_step"]) for row in gaps][-2:] == [(109, 144), (1, 144)]
    whole = gaps[-1]
    assert (whole["run"], whole["versus"], whole["metric"]) == ("run1", "run0", "reward")
    mean = float((runs[1].metric("reward") - runs[0].metric("reward")).mean())
    assert whole["value"] == pytest.approx(mean) and whole["verdict"] == UNKNOWN_SPREAD
    means = [row for row in rows if row["kind"] == "mean" and row["window"] == "all"]
    assert means[0]["value"] == pytest.approx(float(runs[0].metric("reward").mean()))


def test_repeated_runs_give_a_spread_and_are_not_compared_with_each_other():
    repeats = tuple(one_run(1, i) for i in range(3))
    rows = summary(Logs(repeats), repeats=repeats)
    assert {row["kind"] for row in rows} == {"spread", "mean"}
    assert all(row["run_limit"] > 0 for row in rows if row["kind"] == "spread")
    with pytest.raises(ValueError, match="2 near-identical runs tell no spread; name at least 3"):
        summary(Logs(repeats), repeats=repeats[:2])


def test_rows_have_the_same_columns_and_say_what_is_missing():
    statement = Statement("reuse", "says", "Sec. 1", "uses", 2.0, 4.0, 1.0, "run0")
    noise = Run("run0", ratio_frame(0.0, 1.0))
    rows = summary(Logs((noise,)), statements=[statement])
    assert all(list(row) == list(EMPTY) for row in rows)
    assert {row["kind"] for row in rows} >= {"ratio", "statement"}
    last = rows[-1]
    assert (last["verdict"], last["low"], last["value"]) == ("contradicts", 2.0, 1.0)
    assert math.isnan(last["run_limit"]) and "run_limit" in MAY_BE_MISSING
