"""experiments/ablation_no_is.py: one algorithm with K = 1, three with K = 4, and who is behind whom."""

import pandas as pd
import pytest

from experiments import ablation_no_is as experiment_script
from experiments.ablation_no_is import Config
from tests.thinned import more
from ticgrpo_theory.simulate.learning_curves import verdict

pytestmark = more


def made(world: str, eta: float, K: int, batches: str = "reused", **options) -> pd.DataFrame:
    """The last rows of one cell by estimator: how far each is from grpo over the training."""
    cfg = Config(**{"group_size": 8, "length": 8.0, "records": 4, "replicates": 48} | options)
    frame = pd.DataFrame(experiment_script.cell(cfg, world, eta, K, batches))
    return frame[frame.n == frame.n.max()].set_index("estimator")


def test_with_one_update_for_each_rollout_there_is_nothing_to_leave_out():
    one = made("distinct-values", 1.0, 1)
    for name in ("no_is", "stale", "token"):
        assert one.gap[name] == one.mean_gap[name] == one.gap_half[name] == 0.0
    # Partner: with four updates the same runs are told apart, and no_is and stale are two algorithms.
    four = made("distinct-values", 1.0, 4)
    for name in ("no_is", "stale", "token"):
        assert four.gap_half[name] > 0
    assert four.J["no_is"] != four.J["stale"]


def test_the_clip_loses_what_the_ratio_is_blamed_for():
    end = made("bandit", 0.5, 4)
    for name in ("no_is", "stale", "token"):
        assert end.mean_gap[name] > end.mean_gap_half[name]
        # The ratio alone keeps up: most of the difference is the clip's.
        assert end.mean_gap["token"] > 0.7 * end.mean_gap[name]
    # Partner: with steps too short for the clip, ratio and clipped ratio are one algorithm.
    short = made("bandit", 0.005, 4, length=0.4)
    assert short.mean_gap["token"] == short.gap_half["token"] == 0.0
    assert short.gap_half["stale"] > 0


def test_a_verdict_says_only_what_its_interval_allows():
    assert verdict(0.02, 0.01).endswith("ahead")
    assert verdict(-0.02, 0.01).endswith("behind")
    assert verdict(0.01, 0.01).endswith("undecided")
    assert verdict(0.0, 0.0) == "the same, to the bit"


def test_all_runs_go_equally_far():
    cfg = Config(length=40.0, records=10, replicates=2, group_size=8)
    for eta, K, N in ((0.25, 4, 40), (0.5, 1, 80), (1.0, 4, 10)):
        frame = pd.DataFrame(experiment_script.cell(cfg, "bandit", eta, K, "reused"))
        assert frame.n.max() == N
        assert frame.n.nunique() == 11


@pytest.mark.parametrize(
    "change, text",
    [
        ({"worlds": ("bandits",)}, "unknown entry 'bandits' of worlds; the nearest is 'bandit'"),
        ({"etas": ()}, "give at least one, and none twice"),
        ({"length": 0.0}, "length = 0.0: a run has steps and records"),
        ({"replicates": 1}, "replicates = 1: intervals need 2 or more"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(Config(**change))


def test_the_script_writes_rows_and_a_figure_and_says_that_one_update_is_the_same(tmp_path, capsys):
    cfg = Config(
        worlds=("bandit",),
        etas=(1.0,),
        length=4.0,
        records=1,
        replicates=2,
        group_size=8,
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "ablation_no_is.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "ablation_no_is.png").stat().st_size > 10_000
    assert "K = 1: all four have the same J" in capsys.readouterr().out
