"""console.py: what is read of a damaged log, and what is named instead."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training_logs.logged_runs import (
    step_line,
    three_steps,
)
from ticgrpo_theory.training_logs.console import parse_console, read_console

EIGHTHS = st.integers(-(2**20), 2**20).map(lambda n: n / 8)


def plain(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def expected_frame() -> pd.DataFrame:
    steps = pd.Index([1, 2, 3], name="step")
    values = {"reward": steps / 8, "length": 100.0 + steps, "kl": -steps / 1024}
    return pd.DataFrame(values, index=steps)


def test_the_numbers_of_a_plain_log_come_out_under_our_names():
    logs = parse_console(plain(three_steps()), "run")
    assert [run.name for run in logs.runs] == ["run"] and logs.left_out == ()
    pd.testing.assert_frame_equal(logs.runs[0].frame, expected_frame())


@pytest.mark.parametrize(
    "dress",
    [
        lambda line: f"(main_task pid=123) {line}",
        lambda line: f"\x1b[36m(TaskRunner pid=7, ip=10.0.0.1)\x1b[0m {line}",
        lambda line: f"Training Progress:   1%|          | 1/144 [10:01<23:53:40, 601.54s/it]\r{line}",
        lambda line: f"Training Progress:   1%|          | 1/144 [10:01<23:53:40, 601.54s/it] {line}",
        lambda line: f"{line} [repeated 8x across cluster]",
        lambda line: f"{line}\n(WorkerDict pid=9) global_step:77 - actor/lr:5.0",
        lambda line: f"{line}\r\n{line}",
        lambda line: line.replace(":0.125", ":np.float64(0.125)").replace(
            ":0.25", ":tensor(0.25, device='cpu')"
        ),
    ],
    ids=["ray", "colour", "return", "bar", "repeated", "worker", "twice", "numpy"],
)
def test_what_stands_around_a_step_does_no_harm(dress):
    logs = parse_console(plain([dress(line) for line in three_steps()]), "run")
    pd.testing.assert_frame_equal(logs.runs[0].frame, expected_frame())
    assert logs.left_out == ()


@given(
    st.dictionaries(st.integers(0, 200), st.lists(EIGHTHS, min_size=3, max_size=3), min_size=1, max_size=6)
)
def test_every_number_that_is_printed_is_read_back(table):
    lines = [
        step_line(step, actor__entropy=a, val__x=b, **{"timing_s/old-log - probs": c})
        for step, (a, b, c) in sorted(table.items())
    ]
    # ` - ` within a key cannot be told from the next entry: the entry is named, the others are read.
    logs = parse_console(plain(lines), "run")
    frame = logs.runs[0].frame
    assert {step: [*frame.loc[step, ["entropy", "val/x"]]] for step in frame.index} == {
        step: values[:2] for step, values in table.items()
    }
    assert any("timing_s/old-log" in sentence and "is no number" in sentence for sentence in logs.left_out)


def test_a_log_that_is_cut_off_is_read_up_to_the_entry_that_may_be_half():
    text = plain(three_steps())
    whole = parse_console(text, "run")
    cut = parse_console(text[:-3], "run")
    assert cut.runs[0].frame.kl.isna().tolist() == [False, False, True]
    assert whole.runs[0].frame.kl.notna().all()
    pd.testing.assert_frame_equal(
        cut.runs[0].frame[["reward", "length"]], whole.runs[0].frame[["reward", "length"]]
    )
    assert any("breaks off within step 3" in sentence for sentence in cut.left_out)
    within_the_word_step = parse_console(text + "ste", "run")
    pd.testing.assert_frame_equal(within_the_word_step.runs[0].frame, expected_frame())


def test_several_runs_in_one_file_are_told_apart_where_the_step_does_not_grow():
    logs = parse_console(plain([*three_steps(), "restarted", *three_steps()[1:]]), "run")
    assert [run.name for run in logs.runs] == ["run", "run#2"]
    assert [len(run.frame) for run in logs.runs] == [3, 2]
    assert any(
        "2 runs in one file" in sentence and "line 5 at step 2" in sentence for sentence in logs.left_out
    )


def test_unknown_metrics_gaps_and_words_are_named():
    lines = [
        step_line(1, actor__entropy=0.5, my__metric=2.0),
        step_line(2, actor__entropy=0.5) + " - actor/lr:None - nonsense",
        step_line(6, actor__entropy=0.5),
    ]
    logs = parse_console(plain(lines), "run")
    text = "\n".join(logs.left_out)
    assert "unknown metrics, kept under their own names: my/metric" in text
    assert "'actor/lr:None' of step 2 is no number" in text and "'nonsense' of step 2" in text
    assert "3 steps are missing (3, 4, 5)" in text
    assert logs.runs[0].frame["my/metric"].tolist()[0] == 2.0


def test_one_validation_metric_is_taken_and_of_several_none():
    one = plain([step_line(0, **{"val-core/math/acc/mean@1": 0.25}), *three_steps()])
    logs = parse_console(one, "run")
    assert logs.runs[0].metric("validation").to_dict() == {0: 0.25}
    two = one.replace("mean@1:0.25", "mean@1:0.25 - val-core/aime/acc/mean@1:0.5")
    several = parse_console(two, "run")
    assert not len(several.runs[0].metric("validation"))
    assert any("2 validation metrics" in sentence for sentence in several.left_out)
    named = parse_console(two, "run", {"val-core/aime/acc/mean@1": "validation"})
    assert named.runs[0].metric("validation").to_dict() == {0: 0.5}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" \n", "run is empty; give the console output of a verl run"),
        ("hello\nstep by step:\n", "no line `step:N - key:value - ...` in 3 lines; keep 'console'"),
        ("step:1\nstep:2\n", "no line `step:N - key:value"),
    ],
)
def test_a_log_without_steps_is_refused_with_a_way_out(text, says):
    with pytest.raises(ValueError) as error:
        parse_console(text, "run")
    assert says in str(error.value)


def test_a_missing_file_and_a_name_that_is_no_metric_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a file; give the console output"):
        read_console(tmp_path / "absent.log")
    with pytest.raises(ValueError, match="rename gives 'rewards', which is none of reward, "):
        parse_console(plain(three_steps()), "run", {"a": "rewards"})
