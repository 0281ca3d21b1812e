"""What ends a run, or a step of it: with a sentence, and with everything kept that a run goes on from."""

import json
import math
import re

import pytest
import torch

from llm.data import rewards
from llm.training import checkpoints, loop, train
from llm.training.metrics_file import without_timings
from llm.update.step import NonFinite
from tests.properties.tolerances import SAME_BITS
from tests.unit.llm.llm_runs import arguments, config, lines, run, save_model, weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


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
        (
            "llm.sampling.rollout.sample",
            "rollout",
            r"sampling\.max_rows = 128, sampling\.max_response_tokens = 8",
        ),
        (
            "llm.training.loop.score",
            "old log-probabilities",
            r"updates\.micro_batch_rows = 5, .*micro_batch_tokens",
        ),
        (
            "llm.update.inner_steps.update",
            "update",
            r"updates\.micro_batch_rows = 5.*model\.gradient_checkpointing",
        ),
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

    monkeypatch.setattr("llm.training.heldout.rows", full)
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
