"""Training from configuration to checkpoint: every estimator, sampler, precision and size of a batch."""

import io
import json
import math
import re

import pytest
import torch
from rich.console import Console

from llm.sampling.collect import Judge
from llm.training import checkpoints, train
from llm.training.progress import Shown
from llm.update.logprobs import Scoring
from tests.thinned import more
from tests.unit.llm.llm_runs import config, lines, run, save_model, weights
from ticgrpo_theory.estimators.catalogue import FIRST


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def test_a_run_goes_through_all_stages(model, tmp_path):
    cfg = config(
        model,
        tmp_path,
        evaluation__every=2,
        evaluation__source="arithmetic",
        evaluation__split="held_out",
        evaluation__problems=6,
    )
    said = run(cfg)
    made = lines(cfg)
    assert [(line["rollout"], line["update"], line["inner_step"]) for line in made] == [
        (n, 2 * n + k, k) for n in range(3) for k in range(2)
    ]
    for line in made:
        assert all(not isinstance(x, float) or math.isfinite(x) for x in line.values()), line
        shares = [line[f"share_{stage}"] for stage in ("rollout", "old_logp", "update")]
        assert sum(shares) == pytest.approx(1.0)
        assert line["peak_memory_gib"] > 0 and line["tokens_per_second"] > 0
        assert line["sampler_gap_max"] < 1e-4
        assert ("first_step_ratio_error_max" in line) == (line["inner_step"] == 0)
    assert max(line["first_step_ratio_error_max"] for line in made[::2]) < 1e-5
    assert min(line["log_ratio_sd"] for line in made[1::2]) > 1e-2
    assert "sampler own: on a CPU" in said and "40 prompts of 40 rows" in said
    assert re.search(r"rollout 3/3  reward -\d\.\d+  \d+\.\d+ s each  0:00:00 left", said)
    after = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [line["rollout"] for line in after] == [0, 2, 3]
    assert all(line["accuracy_low"] <= line["accuracy"] <= line["accuracy_high"] for line in after)
    assert len((tmp_path / "evaluations" / "000002.jsonl").read_text().splitlines()) == 6
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["000002", "000003"]
    assert any(p.name.startswith("events") for p in (tmp_path / "tensorboard").iterdir())
    assert not (tmp_path / "run.lock").exists()


@pytest.mark.parametrize("name", sorted(FIRST))
def test_every_estimator_trains(model, tmp_path, name):
    cfg = config(
        model,
        tmp_path,
        estimator__name=name,
        updates__batches="reused",
        outer_steps=1,
        optimizer__lr=1e-3,
        sampling__prompts=2,
    )
    run(cfg)
    made = lines(cfg)
    assert [line["inner_step"] for line in made] == [0, 1]
    # A narrow clip may switch every token of the second step off.
    assert 0 < made[0]["gradient_norm"] and all(line["gradient_norm"] < math.inf for line in made)
    start = checkpoints.load_file(model / "model.safetensors")
    moved = (weights(cfg) - torch.cat([start[n].flatten() for n in sorted(start)])).abs().max()
    # Two steps of AdamW move no weight farther than twice the learning rate, up to weight decay.
    assert 1e-4 < moved < 2.1e-3


def test_stale_and_no_is_part_at_the_second_update(model, tmp_path):
    made = {}
    for name in ("stale", "no_is"):
        cfg = config(model, tmp_path / name, estimator__name=name, updates__batches="reused", outer_steps=1)
        run(cfg)
        made[name] = [line["gradient_norm"] for line in lines(cfg)]
    assert made["stale"][0] == made["no_is"][0]
    assert abs(made["stale"][1] / made["no_is"][1] - 1) > 1e-2
    assert made["stale"][1] == made["stale"][0]


@pytest.mark.parametrize("name", ["generate", "continuous"])
def test_an_update_after_any_sampler_is_an_update(model, tmp_path, name):
    cfg = config(model, tmp_path, sampling__sampler=name, outer_steps=2)
    said = run(cfg)
    assert f"sampler {name}: as configured" in said
    made = lines(cfg)
    assert max(line["sampler_gap_max"] for line in made) < 1e-4
    assert max(line["first_step_ratio_error_max"] for line in made[::2]) < 1e-5
    assert sum(line["gradient_norm"] > 0 for line in made) >= 3


@more
def test_math_verify_judges_in_its_process_and_counts_what_it_could_not(model, tmp_path):
    pytest.importorskip("math_verify")
    cfg = config(model, tmp_path, reward__kind="math_verify", outer_steps=1, sampling__prompts=2)
    run(cfg)
    assert [(line["verifier_timeouts"], line["verifier_crashes"]) for line in lines(cfg)] == [(0, 0)] * 2
    with Judge.of(cfg.reward) as judge:
        # 3+4 is what the strict comparison refuses.
        assert judge(["so \\boxed{3+4}", "so \\boxed{8}", "so \\boxed{9^{9^{9^9}}}"], [7, 7, 7]) == [
            True,
            False,
            False,
        ]
        assert set(judge.counted()) == {"verifier_timeouts", "verifier_crashes"}
        assert sum(judge.counted().values()) == 0


def test_without_tensorboard_a_run_says_so_and_goes_on(model, tmp_path, monkeypatch):
    monkeypatch.setattr("llm.training.metrics_file.find_spec", lambda name: None)
    said = run(config(model, tmp_path, outer_steps=1))
    assert "TensorBoard is not installed: metrics go to metrics.jsonl alone" in said
    assert not (tmp_path / "tensorboard").exists() and len(lines(config(model, tmp_path))) == 2


