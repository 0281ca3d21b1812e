"""metrics.py: every number by hand on a small group, and the noise that it is there to show."""

import math
from dataclasses import replace

import pytest
import torch

from llm.model import Architecture, forward_flops, tiny
from llm.sequences import Sequences
from llm.update import metrics
from llm.update.groups import Groups, minibatches
from llm.update.inner_steps import updates
from llm.update.logprobs import Scoring
from llm.update.metrics import (
    clip_metrics,
    correction_metrics,
    effective_sample_size,
    first_step,
    length_metrics,
    peak_flops,
    ratio_metrics,
    sampler_gap,
    speed_metrics,
    update_metrics,
)
from llm.update.microbatches import consecutive_rows, padded_tokens
from llm.update.step import Pass, Recipe, accumulate, score
from tests.mutants.mutants import Mutant, plant
from tests.unit.llm.llm_cases import fresh, groups, model
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred, raw
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.estimators.clipping import before_pooling, saturating, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.corrections import masked
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.ratios import geometric_mean, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.stats.rng import stream

WHOLE = consecutive_rows(12)
LOG_RATIOS = torch.tensor([[[0.5, -0.5, 0.1], [0.3, 0.3, 0.0], [-0.3, 0.5, -0.5]]], dtype=torch.float64)
LENGTHS = (3, 2, 3)
REWARDS = (2.0, 0.0, -2.0)


def by_hand(log_ratio: torch.Tensor = LOG_RATIOS) -> tuple[Groups, Pass]:
    """One prompt, three responses of three, two and three tokens, A = 2, 0, -2 when centred."""
    made = Sequences.of_lists([[1]] * 3, [[2] * n for n in LENGTHS], pad=0)
    logp_old = torch.full((1, 3, 3), -2.0, dtype=torch.float64)
    given = Groups(made, torch.tensor([REWARDS], dtype=torch.float64), logp_old, horizon=3)
    return given, Pass(logp_old + log_ratio, torch.zeros(1, 3, 3).double(), None, 1.0)


def recipe(clip, ratio=token) -> Recipe:
    return Recipe(Estimator(ratio, centred(), clip, sequence_mean), WHOLE)


