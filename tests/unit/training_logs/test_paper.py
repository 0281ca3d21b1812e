"""paper.py: what a statement of the paper needs, computed from the runs that are there."""

import math

import pandas as pd
import pytest

from tests.unit.training_logs.logged_runs import ratio_frame
from ticgrpo_theory.training_logs import paper
from ticgrpo_theory.training_logs.paper import AGREES, CONTRADICTS, Statement, needs, statements
from ticgrpo_theory.training_logs.runs import Logs, Run

SETTINGS = {"train_batch_size": 128, "ppo_mini_batch_size": 32, "ppo_epochs": 1, "rollout_n": 16}


def logged(name: str, **columns: list[float]) -> Run:
    steps = pd.RangeIndex(1, 1 + max((len(values) for values in columns.values()), default=0), name="step")
    return Run(name, pd.DataFrame(columns, index=steps), settings=SETTINGS)


@pytest.mark.parametrize(("value", "judgement"), [(2.0, AGREES), (4.0, AGREES), (4.5, CONTRADICTS)])
def test_a_statement_agrees_where_the_number_lies_in_its_range(value, judgement):
    found = Statement("reuse", "", "", "", 2.0, 4.0, value, "run")
    assert found.judgement == judgement
    assert Statement("", "", "", "", 2.0, 4.0, math.nan, "run").judgement == CONTRADICTS
    assert [needs(2.0, 4.0), needs(2.0, 2.0), needs(2.0, math.inf)] == ["2 to 4", "2", "at least 2"]


def test_updates_and_uses_are_read_off_the_printed_settings():
    (updates,) = paper.stale_gradients(logged("only_old_policy"))
    assert (updates.value, updates.judgement) == (4.0, AGREES)  # 1 * 128 / 32
    (uses,) = paper.reuse(logged("seq_grpo"))
    assert (uses.value, uses.judgement) == (1.0, CONTRADICTS)


def test_the_number_of_problems_is_the_least_denominator_of_all_scores():
    (found,) = paper.evaluation(logged("only_old_policy", validation=[7 / 30, 0.5, 1 / 3]))
    assert (found.value, found.judgement) == (30.0, AGREES)
    (other,) = paper.evaluation(logged("only_old_policy", validation=[0.25, 0.5]))
    assert (other.value, other.judgement) == (4.0, CONTRADICTS)


def test_mixed_groups_have_a_mean_reward_of_at_least_one_over_G():
    below, above = (logged("only_old_policy", reward=[least, 0.5]) for least in (1 / 32, 1 / 16))
    assert [paper.dynamic_sampling(run)[0].judgement for run in (below, above)] == [CONTRADICTS, AGREES]


def test_shaped_rewards_do_not_add_up_to_whole_numbers():
    whole, shaped = (logged("seq_grpo", reward=[total / 2048, 0.5]) for total in (700.0, 700.25))
    assert paper.whole_rewards(whole)[0].value == 0.0
    assert paper.whole_rewards(shaped)[0].value == 1.0


def test_a_ratio_of_two_policies_agrees_and_noise_contradicts():
    real, noise = (
        paper.ratio(Run("seq_grpo", ratio_frame(*sizes), settings=SETTINGS))
        for sizes in ((1.0, 0.0), (0.0, 1.0))
    )
    assert [found.judgement for found in noise] == [CONTRADICTS] * 3
    assert real[0].judgement == real[2].judgement == AGREES


def test_an_entry_whose_run_is_absent_or_says_too_little_is_named():
    made, absent = statements(Logs((logged("only_old_policy", reward=[0.5, 0.5]),)))
    assert {found.name for found in made} == {"stale gradients", "evaluation"}
    assert "reuse is left out: there is no run seq_grpo" in absent
    assert any(sentence.startswith("model is left out: model = None of run") for sentence in absent)
