"""checks.py: expectations through the code of training against tables that it has never seen."""

from dataclasses import replace

import pytest
import torch

from llm.exactness import checks as exactness
from llm.exactness.checks import LIMIT, Check, checks, prefix_error, probability_error
from llm.exactness.toy_world import (
    Toy,
    all_groups,
    expectation,
    flat,
    gap,
    padded_further,
    per_microbatch,
    pulled_back,
    response_log_probabilities,
    shifted_by_one,
    table,
    tabular_expectation,
    true_gradient,
    without_eos,
)
from llm.model import DoubleRMSNorm
from llm.sequences import Sequences
from llm.update import step
from llm.update.logprobs import Scoring
from llm.update.microbatches import consecutive_rows, padded_tokens
from llm.update.step import Recipe
from tests.mutants.mutants import Mutant, plant
from tests.properties.tolerances import DIFFERENCED, EXACT, VISIBLE
from tests.thinned import one_in
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.penalties import k1, k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.stats.rng import stream

UNBIASED = ESTIMATORS["trajectory_is"]
TOY = Toy()
TOYS = {
    "qwen3": TOY,
    "qwen2": Toy(kind="qwen2", seed=1),
    "six tokens": Toy(vocab_size=2, horizon=6, prompts=((0,), (1, 0, 0)), seed=2),
    "eight letters": Toy(vocab_size=8, horizon=2, prompts=((2,), (7, 0, 5)), seed=3),
    "one prompt": Toy(vocab_size=4, prompts=((3, 0),), drift=0.02),
    "groups of three": Toy(horizon=2, group_size=3, seed=4),
    "the pad token ends": Toy(pad=1, seed=5),
}


@pytest.mark.parametrize("name", TOYS)
def test_the_probabilities_of_all_responses_add_to_one(name):
    assert probability_error(TOYS[name], Scoring()) < EXACT["atol"]
    assert probability_error(TOYS[name], Scoring(temperature=0.6)) < EXACT["atol"]


@pytest.mark.parametrize("name", TOYS)
def test_log_probabilities_are_those_after_each_prefix_alone(name):
    assert prefix_error(TOYS[name], Scoring(temperature=0.6)) < EXACT["atol"]


def check_unbiased(toy: Toy = TOY, **options) -> None:
    temperature = options["scoring"].temperature if "scoring" in options else 1.0
    found = expectation(toy, UNBIASED, **options)
    assert gap(found, true_gradient(toy, temperature)) < LIMIT


@pytest.mark.parametrize("name", TOYS)
def test_the_expected_update_of_trajectory_is_is_the_gradient_of_the_return(name):
    check_unbiased(TOYS[name])


@pytest.mark.parametrize("name", ["qwen3", "qwen2", "one prompt", "eight letters", "groups of three"])
@pytest.mark.parametrize(
    "estimator", [ESTIMATORS["grpo"], replace(UNBIASED, ratio=token)], ids=["grpo", "token ratio"]
)
def test_off_policy_that_of_the_token_ratio_is_not(name, estimator):
    assert gap(expectation(TOYS[name], estimator), true_gradient(TOYS[name])) > VISIBLE


SMALL = Toy(horizon=2)


@pytest.mark.parametrize(
    "toy, options",
    [
        (SMALL, {"microbatches": consecutive_rows(1)}),
        (SMALL, {"microbatches": consecutive_rows(3)}),
        (TOY, {"microbatches": padded_tokens(100)}),
        (TOY, {"write": padded_further(4)}),
        (TOY, {"scoring": Scoring(temperature=0.7)}),
        (TOY, {"scoring": Scoring(head_chunk=97)}),
    ],
    ids=["single rows", "cut groups", "by length", "more padding", "temperature", "chunks"],
)
def test_neither_micro_batches_nor_padding_nor_temperature_spoil_it(toy, options):
    check_unbiased(toy, **options)


@pytest.mark.parametrize("name", one_in(4, FIRST))
def test_the_expected_update_of_every_estimator_is_that_of_its_tables(name):
    assert gap(expectation(TOY, ESTIMATORS[name]), tabular_expectation(TOY, ESTIMATORS[name])) < LIMIT


PENALTIES = [kl_loss(k3, 0.3), kl_loss(k1, 0.3, token), kl_loss(k1, 0.3, trajectory), kl_reward(k1, 0.3)]


@pytest.mark.parametrize("penalty", PENALTIES, ids=exactness.label)
@pytest.mark.parametrize("name", ["dapo", "trajectory_is"])
def test_penalties_are_those_of_the_tables(name, penalty):
    penalised = replace(ESTIMATORS[name], penalty=penalty)
    found = expectation(TOY, penalised, microbatches=consecutive_rows(101))
    assert gap(found, tabular_expectation(TOY, penalised)) < LIMIT
    assert gap(found, expectation(TOY, ESTIMATORS[name])) > VISIBLE


def test_the_penalised_reward_leads_uphill_on_the_penalised_return():
    """E[g_hat] of trajectory_is with r - beta log(P_old / P_ref) is the gradient of that reward's mean."""
    beta = 0.3
    before = response_log_probabilities(TOY, TOY.old.network, Scoring()).sum(-1)
    reference = response_log_probabilities(TOY, TOY.reference, Scoring()).sum(-1)
    logp = Scoring()(
        TOY.current,
        Sequences.of_lists([p for p in TOY.prompts for _ in TOY.responses], TOY.responses * 2, TOY.pad),
    ).logp.sum(-1)
    rewards = torch.tensor([[TOY.reward(p, r) for r in TOY.responses] for p in range(2)]).double()
    aim = (logp.reshape(2, -1).exp() * (rewards - beta * (before - reference))).sum() / 2
    expected = flat(list(torch.autograd.grad(aim, list(TOY.current.parameters()))))
    penalised = replace(UNBIASED, penalty=kl_reward(k1, beta))
    assert gap(expectation(TOY, penalised), expected) < LIMIT


