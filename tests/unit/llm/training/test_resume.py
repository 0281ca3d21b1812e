"""Killed at any moment and started again, a run ends as one that was left alone: weights and metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from llm.data.problems import Position
from llm.training import checkpoints, metrics_file, train
from tests.thinned import more
from tests.unit.llm.llm_runs import config, save_model


def facts(*arguments: object) -> dict:
    program = Path(__file__).with_name("killed_trainings.py")
    path = os.pathsep.join([str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def assert_all_end_alike(told: dict) -> None:
    for made in told["runs"]:
        assert made["again"] == 0
        assert max(made["lost"], default=0) <= 1, "more than the rollout in flight was lost"
        for what in ("weights", "moments", "metrics", "evaluations", "files"):
            assert made[what] == told["whole"][what], what


@more
@pytest.mark.parametrize("times", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments_every_run_ends_as_if_left_alone(times, tmp_path):
    told = facts("random", tmp_path, times)
    assert [made["kills"] for made in told["runs"]] == [1] * times
    assert [line["update"] for line in told["whole"]["metrics"]] == list(range(8))
    assert [line["rollout"] for line in told["whole"]["evaluations"]] == [0, 2, 4]
    assert_all_end_alike(told)


@pytest.mark.slow
def test_killed_at_file_operations_runs_end_as_if_left_alone(tmp_path):
    told = facts("every", tmp_path)
    assert sum(made["kills"] for made in told["runs"]) >= 5
    assert_all_end_alike(told)


def quietly(cfg) -> None:
    with open(os.devnull, "w") as nowhere:
        train.train(cfg, Console(file=nowhere))


def ended(cfg) -> tuple[str, list[dict]]:
    newest = checkpoints.newest(cfg.output / "checkpoints", print)
    made = [metrics_file.without_timings(line) for line in metrics_file.read(cfg.output / "metrics.jsonl")]
    return checkpoints.sha256(newest / checkpoints.WEIGHTS), made


def interrupted(tmp_path, monkeypatch, spoil=lambda: None):
    """(a run left alone, one that stopped behind its first rollout and went on after `spoil`)."""
    model = save_model(tmp_path / "model")
    alone, stopped = (config(model, tmp_path / name, outer_steps=2) for name in ("alone", "stopped"))
    quietly(alone)
    real = train.Loop.rollout

    def stop(loop):
        if loop.state.rollouts == 1:
            raise KeyboardInterrupt
        return real(loop)

    with monkeypatch.context() as patch:
        patch.setattr(train.Loop, "rollout", stop)
        with pytest.raises(KeyboardInterrupt):
            quietly(stopped)
    spoil()
    quietly(stopped)
    return ended(alone), ended(stopped)


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    alone, stopped = interrupted(tmp_path, monkeypatch)
    assert alone == stopped


@pytest.mark.parametrize("forgotten", ["moments", "position", "weights"])
def test_the_same_check_rejects_a_run_that_forgets(tmp_path, monkeypatch, forgotten):
    def spoil() -> None:
        real = checkpoints.resume

        def forgetful(checkpoint, network, optimizer, settings):
            start = [p.detach().clone() for p in network.parameters()]
            state = real(checkpoint, network, optimizer, settings)
            if forgotten == "moments":
                optimizer.state.clear()
            if forgotten == "weights":
                with torch.no_grad():
                    for p, before in zip(network.parameters(), start, strict=True):
                        p.copy_(before)
            position = Position() if forgotten == "position" else state.position
            return checkpoints.State(state.rollouts, state.updates, position, state.counters)

        monkeypatch.setattr(checkpoints, "resume", forgetful)

    alone, stopped = interrupted(tmp_path, monkeypatch, spoil)
    assert alone[0] != stopped[0]
