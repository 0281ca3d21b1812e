"""Training from configuration to checkpoint, every estimator, and what ends a run."""

import io
import json
import math
import re

import pytest
import torch
from llm_runs import arguments, config, save_model
from rich.console import Console
from tolerances import SAME_BITS

from llm import checkpoints, loop, rewards, rollout, train
from llm.collect import Judge, Source
from llm.data import Position
from llm.journal import without_timings
from llm.logprobs import Scoring
from llm.progress import Shown
from llm.step import NonFinite
from ticgrpo_theory.estimators import ESTIMATORS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def run(cfg) -> str:
    """What the run said."""
    said = io.StringIO()
    train.train(cfg, Console(file=said, width=200))
    return said.getvalue()


def lines(cfg) -> list[dict]:
    return [json.loads(line) for line in (cfg.output / "metrics.jsonl").read_text().splitlines()]


def weights(cfg) -> torch.Tensor:
    newest = checkpoints.newest(cfg.output / "checkpoints", print)
    saved = checkpoints.load_file(newest / "model.safetensors")
    return torch.cat([saved[name].flatten() for name in sorted(saved)])


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


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
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
    monkeypatch.setattr("llm.journal.find_spec", lambda name: None)
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


def test_micro_batches_respect_both_limits():
    from llm.sequences import Sequences

    rows = [[1] * n for n in (3, 9, 4, 8, 2, 7, 3)]
    sequences = Sequences.of_lists(rows, [[1]] * 7, pad=0)
    parts = loop.tokens_and_rows(tokens=20, rows=2)(sequences)
    assert sorted(torch.cat(parts).tolist()) == list(range(7))
    for part in parts:
        longest = int(sequences.total_lengths[part].max())
        assert len(part) <= 2 and len(part) * longest <= 20


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


# What ends a run, or a step.


def test_a_rollout_without_differences_is_skipped_and_counted(model, tmp_path):
    cfg = config(model, tmp_path, reward__overlong_buffer=0)
    run(cfg)
    made = lines(cfg)
    assert [line["rollouts_skipped"] for line in made] == [1, 1, 1]
    assert [line["update"] for line in made] == [0, 0, 0]
    state = json.loads((tmp_path / "checkpoints" / "000003" / "state.json").read_text())
    assert (state["updates"], state["counters"]["rollouts_skipped"]) == (0, 3)
    start = checkpoints.load_file(model / "model.safetensors")
    assert torch.equal(weights(cfg), torch.cat([start[n].flatten() for n in sorted(start)]))


def test_equal_rewards_are_no_reason_to_skip_an_estimator_without_baseline(model, tmp_path):
    cfg = config(
        model,
        tmp_path,
        reward__overlong_buffer=0,
        reward__values="plus_minus_one",
        estimator__name="reinforce",
        outer_steps=1,
    )
    run(cfg)
    assert [line["rollouts_skipped"] for line in lines(cfg)] == [0, 0]


