"""training_logs: what is read of a damaged log, and that comparisons see differences and not noise."""

import math
from pprint import pformat

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.properties.tolerances import EXACT
from tests.unit.training_logs.logged_runs import (
    CONFIG,
    STEPS,
    one_run,
    ratio_frame,
    step_line,
    three_steps,
    write_tables,
)
from ticgrpo_theory.training_logs.comparison import (
    BEYOND_BOTH,
    BLOCKS,
    UNKNOWN_SPREAD,
    WITHIN_RUNS,
    WITHIN_STEPS,
    Difference,
    Spread,
    Window,
    block_error,
    difference,
    spread,
    verdict,
    windows_of,
)
from ticgrpo_theory.training_logs.console import parse_console, read_console
from ticgrpo_theory.training_logs.log_ratio import log_ratio
from ticgrpo_theory.training_logs.runs import METRICS, Run, updates_per_rollout
from ticgrpo_theory.training_logs.tables import read_tables

EIGHTHS = st.integers(-(2**20), 2**20).map(lambda n: n / 8)
LAST = Window("4/4", 109, 144)


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


def test_a_printed_configuration_is_read_through_prefixes_and_other_processes():
    wrapped = pformat(CONFIG, width=40).splitlines()
    assert len(wrapped) > 10
    lines = [f"(main_task pid=1) {line}" for line in wrapped]
    lines.insert(4, "(WorkerDict pid=2) {'something': 'else'")
    logs = parse_console(plain([*lines, *three_steps()]), "run")
    settings = logs.runs[0].settings
    assert updates_per_rollout(settings) == 4
    assert settings["rollout_n"] == 16 and settings["model"] == "a/Model-1.7B" and settings["lr"] == 1e-6
    # Partner: the same dictionary without its last lines is named, and nothing of it is used.
    cut = parse_console(plain([*lines[:-3], *three_steps()]), "run")
    assert dict(cut.runs[0].settings) == {}
    assert any("cut off or damaged" in sentence for sentence in cut.left_out)
    pd.testing.assert_frame_equal(cut.runs[0].frame, expected_frame())
    with pytest.raises(ValueError, match=r"ppo_epochs = None, .*a positive number is needed"):
        updates_per_rollout(cut.runs[0].settings)


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


def test_the_block_error_by_hand():
    # n = 8 in B = 4 blocks of 2: the circular means are 0, 0, 0, 1/2, 1, 1, 1, 1/2, their mean is 1/2, and
    # sqrt((6/4 / 8) / (4 - 1)) = 1/4.
    assert block_error(np.array([0.0, 0, 0, 0, 1, 1, 1, 1])) == pytest.approx(0.25, abs=EXACT["atol"])
    with pytest.raises(ValueError, match="7 steps make no 4 blocks of 2; give at least 8"):
        block_error(np.zeros(7))


def test_the_block_error_is_that_of_the_bootstrap_which_it_sums_up():
    rng = np.random.default_rng(3)
    values = np.convolve(rng.standard_normal(50), np.ones(5), mode="valid")[:36]
    n, size, draws = len(values), len(values) // BLOCKS, 40_000
    starts = rng.integers(n, size=(draws, BLOCKS))
    picked = values[(starts[..., None] + np.arange(size)) % n].mean(axis=(1, 2))
    variance = picked.var() * BLOCKS / (BLOCKS - 1)
    # The relative error of a variance from this many draws is sqrt(2 / draws).
    assert block_error(values) ** 2 == pytest.approx(variance, rel=5 * math.sqrt(2 / draws))
    assert block_error(values) > 1.2 * values.std() / math.sqrt(
        n
    )  # blocks see that steps depend on each other


def gaps(pairs: int, shift: float, wander: float) -> list[tuple[Difference, Spread | None]]:
    """Differences of two runs in the last window, each with the spread of five more runs of its process."""
    made = []
    for seed in range(pairs):
        a, b = one_run(seed, 0, wander=wander), one_run(seed, 1, shift=shift, wander=wander)
        same = [one_run(seed, 2 + i, wander=wander) for i in range(5)]
        gap = difference(a.metric("reward"), b.metric("reward"), LAST)
        assert gap is not None
        made.append((gap, spread(same, "reward", LAST)))
    return made


def share(found: list[tuple[Difference, Spread | None]], said: str, *, known: bool) -> float:
    return sum(verdict(gap, between if known else None) == said for gap, between in found) / len(found)


def test_two_seeds_of_one_process_are_not_declared_different():
    pairs = 100
    limit = 0.05 + 5 * math.sqrt(0.05 * 0.95 / pairs)
    assert share(gaps(pairs, 0.0, 0.0), UNKNOWN_SPREAD, known=False) < limit
    lasting = gaps(pairs, 0.0, 0.02)
    assert share(lasting, BEYOND_BOTH, known=True) < limit
    # Partner: step noise alone, which knows nothing of what lasts in a run, sees differences everywhere.
    assert share(lasting, UNKNOWN_SPREAD, known=False) > 0.6


def test_steps_that_depend_on_each_other_are_not_taken_for_a_difference():
    rng = np.random.default_rng(11)
    runs, steps, memory = 2000, 36, 0.5
    values = np.zeros((runs, steps + 50))
    for t in range(1, steps + 50):
        values[:, t] = memory * values[:, t - 1] + rng.standard_normal(runs)
    values = values[:, 50:]
    limit = stats.t.ppf(0.975, BLOCKS - 1)
    assert np.mean([abs(v.mean()) > limit * block_error(v) for v in values]) < 0.05
    # Partner: as if steps were independent.
    alone = np.abs(values.mean(axis=1)) > 1.96 * values.std(axis=1, ddof=1) / math.sqrt(steps)
    assert alone.mean() > 0.15


