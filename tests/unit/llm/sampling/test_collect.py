"""Rollouts with their rewards: dynamic sampling, and the overlong penalty."""

import pytest
import torch

from llm.data.problems import Position
from llm.sampling import rollout
from llm.sampling.collect import Judge, Source
from llm.training import train
from tests.properties.tolerances import SAME_BITS
from tests.unit.llm.llm_runs import config, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


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
