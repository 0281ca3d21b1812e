"""Checkpoints: whole or not there, put back bit by bit, damage found, other configurations refused."""

import json
import random
from pathlib import Path

import pytest
import torch

from llm.data.character_tokenizer import character_tokenizer
from llm.data.problems import Position
from llm.model import Architecture, tiny
from llm.pretrained import load
from llm.training import checkpoints
from llm.training.checkpoints import State, damage, found, newest, resume, save
from tests.properties.tolerances import SAME_BITS
from tests.unit.experiment import faults

CONFIG = {
    "seed": 1,
    "optimizer": {"lr": 1e-3, "betas": (0.9, 0.99)},
    "output": "runs/a",
    "outer_steps": 5,
    "checkpoints": {"every": 1},
}
STATE = State(3, 12, Position(1, 7), {"skipped": 2})


class Run:
    """A network and an optimiser that have made some steps."""

    def __init__(self, seed: int = 0, steps: int = 2, lr: float = 1e-3):
        self.model = tiny(Architecture(vocab_size=8, hidden=16, layers=1, eos=1, pad=0), seed=seed)
        self.network = self.model.network
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=lr)
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        ids = torch.randint(8, (2, 6))
        self.network(ids).logits.square().mean().backward()
        self.optimizer.step()

    def save(self, folder: Path, state: State = STATE, keep: int = 2, tokenizer=None) -> Path:
        return save(
            folder, state, self.network, self.optimizer, tokenizer=tokenizer, config=CONFIG, keep=keep
        )

    def resume(self, folder: Path, config=CONFIG) -> State:
        said = []
        checkpoint = newest(folder, said.append)
        assert said == [] and checkpoint is not None
        return resume(checkpoint, self.network, self.optimizer, config)

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.network.parameters()])


def at(rollouts: int) -> State:
    return State(rollouts, 4 * rollouts, Position(0, rollouts), {})


def test_a_resumed_run_makes_the_next_steps_bit_for_bit(tmp_path):
    run = Run()
    run.save(tmp_path)
    ahead = [run.step() or run.weights() for _ in range(3)]
    other = Run(seed=5, steps=7, lr=0.5)
    assert other.resume(tmp_path) == STATE
    for weights in ahead:
        other.step()
        torch.testing.assert_close(other.weights(), weights, **SAME_BITS)


def test_the_generators_of_the_process_are_put_back(unchecked_signatures):  # checks of lists draw from them
    states = checkpoints.random_states()
    drawn = random.random(), torch.rand(3)
    checkpoints.set_random_states(states)
    assert random.random() == drawn[0]
    assert torch.equal(torch.rand(3), drawn[1])


@pytest.mark.parametrize("lost", ["optimizer", "random"])
def test_the_same_check_rejects_a_state_that_was_not_put_back(tmp_path, lost, monkeypatch):
    run = Run()
    run.save(tmp_path)
    run.step()
    other = Run(seed=5, steps=0, lr=0.5)
    if lost == "random":
        monkeypatch.setattr(checkpoints, "set_random_states", lambda states: None)
    else:
        monkeypatch.setattr(other.optimizer, "load_state_dict", lambda states: None)
    other.resume(tmp_path)
    other.step()
    assert not torch.equal(run.weights(), other.weights())


def test_a_checkpoint_is_a_folder_that_models_are_loaded_from(tmp_path):
    run = Run()
    run.model.network.config.vocab_size = 8
    saved = run.save(tmp_path, tokenizer=character_tokenizer("abcde"))
    loaded = load(str(saved))
    again = torch.cat([p.detach().flatten() for p in loaded.network.parameters()])
    torch.testing.assert_close(again, run.weights(), **SAME_BITS)
    assert loaded.tokenizer.eos_token == "<eos>"


def test_a_model_whose_generation_config_transformers_would_not_write_is_saved(tmp_path):
    run = Run()
    own = run.network.generation_config
    own.do_sample, own.temperature, own.eos_token_id = False, 0.6, [1, 5]
    saved = run.save(tmp_path, tokenizer=character_tokenizer("abcde"))
    assert run.network.generation_config is own
    assert load(str(saved)).eos == (1, 5)