def test_a_reward_that_is_no_number_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(rewards, "overlong", lambda *_: math.nan)
    with pytest.raises(ValueError, match=r"reward of response 0 of the rollout is nan: .*no update was made"):
        run(config(model, tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_loss_that_is_no_number_stops_with_the_batch_on_disk_and_the_checkpoint_kept(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "learning_rate", lambda options, n: 1e30 if n == 2 else options.lr)
    cfg = config(model, tmp_path)
    with pytest.raises(
        NonFinite, match=r"rollout 1, inner step 1: .* saved as .*the last checkpoint is kept"
    ):
        run(cfg)
    saved = torch.load(tmp_path / "failed-rollout-1-step-1.pt", weights_only=True)
    assert saved["reward"].shape == (2, 3) and saved["sequences.mask"].shape[0] == 6
    assert torch.isfinite(saved["logp_old"]).all()
    newest = checkpoints.newest(tmp_path / "checkpoints", print)
    assert newest.name == "000001"
    assert torch.isfinite(weights(cfg)).all()
    assert {line["rollout"] for line in lines(cfg)} == {0}
    monkeypatch.undo()
    run(cfg)
    assert {line["rollout"] for line in lines(cfg)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("where", "stage", "sizes"),
    [
        ("llm.rollout.sample", "rollout", r"sampling\.max_rows = 128, sampling\.max_response_tokens = 8"),
        ("llm.loop.score", "old log-probabilities", r"updates\.micro_batch_rows = 5, .*micro_batch_tokens"),
        ("llm.updates.update", "update", r"updates\.micro_batch_rows = 5.*model\.gradient_checkpointing"),
    ],
)
def test_too_little_memory_is_answered_with_the_sizes_to_lower(
    model, tmp_path, monkeypatch, where, stage, sizes
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(where, full)
    with pytest.raises(MemoryError, match=rf"for the {stage} .CUDA out of memory.*lower or change {sizes}"):
        run(config(model, tmp_path))


def test_too_little_memory_for_an_evaluation_is_named_too(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("llm.heldout.rows", full)
    cfg = config(
        model, tmp_path, evaluation__every=1, evaluation__source="arithmetic", evaluation__split="held_out"
    )
    with pytest.raises(MemoryError, match=r"for the evaluation .*sampling\.max_rows"):
        run(cfg)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model__path": "tests"},
            "Unrecognized model in tests",
        ),
        ({"data__source": "missing.jsonl"}, r"missing\.jsonl does not exist"),
        ({"data__max_prompt_tokens": 1}, "leaves nothing to train on"),
        ({"data__template": "chat"}, "has no chat template"),
        ({"sampling__max_response_tokens": 5000}, "has 4096 positions: lower sampling"),
        ({"sampling__sampler": "vllm"}, "vLLM is not installed"),
        ({"estimator__name": "grppo"}, "grpo"),
        ({"optimizer__lrr": 1}, "did you mean --optimizer.lr"),
    ],
)
def test_bad_input_ends_in_one_line(model, tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr("sys.argv", ["llm.train", *arguments(model, tmp_path, **changes)])
    with pytest.raises(SystemExit) as end:
        train.main()
    assert re.search(said, str(end.value.code)), end.value.code
    assert str(end.value.code).startswith("error: ") and "\n" not in str(end.value.code)


def test_a_model_without_weights_is_refused(model, tmp_path):
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    with pytest.raises(ValueError, match=r"model\.path = .* cannot be loaded .*: name a folder with config"):
        run(config(tmp_path, tmp_path / "out"))


def test_two_runs_do_not_share_a_folder(model, tmp_path):
    cfg = config(model, tmp_path)
    with train.alone(tmp_path), pytest.raises(ValueError, match=r"another process trains into .* --output"):
        run(cfg)


def test_a_folder_of_another_configuration_is_refused_by_name(model, tmp_path):
    run(config(model, tmp_path, outer_steps=1))
    other = config(model, tmp_path, outer_steps=2, optimizer__lr=0.5)
    with pytest.raises(ValueError, match=r"optimizer\.lr = 0\.01 \(now 0\.5\)"):
        run(other)


def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(model, tmp_path):
    whole, broken = (config(model, tmp_path / name, outer_steps=2) for name in ("whole", "broken"))
    for cfg in (whole, broken):
        run(cfg)
    (broken.output / "checkpoints" / "000002" / "training.pt").write_bytes(b"")
    said = run(broken)
    assert "000002 is damaged: training.pt has 0 bytes" in said and "going on from" in said
    torch.testing.assert_close(weights(broken), weights(whole), **SAME_BITS)
    same = [[without_timings(line) for line in lines(cfg)] for cfg in (whole, broken)]
    assert same[0] == same[1]


# Dynamic sampling.


class Script(Judge):
    """Says which responses are right, round after round: of each group so many."""

    def __init__(self, rounds, G):
        super().__init__(None)
        object.__setattr__(self, "rounds", iter(rounds))
        object.__setattr__(self, "G", G)

    def __call__(self, responses, truths):
        found = [i < n for n in next(self.rounds) for i in range(self.G)]
        assert len(found) == len(responses)
        return found


def collected(model, tmp_path, rounds, number=0, **changes):
    cfg = config(model, tmp_path, dynamic_sampling__enabled=True, **changes)
    with train.prepared(cfg, lambda line: None) as made:
        source = made.loop.source
        scripted = Source(source.problems, source.tokenizer, source.sampler, Script(rounds, 3), cfg)
        return scripted.collect(number, Position())


def test_groups_without_variation_are_replaced(model, tmp_path):
    got = collected(model, tmp_path, [[0, 1, 3, 2], [3, 1], [2]])
    assert got.right.sum(dim=1).tolist() == [1, 2, 1, 2]
    assert got.position == Position(0, 7)
    assert (got.counts["groups_replaced"], got.counts["rounds"], got.counts["responses"]) == (3, 3, 21)
    assert len(got.drawn.sequences) == 12 and got.drawn.logp.shape == got.drawn.sequences.mask.shape
    prompts = {tuple(row.tolist()) for row in got.drawn.sequences.prompt}
    assert len(prompts) == 4


def test_every_round_of_every_rollout_has_random_numbers_of_its_own(model, tmp_path, monkeypatch):
    states = []
    real = rollout.sample

    def recorded(*arguments, generator):
        states.append(generator.get_state())
        return real(*arguments, generator=generator)

    monkeypatch.setattr(rollout, "sample", recorded)
    for number in (0, 1):
        collected(model, tmp_path, [[0] * 4, [1] * 4], number=number)
    assert len(states) == 4
    assert len({tuple(state.tolist()) for state in states}) == 4


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


def test_without_dynamic_sampling_every_group_stays(model, tmp_path):
    cfg = config(model, tmp_path)
    with train.prepared(cfg, lambda line: None) as made:
        got = made.loop.source.collect(0, Position())
    assert got.right.sum() == 0 and got.reward.shape == (4, 3)
    assert got.counts["groups_replaced"] == 0


@pytest.mark.parametrize(
    ("rounds", "kept"),
    [([[0, 1, 2, 1], [0]], [1, 2, 1, 0]), ([[0, 1, 0, 0], [3, 0, 0]], [1, 3]), ([[0] * 4, [3] * 4], [3, 3])],
)
def test_when_rounds_run_out_the_mini_batches_are_filled_up(model, tmp_path, rounds, kept):
    got = collected(model, tmp_path, rounds, dynamic_sampling__max_rounds=2)
    assert got.right.sum(dim=1).tolist() == kept
    assert got.reward.shape == (len(kept), 3)


def test_the_overlong_penalty_is_part_of_the_reward(model, tmp_path):
    got = collected(model, tmp_path, [[1, 1, 1, 1]], reward__overlong_buffer=4)
    length = got.drawn.sequences.lengths.reshape(4, 3).double()
    punished = (-(length - 4) / 4).clamp(-1, 0)
    torch.testing.assert_close(got.reward, got.right + punished, **SAME_BITS)
    assert punished.min() == -1