def test_tensorboard_has_the_numbers_of_the_lines(model, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg = config(model, tmp_path, outer_steps=2)
    run(cfg)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = {event.step: event.value for event in events.Scalars("gradient_norm")}
    assert shown == pytest.approx({line["update"]: line["gradient_norm"] for line in lines(cfg)}, rel=1e-6)


def test_on_a_terminal_a_bar_shows_reward_and_time_left():
    said = io.StringIO()
    with Shown(3, 1, Console(file=said, force_terminal=True, width=100)) as shown:
        shown.done(0.25)
    assert re.search(r"rollout.*2/3.*reward 0.250 .* s each .*0:00:0\d left", said.getvalue())


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
def test_reuse_uses_every_response_in_every_update(model, tmp_path, batches):
    cfg = config(model, tmp_path, updates__batches=batches, outer_steps=1)
    run(cfg)
    first, second = (line["length"] for line in lines(cfg))
    assert (first == second) == (batches == "reused")


@pytest.mark.parametrize(
    "changes",
    [
        {"updates__micro_batch_tokens": 60},
        {"updates__micro_batch_rows": 1},
        {"model__gradient_checkpointing": True},
        {"sampling__max_rows": 12},
    ],
)
def test_no_number_depends_on_what_is_chosen_for_memory(model, tmp_path, changes):
    plain = config(model, tmp_path / "plain", outer_steps=1, sampling__max_rows=64)
    other = config(model, tmp_path / "other", **{"outer_steps": 1, "sampling__max_rows": 64, **changes})
    for cfg in (plain, other):
        run(cfg)
    # A step of Adam is the learning rate times a ratio whose denominator can be as small as the noise.
    gap = (weights(plain) - weights(other)).abs()
    assert gap.median() < 1e-6
    norms = [line["gradient_norm"] for cfg in (plain, other) for line in lines(cfg)]
    assert norms[:2] == pytest.approx(norms[2:], rel=1e-3)


def test_old_log_probabilities_come_from_the_micro_batches_of_the_update(model, tmp_path, monkeypatch):
    passed = []
    real = Scoring.__call__

    def recorded(scoring, network, sequences):
        passed.append(sequences.response.tolist())
        return real(scoring, network, sequences)

    monkeypatch.setattr(Scoring, "__call__", recorded)
    run(config(model, tmp_path, outer_steps=1))
    # Two mini-batches of 6 rows in micro-batches of 5 and 1, once each before the updates and in them.
    assert [len(rows) for rows in passed] == [5, 1, 5, 1] * 2
    assert passed[:4] == passed[4:]


def test_bfloat16_computes_in_low_precision_on_weights_in_float32(model, tmp_path):
    cfg = config(model, tmp_path, model__dtype="bfloat16", outer_steps=2)
    run(cfg)
    assert weights(cfg).dtype == torch.float32
    made = lines(cfg)
    exact = config(model, tmp_path / "exact", outer_steps=2)
    run(exact)
    assert 1e-6 < abs(made[0]["gradient_norm"] / lines(exact)[0]["gradient_norm"] - 1) < 0.1
    # The same micro-batches and precision for the old log-probabilities: no noise in the first ratio.
    assert made[0]["first_step_ratio_error_max"] < 1e-6


def test_a_kl_penalty_pulls_towards_the_policy_at_the_start(model, tmp_path):
    ends = {}
    for beta in (0.0, 50.0):
        kl = {"kl__beta": beta, "kl__reference": "initial"} if beta else {}
        cfg = config(model, tmp_path / str(beta), outer_steps=3, optimizer__clip_norm=1e9, **kl)
        run(cfg)
        ends[beta] = weights(cfg), [line["gradient_norm"] for line in lines(cfg)]
    # At the start the penalty of k3 has no gradient.
    assert ends[0.0][1][0] == pytest.approx(ends[50.0][1][0], rel=1e-5)
    assert ends[50.0][1][1] > 2 * ends[0.0][1][1]


def test_the_learning_rate_warms_up_to_a_constant(model, tmp_path):
    cfg = config(model, tmp_path, optimizer__warmup_steps=4, optimizer__lr=0.008)
    run(cfg)
    assert [line["lr"] for line in lines(cfg)] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.008, 0.008])


def test_gradients_are_shortened_where_it_is_asked_for(model, tmp_path):
    moved = {}
    for limit in (1e-12, 1e9):
        cfg = config(
            model,
            tmp_path / str(limit),
            optimizer__clip_norm=limit,
            optimizer__eps=1.0,
            optimizer__weight_decay=0,
        )
        run(cfg)
        start = checkpoints.load_file(model / "model.safetensors")
        moved[limit] = (weights(cfg) - torch.cat([start[n].flatten() for n in sorted(start)])).norm()
    assert moved[1e-12] < 0.1 * moved[1e9]


def test_an_evaluation_draws_the_same_random_numbers_whenever_it_is_made(model, tmp_path):
    cfg = config(
        model,
        tmp_path,
        evaluation__every=1,
        evaluation__source="arithmetic",
        evaluation__split="held_out",
        evaluation__problems=9,
        evaluation__k=2,
        evaluation__temperature=1.0,
        sampling__max_rows=8,
    )
    with train.prepared(cfg, lambda line: None) as made:
        before, after = made.held_out(0), made.held_out(5)
        with torch.no_grad():
            made.loop.network.get_output_embeddings().weight.mul_(0.5)
        made.held_out(6)
    tables = [(tmp_path / "evaluations" / f"{n:06d}.jsonl").read_text() for n in (0, 5, 6)]
    assert tables[0] == tables[1] != tables[2]
    assert before == after | {"rollout": 0}
    assert before["k"] == 2 and before["problems"] == 9
