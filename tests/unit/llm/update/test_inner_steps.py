"""step.py, inner_steps.py: the record of an update, the K updates of a rollout, and what stops them."""

import math
from dataclasses import replace

import pytest
import torch

from llm.model import LanguageModel
from llm.update.groups import Groups, minibatches
from llm.update.inner_steps import updates
from llm.update.logprobs import Scoring
from llm.update.microbatches import consecutive_rows, padded_tokens
from llm.update.step import NonFinite, Recipe, accumulate, finish, score, update
from tests.properties.tolerances import EXACT, MOVES, SAME_BITS, SINGLE
from tests.unit.llm.llm_cases import fresh, gradient, groups, model, one_by_one, sequences
from tests.unit.llm.update.test_step import WHOLE, taken
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.ratios import token


def test_the_record_is_of_the_weights_before_the_step():
    lm, given = fresh(), groups()
    recipe = Recipe(ESTIMATORS["grpo"], padded_tokens(16), Scoring(entropy=True))
    before = one_by_one(lm, given.sequences).reshape(3, 4, 6)
    done = update(lm.network, torch.optim.SGD(lm.network.parameters(), 1e-2), given, recipe)
    torch.testing.assert_close(done.logp, before, **EXACT)
    expected = ESTIMATORS["grpo"].token_weights(given.batch(before)) / 3
    torch.testing.assert_close(done.weights, expected, **EXACT)
    mask = given.sequences.mask.reshape(3, 4, 6)
    assert bool((done.entropy[mask] > 0).all()) and bool((done.entropy[~mask] == 0).all())
    assert done.seconds > 0
    assert (one_by_one(lm, given.sequences).reshape(3, 4, 6) - before).abs().max() > MOVES


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_old_log_probabilities_are_those_of_the_first_update_bit_for_bit(dtype):
    lm, parts = fresh(dtype=dtype), minibatches(3, 3, "disjoint")
    recipe = Recipe(ESTIMATORS["tic_grpo"], padded_tokens(16))
    scores = score(lm.network, sequences(), 4, parts, recipe)
    given = Groups(sequences(), groups(torch.float32).reward, scores.logp.reshape(3, 4, 6))
    for part in parts:
        mini = given.select(part)
        done = accumulate(lm.network, mini, recipe)
        torch.testing.assert_close(done.logp, mini.logp_old, **SAME_BITS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_gives_nearly_the_same_gradient(dtype):
    exact = taken(Recipe(ESTIMATORS["tic_grpo"], WHOLE), groups())
    lm = fresh(dtype=dtype)
    accumulate(lm.network, groups(torch.float32), Recipe(ESTIMATORS["tic_grpo"], consecutive_rows(5)))
    gap = (gradient(lm).double() - exact).norm() / exact.norm()
    # A ratio near the clip may fall on the other side of it in bfloat16; none does here.
    assert 0 < gap < {torch.float32: 10 * SINGLE["atol"], torch.bfloat16: 0.1}[dtype]


def test_groups_of_equal_rewards_leave_a_gradient_of_zeros():
    lm, given = fresh(), replace(groups(), reward=torch.ones(3, 4, dtype=torch.float64))
    done = accumulate(lm.network, given, Recipe(ESTIMATORS["grpo"], WHOLE))
    assert gradient(lm).numel() == sum(p.numel() for p in lm.network.parameters())
    assert finish(lm.network, given, 1.0) == 0 and bool((done.weights == 0).all())


def test_a_gradient_is_shortened_to_the_norm_and_only_if_longer():
    lm, given = fresh(), groups()
    accumulate(lm.network, given, Recipe(ESTIMATORS["grpo"], WHOLE))
    before = gradient(lm)
    norm = finish(lm.network, given, 2 * before.norm().item())
    assert norm == pytest.approx(before.norm().item(), rel=1e-12)
    torch.testing.assert_close(gradient(lm), before, **EXACT)
    finish(lm.network, given, norm / 4)
    assert gradient(lm).norm().item() == pytest.approx(norm / 4, rel=1e-4)


def trained(name: str, number: int, batches: str, eta: float = 0.02) -> list[torch.Tensor]:
    """The weights after each update."""
    lm, recipe = fresh(), Recipe(ESTIMATORS[name], padded_tokens(30))
    given = groups()
    optimizer, seen = torch.optim.SGD(lm.network.parameters(), eta), []
    for _ in updates(lm.network, optimizer, given, recipe, number, batches):
        seen.append(torch.cat([p.detach().flatten() for p in lm.network.parameters()]))
    return seen


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
def test_held_gradients_differ_from_fresh_ones_from_the_second_update_on(batches):
    held, new = trained("stale", 3, batches), trained("no_is", 3, batches)
    torch.testing.assert_close(held[0], new[0], **SAME_BITS)
    assert (held[1] - new[1]).abs().max() > MOVES
    assert (held[2] - new[2]).abs().max() > MOVES


def test_a_reused_held_gradient_is_one_direction():
    held = trained("stale", 3, "reused")
    torch.testing.assert_close(held[2] - held[1], held[1] - held[0], **EXACT)
    apart = trained("stale", 3, "disjoint")
    assert (apart[2] - 2 * apart[1] + apart[0]).abs().max() > MOVES


def test_disjoint_held_gradients_are_those_of_each_mini_batch_at_theta_old():
    held = trained("stale", 3, "disjoint", eta=0.5)
    start = torch.cat([p.detach().flatten() for p in model().network.parameters()])
    for k, (before, after) in enumerate(zip([start, *held], held, strict=False)):
        own = taken(Recipe(ESTIMATORS["no_is"], WHOLE), groups().select(torch.tensor([k])))
        torch.testing.assert_close(after - before, -0.5 * own, **EXACT)


def test_the_record_of_a_held_update_has_the_ratios_of_its_moment():
    lm, recipe = fresh(), Recipe(ESTIMATORS["stale"], padded_tokens(30), Scoring(entropy=True))
    optimizer, drift = torch.optim.SGD(lm.network.parameters(), 0.02), []
    start = one_by_one(lm, sequences()).reshape(3, 4, 6)
    for mini, done in updates(lm.network, optimizer, groups(), recipe, 3, "reused"):
        drift.append((done.logp - start).abs().max().item())
        assert mini.shape == (3, 4, 6) and done.gradient_norm > 0
    assert drift[0] < 1e-12 and MOVES < drift[1] < drift[2]


@pytest.mark.parametrize("batches, sizes", [("reused", [3, 3, 3]), ("disjoint", [1, 1, 1])])
def test_each_update_reads_its_mini_batch(batches, sizes):
    lm, recipe = fresh(), Recipe(ESTIMATORS["tic_grpo"], padded_tokens(30))
    optimizer = torch.optim.SGD(lm.network.parameters(), 0.01)
    minis = [mini for mini, _ in updates(lm.network, optimizer, groups(), recipe, 3, batches)]
    assert [mini.shape[0] for mini in minis] == sizes
    rewards = torch.cat([mini.reward for mini in minis])
    expected = groups().reward.repeat(3 if batches == "reused" else 1, 1)
    torch.testing.assert_close(rewards, expected, **SAME_BITS)


def test_held_gradients_beyond_the_limit_are_refused_with_the_bytes():
    lm, recipe = fresh(), Recipe(ESTIMATORS["stale"], WHOLE)
    size = 8 * sum(p.numel() for p in lm.network.parameters())
    optimizer = torch.optim.SGD(lm.network.parameters(), 0.1)
    text = rf"3 gradients .* need {3 * size:,} bytes .* limit of {3 * size - 1:,}: raise"
    with pytest.raises(ValueError, match=text):
        next(updates(lm.network, optimizer, groups(), recipe, 3, "disjoint", held_bytes=3 * size - 1))
    next(updates(lm.network, optimizer, groups(), recipe, 3, "disjoint", held_bytes=3 * size))
    next(updates(lm.network, optimizer, groups(), recipe, 3, "reused", held_bytes=size))


def test_a_held_score_with_a_ratio_of_the_moment_is_refused():
    lm = fresh()
    mixed = Recipe(replace(ESTIMATORS["no_is"], ratio=token, score=old), WHOLE)
    optimizer = torch.optim.SGD(lm.network.parameters(), 0.1)
    with pytest.raises(ValueError, match=r"score at theta_old, but its weights at theta: .* ratio none"):
        next(updates(lm.network, optimizer, groups(), mixed, 2, "reused"))


def check_stopped(lm: LanguageModel, text: str) -> None:
    """The update stops with its batch, and no weight has moved."""
    given, before = groups(), [p.clone() for p in lm.network.parameters()]
    optimizer = torch.optim.SGD(lm.network.parameters(), 1.0)
    with pytest.raises(NonFinite, match=text) as caught:
        update(lm.network, optimizer, given, Recipe(ESTIMATORS["grpo"], WHOLE))
    assert caught.value.groups is given
    for parameter, kept in zip(lm.network.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, kept, equal_nan=True, **SAME_BITS)


def test_a_log_probability_that_is_no_number_stops_before_the_step_with_its_batch():
    lm = fresh()
    with torch.no_grad():
        lm.network.get_output_embeddings().weight[3] = math.nan
    check_stopped(lm, r"log pi of token \d of row \d+ is nan: .* last checkpoint")


def test_a_gradient_that_is_no_number_stops_before_the_step_with_its_batch():
    lm = fresh()
    lm.network.base_model.norm.weight.register_hook(lambda g: g * math.inf)
    check_stopped(lm, r"norm of the gradient is (inf|nan): no update was made")