def test_only_the_newest_are_kept(tmp_path):
    run = Run()
    for rollouts in (1, 2, 10, 11):
        run.save(tmp_path, at(rollouts), keep=2)
    assert [path.name for path in found(tmp_path)] == ["000011", "000010"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000010", "000011"]


def test_no_checkpoint_is_no_mistake(tmp_path):
    assert newest(tmp_path / "never", print) is None


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def turned(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def removed(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("harm", [truncated, turned, removed])
@pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name, harm):
    run = Run()
    run.save(tmp_path, at(1))
    last = run.save(tmp_path, at(2))
    assert damage(last) is None
    harm(last / name)
    said = []
    checkpoint = newest(tmp_path, said.append)
    assert checkpoint == tmp_path / "000001"
    (line,) = said
    assert line.startswith(f"checkpoint {last} is damaged: ")
    assert line.endswith("; trying the one before, 000001")
    if (name, harm) != ("manifest.json", turned):  # which then disagrees with another file
        assert name in line
    assert resume(checkpoint, run.network, run.optimizer, CONFIG).rollouts == 1


def test_a_damaged_checkpoint_is_written_again(tmp_path):
    run = Run()
    last = run.save(tmp_path, at(2))
    truncated(last / "training.pt")
    run.save(tmp_path, at(2))
    assert damage(last) is None
    assert [path.name for path in tmp_path.iterdir()] == ["000002"]


def test_where_all_are_damaged_nothing_begins_anew_unasked(tmp_path):
    run = Run()
    for rollouts in (1, 2):
        truncated(run.save(tmp_path, at(rollouts)) / "training.pt")
    with pytest.raises(ValueError, match=r"all 2 checkpoints .* are damaged: remove that folder"):
        newest(tmp_path, lambda line: None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 2}, r"seed = 1 \(now 2\)"),
        ({"optimizer": {"lr": 2e-3, "betas": (0.9, 0.99)}}, r"optimizer.lr = 0.001 \(now 0.002\)"),
        ({"data": {"source": "x"}}, r"data.source = None \(now x\)"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused_by_name(tmp_path, changed, said):
    run = Run()
    run.save(tmp_path)
    before = run.weights()
    with pytest.raises(ValueError, match=said + r": give the same values to go on, or .* --output"):
        run.resume(tmp_path, CONFIG | changed)
    assert torch.equal(before, run.weights())


@pytest.mark.parametrize("changed", [{"outer_steps": 50}, {"output": "b"}, {"checkpoints": {"every": 3}}])
def test_what_no_weight_depends_on_may_change(tmp_path, changed):
    run = Run()
    run.save(tmp_path)
    assert run.resume(tmp_path, CONFIG | changed) == STATE


def test_the_weights_of_another_model_are_refused(tmp_path):
    run = Run()
    saved = run.save(tmp_path)
    other = tiny(Architecture(vocab_size=8, hidden=16, layers=2, eos=1, pad=0))
    with pytest.raises(ValueError, match=r"lacks model\.layers\.1"):
        checkpoints.load_weights(other.network, saved / "model.safetensors")
    smaller = tiny(Architecture(vocab_size=8, hidden=8, layers=1, eos=1, pad=0))
    with pytest.raises(ValueError, match="which the model does not have"):
        checkpoints.load_weights(smaller.network, saved / "model.safetensors")


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    run = Run()
    run.save(tmp_path)
    monkeypatch.setattr(checkpoints, "VERSION", 2)
    with pytest.raises(ValueError, match="has version 1, this code reads 2"):
        run.resume(tmp_path)


def test_a_full_disk_at_any_operation_leaves_the_checkpoint_before(tmp_path):
    run = Run()
    run.save(tmp_path, at(1))
    operations = 0
    for n in range(1, 200):
        try:
            with faults.at_operation(n, faults.disk_full) as met:
                run.save(tmp_path, at(2), keep=2)
        except OSError:
            said = []
            checkpoint = newest(tmp_path, said.append)
            assert checkpoint is not None and damage(checkpoint) is None
            assert said == []
            continue
        if len(met) < n:
            operations = len(met)
            break
    assert operations >= 10
    assert newest(tmp_path, print) == tmp_path / "000002"
    assert json.loads((tmp_path / "000002" / "state.json").read_text())["rollouts"] == 2