def check_ratios() -> None:
    given, done = by_hand()
    found = update_metrics(given, done, recipe(unclipped()), first=False)
    log_w = [0.1, 0.6, -0.3]
    mean, sd = sum(log_w) / 3, math.sqrt(sum((x - sum(log_w) / 3) ** 2 for x in log_w) / 3)
    w = [math.exp(x) for x in log_w]
    expected = {
        "log_ratio_mean": mean,
        "log_ratio_max": 0.6,
        "log_ratio_min": -0.3,
        "log_ratio_sd": sd,
        "log_ratio_mean_gap": mean + sd**2 / 2,
        "effective_sample_size": sum(w) ** 2 / (3 * sum(x * x for x in w)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def check_clips() -> None:
    # Bounds log 0.8 = -0.22 and log 1.2 = 0.18. A > 0 is cut above at one token of three, A < 0 below at two.
    found = clip_metrics(*by_hand(), recipe(two_sided(0.2, 0.2)))
    expected = {"clipped_positive": 1 / 3, "clipped_negative": 2 / 3, "held_positive": 0, "held_negative": 0}
    assert found == pytest.approx(expected, abs=1e-12)


def test_ratios_of_trajectories_by_hand():
    check_ratios()


def test_clipped_shares_by_sign_are_those_of_the_estimators_own_bounds():
    check_clips()
    upper = clip_metrics(*by_hand(), recipe(upper_only(0.2)))
    assert (upper["clipped_positive"], upper["clipped_negative"]) == pytest.approx((1 / 3, 1 / 3))
    # log w' = 0.1 and -0.3: for the whole response only A < 0 is outside.
    pooled = clip_metrics(*by_hand(), recipe(two_sided(0.2, 0.2), trajectory))
    assert (pooled["clipped_positive"], pooled["clipped_negative"]) == (0.0, 1.0)
    assert set(clip_metrics(*by_hand(), recipe(unclipped())).values()) == {0.0}


def test_held_shares_are_those_of_clips_that_keep_a_clamped_weight():
    found = clip_metrics(*by_hand(), recipe(saturating(two_sided(0.2, 0.2))))
    expected = {"clipped_positive": 0, "clipped_negative": 0, "held_positive": 1 / 3, "held_negative": 2 / 3}
    assert found == pytest.approx(expected, abs=1e-12)
    # A clamped token is off, and moves the weights of the others, which are then not what they were.
    found = clip_metrics(*by_hand(), recipe(before_pooling(two_sided(0.2, 0.2)), geometric_mean))
    expected = {
        "clipped_positive": 1 / 3,
        "clipped_negative": 2 / 3,
        "held_positive": 2 / 3,
        "held_negative": 1 / 3,
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_share_moves_with_the_bound():
    wide, narrow = (clip_metrics(*by_hand(), Recipe(grpo(e, e), WHOLE)) for e in (0.45, 0.05))
    assert wide["clipped_negative"] == 0.0 and narrow["clipped_negative"] == 2 / 3
    assert wide["clipped_positive"] == 1 / 3 and narrow["clipped_positive"] == 2 / 3


def test_groups_of_equal_rewards_and_callables_have_no_clipped_share():
    given, done = by_hand()
    level = replace(given, reward=torch.ones_like(given.reward))
    assert clip_metrics(level, done, recipe(two_sided(0.2, 0.2))) == {}
    loss = from_loss(lambda logp, logp_old, A, mask: (logp * A[..., None]).sum(), raw())
    assert clip_metrics(given, done, Recipe(loss, WHOLE)) == {}


def test_the_effective_sample_size_is_a_share_and_does_not_overflow():
    assert effective_sample_size(torch.zeros(7).double()) == pytest.approx(1.0, abs=1e-12)
    assert effective_sample_size(torch.tensor([2000.0, 0.0, 0.0, 0.0]).double()) == pytest.approx(
        0.25, abs=1e-12
    )
    assert effective_sample_size(torch.tensor([-3000.0, -3000.0]).double()) == pytest.approx(1.0, abs=1e-12)


def test_the_first_step_error_is_the_distance_of_ratios_from_one():
    found = first_step(torch.tensor([[0.0, math.log(1.5)], [math.log(0.9), 0.0]], dtype=torch.float64))
    assert found == pytest.approx(
        {"first_step_ratio_error_max": 0.5, "first_step_ratio_error_mean": 0.15}, abs=1e-12
    )


METRIC_MUTANTS = [
    Mutant("sd with 1/(n-1)", ratio_metrics, "correction=0", "correction=1", check_ratios),
    Mutant("mean gap with the other sign", ratio_metrics, "(mean + sd", "(mean - sd", check_ratios),
    Mutant("sample size not a share", effective_sample_size, " / len(log_w)", "", check_ratios),
    Mutant("signs confused", clip_metrics, '("negative", A < 0)', '("negative", A > 0)', check_clips),
]


@pytest.mark.parametrize("mutant", METRIC_MUTANTS, ids=lambda m: m.name)
def test_a_mistake_in_a_metric_is_noticed(mutant, monkeypatch):
    mutant.check()
    plant(mutant, monkeypatch)
    with pytest.raises(AssertionError):
        mutant.check()


def test_true_ratios_have_the_mean_of_a_lognormal_and_noise_has_not():
    # Normal log-ratios whose ratio has mean 1: the gap closes. Pure noise around 0 leaves sd^2 / 2.
    noise = torch.randn(4000, 5, generator=stream(0, "noise"), dtype=torch.float64)
    true = ratio_metrics(0.8 * noise - 0.32)
    pure = ratio_metrics(0.8 * noise)
    error = 5 * 0.8 / math.sqrt(20000)
    assert abs(true["log_ratio_mean_gap"]) < error
    assert abs(pure["log_ratio_mean_gap"] - 0.32) < error < 0.32 / 5


def test_lengths_by_reward():
    given, _ = by_hand()
    found = length_metrics(given)
    assert found == pytest.approx(
        {
            "reward": 0.0,
            "length": 8 / 3,
            "length_max": 3.0,
            "length_high_reward": 3.0,
            "length_low_reward": 2.5,
        }
    )
    level = length_metrics(replace(given, reward=torch.ones_like(given.reward)))
    assert set(level) == {"reward", "length", "length_max"}


def test_the_gap_between_sampler_and_trainer():
    given, _ = by_hand()
    assert sampler_gap(given) == {}
    off = torch.tensor([[[0.1, -0.2, 0.0], [0.3, 0.0, 99.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    found = sampler_gap(replace(given, logp_sampler=given.logp_old + off))
    sums = torch.tensor([-0.1, 0.3, 0.0], dtype=torch.float64)
    assert found == pytest.approx(
        {
            "sampler_gap_mean": 0.6 / 8,
            "sampler_gap_max": 0.3,
            "sampler_gap_sd": sums.std(correction=0).item(),
        },
        abs=1e-12,
    )


def test_a_correction_reports_its_mean_and_what_it_masks():
    given, _ = by_hand()
    off = torch.tensor([[[0.1, -0.2, 0.0], [0.3, 0.0, 99.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    given = replace(given, logp_sampler=given.logp_old + off)
    corrected = replace(recipe(unclipped()).estimator, correction=masked("token", None, 1.0))
    found = correction_metrics(given, Recipe(corrected, WHOLE))
    w = [math.exp(0.1), math.exp(-0.3), 1.0]
    assert found == pytest.approx(
        {
            "correction_mean": (math.exp(-0.1) + math.exp(-0.3) + 5) / 8,
            "correction_masked": 1 / 8,
            "sampler_effective_sample_size": sum(w) ** 2 / (3 * sum(x**2 for x in w)),
        }
    )
    assert correction_metrics(given, recipe(unclipped())) == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_first_update_of_a_rollout_has_ratios_of_exactly_one(dtype):
    lm = fresh(dtype=dtype)
    how = Recipe(ESTIMATORS["tic_grpo"], padded_tokens(20))
    given = groups(torch.float64 if dtype == torch.float64 else torch.float32)
    scores = score(lm.network, given.sequences, 4, minibatches(3, 1, "reused"), how)
    done = accumulate(lm.network, replace(given, logp_old=scores.logp.reshape(3, 4, 6)), how)
    found = update_metrics(replace(given, logp_old=scores.logp.reshape(3, 4, 6)), done, how, first=True)
    assert found["first_step_ratio_error_max"] == 0.0 and found["effective_sample_size"] == pytest.approx(1)


def test_other_micro_batches_show_as_noise_in_bfloat16():
    # The partner: old log-probabilities from rows one at a time, as a careless trainer takes them.
    lm = tiny(Architecture(vocab_size=32, hidden=64, layers=4, eos=1, pad=0), dtype=torch.bfloat16, std=0.1)
    drawn = torch.randint(2, 32, (8, 64), generator=stream(0, "tokens"))
    rows = [row[: 40 + 3 * b] for b, row in enumerate(drawn.tolist())]
    made = Sequences.of_lists([row[: 4 + b] for b, row in enumerate(rows)], [row[12:] for row in rows], pad=0)
    parts, how = minibatches(2, 1, "reused"), Recipe(ESTIMATORS["tic_grpo"], consecutive_rows(8))
    errors = []
    for cut in (consecutive_rows(8), consecutive_rows(1)):
        logp_old = score(lm.network, made, 4, parts, replace(how, microbatches=cut)).logp.reshape(2, 4, -1)
        given = Groups(made, torch.arange(8.0).reshape(2, 4), logp_old)
        done = accumulate(lm.network, given, how)
        errors.append(update_metrics(given, done, how, first=True)["first_step_ratio_error_max"])
    assert errors[0] == 0.0 and errors[1] > 1e-3, errors


def test_one_update_logs_everything_and_later_ones_no_first_step():
    lm = fresh()
    how = Recipe(ESTIMATORS["grpo"], padded_tokens(30), Scoring(entropy=True), max_norm=1.0)
    given = replace(groups(), logp_sampler=groups().logp_old + 0.01)
    optimizer = torch.optim.SGD(lm.network.parameters(), 0.01)
    seen = [
        update_metrics(mini, done, how, first=k == 0)
        for k, (mini, done) in enumerate(updates(lm.network, optimizer, given, how, 2, "reused"))
    ]
    assert set(seen[0]) - set(seen[1]) == {"first_step_ratio_error_max", "first_step_ratio_error_mean"}
    assert set(seen[1]) == {
        *("log_ratio_mean", "log_ratio_max", "log_ratio_min", "log_ratio_sd", "log_ratio_mean_gap"),
        *("effective_sample_size", "clipped_positive", "clipped_negative", "held_positive", "held_negative"),
        *("reward", "length", "length_max", "length_high_reward", "length_low_reward"),
        *("sampler_gap_mean", "sampler_gap_max", "sampler_gap_sd", "entropy", "gradient_norm"),
    }
    assert all(isinstance(x, float) and math.isfinite(x) for found in seen for x in found.values())
    assert 0 < seen[0]["entropy"] < math.log(8) and seen[0]["gradient_norm"] > 1.0
    assert seen[0]["sampler_gap_mean"] == pytest.approx(0.01) and seen[0]["sampler_gap_max"] == pytest.approx(
        0.01
    )


def test_speed_counts_tokens_and_three_forward_passes(monkeypatch):
    given = groups()
    tokens = int(given.sequences.total_lengths.sum())
    assert speed_metrics(model().network, given, 2.0) == {"tokens_per_second": tokens / 2}
    work = forward_flops(
        model().network, given.sequences.prompt_lengths.tolist(), given.sequences.lengths.tolist()
    )
    found = speed_metrics(model().network, given, 2.0, peak=1e9)
    assert found["mfu"] == pytest.approx(3 * work / 2e9)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 PCIe")
    assert peak_flops(torch.device("cuda")) == metrics.PEAK_FLOPS["H100 PCIe"] < metrics.PEAK_FLOPS["H100"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Something else")
    assert peak_flops(torch.device("cuda")) is None
