"""tables.py: tidy tables are read, and damaged ones are refused by name."""

import pandas as pd
import pytest

from tests.unit.training_logs.logged_runs import (
    STEPS,
    write_tables,
)
from ticgrpo_theory.training_logs.runs import METRICS
from ticgrpo_theory.training_logs.tables import read_tables


def test_tables_are_read_with_their_settings_and_what_is_absent_is_named(tmp_path):
    write_tables(tmp_path)
    logs = read_tables(tmp_path)
    assert len(logs.family("1.7b")) == 6 and len(logs.family("math8b_gspo_eps")) == 5
    assert logs.run("sen_clip2").digitised and not logs.run("seq_grpo").digitised
    assert logs.run("seq_grpo").settings["ppo_mini_batch_size"] == 32
    assert logs.run("seq_grpo").last("reward") == STEPS and set(logs.run("seq_grpo").frame) == set(METRICS)
    assert any("run_summary.csv" in sentence for sentence in logs.left_out)
    with pytest.raises(ValueError, match="no run is called 'x': there are only_old_policy, "):
        logs.run("x")
    (tmp_path / "run_configs.json").unlink()
    assert any("run_configs.json" in sentence for sentence in read_tables(tmp_path).left_out)


def test_a_summary_that_is_not_that_of_its_curve_is_named_and_gives_the_certainty_of_names(tmp_path):
    write_tables(tmp_path)
    reward = read_tables(tmp_path).run("dapo_baseline").metric("reward")
    centred = {f"reward_s{c}": round(reward.loc[c - 5 : c + 5].mean(), 4) for c in (25, 50, 100)}
    row = {"source": "screenshot", "run": "dapo_baseline", "name_confidence": "a guess", "reward_s140": None}
    pd.DataFrame([row | centred]).to_csv(tmp_path / "run_summary.csv", index=False)
    logs = read_tables(tmp_path)
    assert logs.run("dapo_baseline").certainty == "a guess" and logs.left_out == ()
    pd.DataFrame([row | centred | {"reward_s50": 0.9}]).to_csv(tmp_path / "run_summary.csv", index=False)
    assert any("has 0.9 at step 50" in sentence for sentence in read_tables(tmp_path).left_out)


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        (
            "verl_logs_x.csv",
            lambda t: t.replace("pg_clipfrac,", "clips,"),
            "lacks the columns pg_clipfrac;",
        ),
        ("wandb_curves_x.csv", lambda t: t.replace("reward_mean", "reward"), "lacks the columns reward_mean"),
        (
            "screenshot_curves_x.csv",
            lambda t: t.replace("sen_clip2,7,", "sen_clip2,6,"),
            "6 more than once",
        ),
        ("screenshot_curves_x.csv", lambda t: t.replace("sen_clip2,7,", "sen_clip2,,"), "a row has no step"),
        (
            "screenshot_curves_x.csv",
            lambda t: t.replace("sen_clip2,7,", "sen_clip2,7,x"),
            "reward_mean is 'x0",
        ),
        ("screenshot_curves_x.csv", lambda t: "", "is empty; its first line names the columns run, step"),
        ("run_configs.json", lambda t: t[:-5], "is no JSON"),
    ],
    ids=["column", "curves", "twice", "no-step", "word", "empty", "json"],
)
def test_damaged_tables_are_refused(tmp_path, file, change, says):
    write_tables(tmp_path)
    text = (tmp_path / file).read_text()
    assert change(text) != text
    (tmp_path / file).write_text(change(text))
    with pytest.raises(ValueError) as error:
        read_tables(tmp_path)
    assert says in str(error.value)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run: none of verl_logs"):
        read_tables(tmp_path)
    with pytest.raises(ValueError, match="is not a folder; give the one that holds verl_logs"):
        read_tables(tmp_path / "absent")
