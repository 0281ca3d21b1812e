"""runs.py: numbers of one run, and the settings that a comparison cannot do without."""

import pandas as pd
import pytest

from ticgrpo_theory.training_logs.runs import Logs, Run, numbers, updates_per_rollout


def test_updates_between_two_refreshes_are_epochs_times_mini_batches():
    settings = {"ppo_epochs": 2, "train_batch_size": 96, "ppo_mini_batch_size": 32}
    assert updates_per_rollout(settings) == 6
    assert numbers(settings, "ppo_mini_batch_size", "ppo_epochs") == [32, 2]


@pytest.mark.parametrize("value", [None, 0, -1, "32"])
def test_a_setting_that_is_no_positive_number_is_named(value):
    with pytest.raises(ValueError, match=r"ppo_epochs = .*; a positive number is needed"):
        numbers({"ppo_epochs": value, "lr": 1e-6}, "lr", "ppo_epochs")


def test_a_metric_has_the_steps_at_which_it_was_logged():
    run = Run("a", pd.DataFrame({"reward": [0.5, None, 0.25]}, index=[1, 2, 5]), family="x")
    assert run.metric("reward").to_dict() == {1: 0.5, 5: 0.25}
    assert (run.last("reward"), run.last("kl"), len(run.metric("kl"))) == (5, 0, 0)
    logs = Logs((run,))
    assert logs.run("a") is run and logs.family("x") == (run,) and logs.family("y") == ()
    with pytest.raises(ValueError, match="no run is called 'b': there are a"):
        logs.run("b")