def test_a_real_difference_is_declared():
    assert share(gaps(40, 0.1, 0.01), BEYOND_BOTH, known=True) > 0.9
    assert share(gaps(40, 0.02, 0.0), UNKNOWN_SPREAD, known=False) > 0.95


def test_without_repeated_runs_nothing_is_said_to_be_beyond_them():
    found = gaps(40, 0.03, 0.02)
    assert share(found, BEYOND_BOTH, known=False) == 0
    assert share(found, WITHIN_RUNS, known=True) > 0.3
    said = {verdict(*each) for each in found}
    assert said <= {WITHIN_STEPS, WITHIN_RUNS, BEYOND_BOTH}
    assert spread([one_run(0, 0), one_run(0, 1)], "reward", LAST) is None


def test_the_spread_is_the_sd_of_window_means_and_its_limit_holds_for_pairs():
    sds = [spread([one_run(seed, i, wander=0.02) for i in range(5)], "reward", LAST) for seed in range(40)]
    variance = np.mean([found.sd**2 for found in sds if found is not None])
    # wander^2 + noise^2 / 36, from 40 times 4 degrees of freedom.
    assert variance == pytest.approx(0.02**2 + 0.006**2 / 36, rel=5 * math.sqrt(2 / 160))
    assert sds[0] is not None
    assert sds[0].limit == pytest.approx(2.776 * math.sqrt(2) * sds[0].sd, rel=1e-3)  # t(0.975, 4)


def test_pairing_removes_what_the_prompts_of_a_step_do_to_both_runs():
    a, b = (one_run(5, i).metric("reward") for i in (0, 1))
    found = difference(a, b, LAST)
    mixed = pd.Series(np.random.default_rng(0).permutation(LAST.of(b)), index=LAST.of(b).index)
    unpaired = difference(a, mixed, LAST)
    assert found is not None and unpaired is not None
    assert found.correlation > 0.8 > abs(unpaired.correlation)
    assert found.error < 0.7 * unpaired.error
    assert found.value == pytest.approx(unpaired.value, abs=1e-12)
    widened = difference(a, b, LAST, reading_error=0.005)
    assert widened is not None
    assert widened.step_limit == pytest.approx(found.step_limit + 0.005)


def test_windows_cut_the_common_steps_and_need_enough_of_them():
    runs = [one_run(0, 0), one_run(0, 1, steps=100)]
    windows = windows_of(runs, "reward", 4)
    assert [(w.first, w.last) for w in windows] == [(1, 25), (26, 50), (51, 75), (76, 100), (1, 100)]
    with pytest.raises(ValueError, match="100 common steps with reward; 20 windows of 4 blocks need 160"):
        windows_of(runs, "reward", 20)
    assert difference(runs[0].metric("reward"), runs[1].metric("reward"), LAST) is None


@pytest.mark.parametrize(("drift", "noise"), [(1.0, 0.0), (0.1, 1.0), (0.5, 0.5)])
def test_the_share_of_the_variance_that_the_kl_explains_is_that_of_the_drift(drift, noise):
    found = log_ratio(Run("run", ratio_frame(drift, noise)))
    share = drift**2 / (drift**2 + noise**2)
    assert found.explained == pytest.approx(share, abs=5 * found.explained_error)
    assert found.explained_error < 0.01
    assert found.mean == pytest.approx(-(drift**2) / 2, abs=5 * found.mean_error)
    assert found.sd**2 == pytest.approx(drift**2 + noise**2, rel=0.01)
    assert found.ratio_mean_median == pytest.approx(math.exp(noise**2 / 2), rel=0.05)
    assert found.ratio_mean_if_noise == pytest.approx(math.exp(noise**2 / 2), rel=0.05)


def test_a_ratio_of_two_policies_is_told_from_noise_of_the_same_size():
    real, noise = (log_ratio(Run("run", ratio_frame(*sizes))) for sizes in ((1.0, 0.0), (0.0, 1.0)))
    assert abs(real.mean - real.mean_if_ratio) < 5 * real.mean_error
    assert abs(noise.mean - noise.mean_if_ratio) > 50 * noise.mean_error
    assert abs(noise.mean) < 5 * noise.mean_error
    assert real.ratio_mean_least < 1.0 < 1.4 < noise.ratio_mean_least
    assert noise.token_sd == pytest.approx(1 / 32, rel=0.01)  # 1024 tokens


def test_the_clip_cuts_noise_as_the_normal_distribution_says():
    settings = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
    found = log_ratio(Run("run", ratio_frame(0.0, 1.0), settings=settings))
    # P(log 0.8 < Z < log 1.28) = 0.1858 for a standard normal Z.
    assert found.outside_clip == pytest.approx(1 - 0.1858, abs=5e-3)
    assert math.isnan(log_ratio(Run("run", ratio_frame(0.0, 1.0))).outside_clip)


def test_a_run_without_a_logged_ratio_is_refused_by_name():
    with pytest.raises(ValueError, match="run a has no log_ratio_sd, kl; log the mean"):
        log_ratio(Run("a", ratio_frame(0.1, 0.1).drop(columns=["log_ratio_sd", "kl"])))
    with pytest.raises(ValueError, match="run a has 7 steps with a log-ratio; at least 8"):
        log_ratio(Run("a", ratio_frame(0.1, 0.1, steps=7)))


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
