"""groups.py, step.py, updates.py: the gradient of an update, however its rows are cut, and the K updates."""

import math
from dataclasses import replace

import pytest
import torch
from llm_cases import HORIZON, fresh, gradient, groups, model, one_by_one, sequences
from mutants import Mutant, plant
from tolerances import EXACT, MOVES, SAME_BITS, SINGLE, VISIBLE

from llm import step
from llm.groups import Groups, minibatches
from llm.logprobs import Scoring
from llm.microbatches import consecutive_rows, padded_tokens
from llm.model import LanguageModel
from llm.step import (
    NonFinite,
    Recipe,
    accumulate,
    finish,
    reads_other_responses,
    row_weights,
    score,
    update,
)
from llm.updates import updates
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred, raw, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean

WHOLE = consecutive_rows(12)
CUTS = [consecutive_rows(5), padded_tokens(14)]
"""Both cut groups of four, the second also mixes prompts and goes down to single rows."""


def self_normalised(batch):
    """sum_i w'[i] r[i] / sum_i w'[i]: every weight reads the log-probabilities of the whole group."""
    log_w = batch.log_ratio.sum(-1)
    return (log_w.softmax(-1) * batch.reward).sum()


def plain_loss(logp, logp_old, advantages, mask):
    """Minus the mean over tokens of r A, as a trainer writes it."""
    ratio = (logp - logp_old).exp()
    return -((ratio * advantages[..., None]) * mask).sum() / mask.sum()


def taken(recipe: Recipe, given: Groups, seed: int = 0) -> torch.Tensor:
    """The gradient that an update leaves."""
    lm = fresh(seed=seed)
    accumulate(lm.network, given, recipe)
    return gradient(lm)


ANY = {
    **ESTIMATORS,
    "kl_loss": replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.2, trajectory)),
    "kl_reward": replace(ESTIMATORS["dapo"], penalty=kl_reward(k3, 0.2)),
    "self_normalised": Objective(self_normalised),
    "from_loss": from_loss(plain_loss, centred()),
}


def definition(estimator, given: Groups, weight: torch.Tensor | None = None) -> torch.Tensor:
    """- sum_p weight[p] sum_it c[p,i,t] grad log pi, each row and each group by itself."""
    lm = fresh()
    logp = [Scoring()(lm.network, given.sequences.select(torch.tensor([b]))).logp[0] for b in range(12)]
    table = torch.stack([torch.nn.functional.pad(row, (0, 6 - len(row))) for row in logp]).reshape(3, 4, 6)
    total = 0.0
    for p in range(3):
        one = given.batch(table.detach())
        one = replace(
            one,
            **{name: getattr(one, name)[p] for name in ("logp", "logp_old", "reward", "mask", "logp_ref")},
        )
        factor = 1 / 3 if weight is None else weight[p]
        total = total + factor * (estimator.token_weights(one) * table[p]).sum()
    (-total).backward()
    return gradient(lm)


def check_definition(name: str) -> None:
    expected = definition(ANY[name], groups())
    assert expected.norm() > VISIBLE
    torch.testing.assert_close(taken(Recipe(ANY[name], WHOLE), groups()), expected, **EXACT)


@pytest.mark.parametrize("name", sorted(ANY))
def test_an_update_is_the_mean_over_prompts_of_each_group_by_itself(name):
    check_definition(name)


def check_cuts(name: str) -> None:
    whole = taken(Recipe(ANY[name], WHOLE), groups())
    for cut in CUTS:
        torch.testing.assert_close(taken(Recipe(ANY[name], cut), groups()), whole, **EXACT)


@pytest.mark.parametrize("name", sorted(ANY))
def test_micro_batches_change_no_number(name):
    check_cuts(name)


