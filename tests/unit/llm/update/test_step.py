"""groups.py, step.py: the gradient of an update, however its rows are cut."""

from dataclasses import replace

import pytest
import torch

from llm.update import step
from llm.update.groups import Groups
from llm.update.logprobs import Scoring
from llm.update.microbatches import consecutive_rows, padded_tokens
from llm.update.step import Recipe, accumulate, row_weights, score, update
from tests.mutants.mutants import Mutant, plant
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from tests.thinned import one_in
from tests.unit.llm.llm_cases import HORIZON, fresh, gradient, groups
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred, raw
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.corrections import masked, rejected
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import trajectory
from ticgrpo_theory.estimators.scales import batch_token_mean, kept, sequence_mean, token_mean

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
    **{name: ESTIMATORS[name] for name in FIRST},
    "kl_loss": replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.2, trajectory)),
    "kl_reward": replace(ESTIMATORS["dapo"], penalty=kl_reward(k3, 0.2)),
    "corrected": replace(ESTIMATORS["grpo"], correction=masked("token", 0.9, 1.1)),
    "kept": replace(ESTIMATORS["dapo"], scale=kept(token_mean), correction=rejected("sequence", 0.8, 1.2)),
    "self_normalised": Objective(self_normalised),
    "from_loss": from_loss(plain_loss, centred()),
}


TABLES = ("logp", "logp_old", "logp_ref", "logp_sampler")


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
            **{name: getattr(one, name)[p] for name in (*TABLES, "reward", "mask")},
        )
        one = replace(
            one,
            **{name: getattr(one, name).where(one.mask, -1.0) for name in TABLES},
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


@pytest.mark.parametrize("name", one_in(5, sorted(ANY)))
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


# Refusals


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


def test_a_constant_scale_reads_the_limit_and_not_the_width():
    recipe = Recipe(ESTIMATORS["dr_grpo"], WHOLE)
    once = taken(recipe, groups())
    torch.testing.assert_close(taken(recipe, replace(groups(), horizon=2 * HORIZON)), once / 2, **EXACT)


@pytest.mark.parametrize("rows", [5, 12])
def test_the_record_of_an_update_keeps_no_graph(rows):
    made = accumulate(fresh().network, groups(), Recipe(ESTIMATORS["grpo"], consecutive_rows(rows)))
    assert not made.logp.requires_grad and not made.weights.requires_grad


def test_parts_that_read_whole_updates_are_refused():
    whole = replace(ESTIMATORS["grpo"], scale=batch_token_mean)
    with pytest.raises(ValueError, match=r"reads whole updates, .* give token_mean='batch' and the scale"):
        Recipe(whole, WHOLE)