def test_the_gradient_of_the_return_is_its_difference_quotient():
    shapes = [p.shape for p in TOYS["qwen2"].current.parameters()]
    generator = stream(0, "direction")
    direction = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    toy, step_size = Toy(kind="qwen2", seed=1), 1e-5

    def shifted(size: float) -> float:
        with torch.no_grad():
            for p, d in zip(toy.current.parameters(), direction, strict=True):
                p.add_(size * d)
            total = [
                expected_return(world, table(toy.current, prompt, world))
                for prompt, world in zip(toy.prompts, toy.worlds, strict=True)
            ]
        return float(sum(total)) / len(total)

    # Each call moves on from the last: f(h), f(2h), f(-2h), f(-h).
    one, two, minus_two, minus_one = (shifted(n * step_size) for n in (1, 1, -4, 1))
    quotient = (8 * (one - minus_one) - (two - minus_two)) / (12 * step_size)
    slope = flat(direction) @ true_gradient(TOYS["qwen2"])
    torch.testing.assert_close(quotient, slope.item(), **DIFFERENCED)


# Partners: what these checks notice.


def test_shifted_by_one_fails():
    assert probability_error(TOY, shifted_by_one()) > VISIBLE
    assert gap(expectation(TOY, UNBIASED, scoring=shifted_by_one()), true_gradient(TOY)) > VISIBLE


def test_eos_left_out_of_the_mask_fails():
    assert probability_error(TOY, Scoring(), write=without_eos) > VISIBLE
    assert gap(expectation(TOY, UNBIASED, write=without_eos), true_gradient(TOY)) > VISIBLE


@pytest.mark.parametrize("name", ["dapo", "cispo", "seq_clip"])
def test_a_normaliser_of_each_micro_batch_fails(name):
    estimator = ESTIMATORS[name]
    assert gap(expectation(TOY, per_microbatch(estimator, 1)), tabular_expectation(TOY, estimator)) > VISIBLE
    whole = per_microbatch(estimator, TOY.group_size)
    assert gap(expectation(TOY, whole), tabular_expectation(TOY, estimator)) < LIMIT


def test_log_probabilities_at_another_temperature_fail():
    assert gap(expectation(TOY, UNBIASED, scoring=Scoring(temperature=0.7)), true_gradient(TOY)) > VISIBLE


MUTANTS = [
    Mutant(
        "old and new confused",
        step.row_weights,
        "logp=table",
        "logp=groups.logp_old[touched]",
        check_unbiased,
    ),
    Mutant(
        "groups not weighed",
        step.group_weights,
        "return groups.weight",
        "return groups.weight * 0 + 1 / P",
        check_unbiased,
    ),
    Mutant(
        "response cut by one", Sequences.of_lists.__func__, "list(r) +", "list(r)[::-1] +", check_unbiased
    ),
    Mutant(
        "norm in single precision",
        DoubleRMSNorm.forward,
        "self.weight * (",
        "self.weight * torch.Tensor.float(",
        check_unbiased,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mistake_in_the_code_of_training_is_noticed(mutant, monkeypatch):
    mutant.check()
    plant(mutant, monkeypatch)
    with pytest.raises(AssertionError):
        mutant.check()


# The enumeration itself, and its table.


def test_the_probabilities_of_all_groups_add_to_one():
    given = all_groups(TOY, Recipe(UNBIASED, consecutive_rows(512)))
    assert given.shape == (2 * 15 * 16 // 2, 2, 3)
    torch.testing.assert_close(given.weight.sum(), torch.tensor(1.0).double(), **EXACT)


def test_log_ratios_are_large_enough_for_every_clip():
    logs = [response_log_probabilities(TOY, n, Scoring()) for n in (TOY.current, TOY.old.network)]
    ratio = (logs[0] - logs[1]).sum(-1).exp()
    assert ratio.min() < 0.8 and ratio.max() > 3.0


def test_pulling_back_is_linear_and_reaches_every_weight():
    tables = [table(TOY.current, TOY.prompts[0], TOY.worlds[0])]
    once = pulled_back(TOY.current, tables, [torch.ones_like(tables[0]).cumsum(-1)])
    again = [table(TOY.current, TOY.prompts[0], TOY.worlds[0])]
    twice = pulled_back(TOY.current, again, [2 * torch.ones_like(tables[0]).cumsum(-1)])
    torch.testing.assert_close(twice, 2 * once, **EXACT)
    assert len(once) == sum(p.numel() for p in TOY.current.parameters())


def test_the_table_shows_every_check_and_fails_where_one_does(monkeypatch, capsys):
    some = [Check("[one]", 1e-15, True), Check("two", 0.5, False)]
    monkeypatch.setattr(exactness, "checks", lambda toy: iter(some))
    assert exactness.main(TOY) == 0
    assert "[one]" in capsys.readouterr().out
    for wrong in (Check("three", 1e-3, True), Check("four", 1e-3, False), Check("five", float("nan"), True)):
        monkeypatch.setattr(exactness, "checks", lambda toy, wrong=wrong: iter([*some, wrong]))
        assert exactness.main(TOY) == 1
        assert "FAILS" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_every_check_of_the_command_holds(kind):
    found = list(checks(Toy(kind=kind)))
    assert len(found) > 30 and all(check.holds for check in found)