def check_token_mean_over_the_batch() -> None:
    """The literal loss of DAPO's own code: one division by all tokens of the update."""
    given, dapo = groups(), ESTIMATORS["dapo"]
    lm = fresh()
    logp = Scoring()(lm.network, given.sequences).logp.reshape(3, 4, 6)
    mask = given.sequences.mask.reshape(3, 4, 6)
    ratio = (logp - given.logp_old).where(mask, 0.0).exp()
    A = dapo.advantage(given.reward)[..., None]
    loss = -(torch.minimum(ratio * A, ratio.clamp(0.8, 1.28) * A) * mask).sum() / mask.sum()
    loss.backward()
    for cut in (WHOLE, *CUTS):
        found = taken(Recipe(dapo, cut, token_mean="batch"), given)
        torch.testing.assert_close(found, gradient(lm), **EXACT)
    over_groups = taken(Recipe(dapo, WHOLE), given)
    assert (over_groups - gradient(lm)).norm() > VISIBLE * over_groups.norm()


def test_a_token_mean_over_the_batch_divides_once_by_all_its_tokens():
    check_token_mean_over_the_batch()


def test_prompts_never_mix():
    given = groups()
    changed = replace(given, reward=torch.cat([given.reward[:1], 3 - 2 * given.reward[1:]]))
    lm = fresh()
    before = accumulate(lm.network, given, Recipe(ESTIMATORS["grpo"], padded_tokens(20)))
    after = accumulate(lm.network, changed, Recipe(ESTIMATORS["grpo"], padded_tokens(20)))
    torch.testing.assert_close(after.weights[0], before.weights[0], **SAME_BITS)
    assert not torch.allclose(after.weights[1:], before.weights[1:])


def test_an_update_goes_uphill():
    # One sign in the whole project: a small step of a descending optimiser raises the surrogate's own aim.
    lm, recipe = fresh(), Recipe(Estimator(trajectory, raw(), unclipped(), sequence_mean), WHOLE)
    given = groups()

    def aim() -> float:
        logp = score(lm.network, given.sequences, 4, [torch.arange(3)], recipe).logp.reshape(3, 4, 6)
        log_w = (logp - given.logp_old).where(given.batch(logp).mask, 0.0).sum(-1)
        return (log_w.exp() * given.reward / given.batch(logp).length).mean().item()

    before = aim()
    done = update(lm.network, torch.optim.SGD(lm.network.parameters(), 1e-6), given, recipe)
    assert aim() - before == pytest.approx(1e-6 * done.gradient_norm**2, rel=1e-3)


STEP_MUTANTS = [
    Mutant(
        "weights of another row",
        row_weights,
        "c = c[local, rows % G,",
        "c = c[local, (rows + 1) % G,",
        lambda: check_definition("dapo"),
    ),
    Mutant("ascent twice negated", accumulate, "loss = -(c", "loss = (c", lambda: check_definition("grpo")),
    Mutant(
        "prompts added, not averaged", step.group_weights, "1.0 / P", "1.0", lambda: check_definition("grpo")
    ),
    Mutant(
        "each micro-batch averaged by itself",
        accumulate,
        "loss = -(c * scores.logp).sum()",
        "loss = -(c * scores.logp).sum() / len(parts)",
        lambda: check_cuts("grpo"),
    ),
    Mutant(
        "normaliser of the micro-batch",
        row_weights,
        "batch = groups.batch(groups.logp_old)",
        "groups = dataclasses.replace(groups, reward=groups.reward * (len(rows) / 12) ** 0.5);"
        " batch = groups.batch(groups.logp_old)",
        lambda: check_cuts("dr_grpo"),
    ),
    Mutant(
        "token mean over the batch by groups",
        step.group_weights,
        "groups.tokens.double() / groups.tokens.sum()",
        "torch.full((P,), 1.0 / P).double()",
        check_token_mean_over_the_batch,
    ),
    Mutant(
        "row taken for its group",
        row_weights,
        "torch.unique(rows // G, return",
        "torch.unique(rows % groups.shape[0], return",
        lambda: check_definition("grpo"),
    ),
]


@pytest.mark.parametrize("mutant", STEP_MUTANTS, ids=lambda m: m.name)
def test_a_mistake_in_the_step_is_noticed(mutant, monkeypatch):
    mutant.check()
    plant(mutant, monkeypatch)
    with pytest.raises((AssertionError, IndexError)):
        mutant.check()


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("group_size", [2, 4, 16])
def test_no_estimator_of_the_catalogue_reads_other_responses(name, group_size):
    assert not reads_other_responses(ESTIMATORS[name], group_size)


def test_an_objective_that_reads_other_responses_is_found_out():
    assert reads_other_responses(Objective(self_normalised), 2)
    assert reads_other_responses(Objective(self_normalised), 8)
    assert not reads_other_responses(Objective(self_normalised), 1)
    assert not reads_other_responses(from_loss(plain_loss, standardised()), 4)
    assert not reads_other_responses(ANY["kl_loss"], 4)


def test_what_reads_other_responses_would_be_wrong_in_cut_groups_without_a_pass_before(monkeypatch):
    monkeypatch.setattr(step, "reads_other_responses", lambda *_: False)
    with pytest.raises(AssertionError):
        check_cuts("self_normalised")


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2)])
def test_the_order_of_prompts_does_not_matter(order):
    chosen = groups().select(torch.tensor(order))
    recipe = Recipe(ESTIMATORS["grpo"], padded_tokens(16))
    torch.testing.assert_close(taken(recipe, chosen), taken(recipe, groups()), **EXACT)


def test_padding_of_old_log_probabilities_is_never_read():
    # The groups of the tests hold NaN there.
    given = groups()
    assert bool(given.logp_old.isnan().any())
    mask = given.sequences.mask.reshape(3, 4, 6)
    clean = replace(given, logp_old=given.logp_old.where(mask, 0.0), logp_ref=given.logp_ref.where(mask, 0.0))
    recipe = Recipe(ANY["kl_loss"], consecutive_rows(5))
    torch.testing.assert_close(taken(recipe, clean), taken(recipe, given), **SAME_BITS)


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


# K updates


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


# Refusals


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


@pytest.mark.parametrize(
    "options, text",
    [
        ({"token_mean": "tokens"}, r"token_mean = 'tokens': choose 'group' or 'batch'"),
        ({"token_mean": "batch"}, r"takes no token mean: give token_mean='group'"),
        ({"max_norm": 0.0}, r"max_norm = 0.0: .* None switches it off"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Recipe(ESTIMATORS["grpo"], WHOLE, **options)
    with pytest.raises(ValueError, match=r"callable self_normalised\) takes no token mean"):
        Recipe(Objective(self_normalised), WHOLE, token_mean="batch")


def test_two_kinds_of_weights_for_groups_are_refused():
    given = replace(groups(), weight=torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"Groups\(weight=...\) gives other weights"):
        accumulate(fresh().network, given, Recipe(ESTIMATORS["dapo"], WHOLE, token_mean="batch"))


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((8, 0, "reused"), r"updates = 0"),
        ((8, 3, "disjoint"), r"8 groups do not divide into 3 disjoint .* multiple of 3 prompts"),
        ((8, 2, "reuse"), r"batches = 'reuse': choose 'reused' .* or 'disjoint'"),
    ],
)
def test_mini_batches_that_do_not_exist_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        minibatches(*arguments)


def test_groups_whose_tables_disagree_are_refused(unchecked_signatures):
    given = groups()
    with pytest.raises(ValueError, match=r"12 rows where reward of shape \(3, 3\) .* requires 9"):
        replace(given, reward=given.reward[:, :3])
    with pytest.raises(ValueError, match=r"logp_old has shape \(3, 4, 5\); .* = \(3, 4, 6\)"):
        replace(given, logp_old=given.logp_old[..., :5])
    with pytest.raises(ValueError, match=r"weight has shape \(4,\), one number for each of 3"):
        replace(given, weight=torch.ones(4))


def test_a_constant_scale_reads_the_limit_and_not_the_width():
    recipe = Recipe(ESTIMATORS["dr_grpo"], WHOLE)
    once = taken(recipe, groups())
    torch.testing.assert_close(taken(recipe, replace(groups(), horizon=2 * HORIZON)), once / 2, **EXACT)
