"""Callables of the whole update: what they are given, that their order is checked, and what is refused."""

import dataclasses

import pytest
import torch

from tests.instances.two_prompts import OLD, THETA, two_prompts
from tests.oracles import whole_updates as oracle
from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.advantages import batch_standardised, centred, raw
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import batch_token_mean, micro_batch_token_mean, sequence_sum
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.mdp import TokenMDP


def of(advantage, scale=sequence_sum, filter=None):
    return Estimator(token, advantage, unclipped(), scale, filter=filter)


def mean_of(estimator, prompts, **options):
    return expected_gradient(two_prompts(), THETA, OLD, estimator, 2, prompts=prompts, **options)


def surrogate(batch: Batch, A: torch.Tensor) -> torch.Tensor:
    return (A[:, None] * (batch.logp - batch.logp_old).exp()).where(batch.mask, 0.0).sum()


def group_centred_token_mean(batch: Batch) -> torch.Tensor:
    """Group means by batch.group, one normaliser for all tokens."""
    total = torch.zeros(len(batch.reward), dtype=torch.float64).index_add(0, batch.group, batch.reward)
    count = torch.zeros_like(total).index_add(0, batch.group, torch.ones_like(batch.reward))
    A = batch.reward - (total / count.clamp(min=1))[batch.group]
    return surrogate(batch, A) / batch.mask.sum()


def whole_centred(batch: Batch) -> torch.Tensor:
    return surrogate(batch, batch.reward - batch.reward.mean()) / len(batch.reward)


def first_row_only(batch: Batch) -> torch.Tensor:
    """Depends on the order of the rows."""
    return surrogate(batch, batch.reward * (torch.arange(len(batch.reward)) == 0))


def first_group_only(batch: Batch) -> torch.Tensor:
    """Depends on the order of the groups, and not on that within them."""
    return surrogate(batch, batch.reward * (batch.group == 0))


def by_item(batch: Batch) -> torch.Tensor:
    """No vmap takes it."""
    return surrogate(batch, batch.reward - batch.reward.mean().item()) / len(batch.reward)


def literal(f, P: int, weights: list[float] | None) -> torch.Tensor:
    """The mean over every ordered update, one autograd call each."""
    theta, total = THETA.clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
    for chance, groups in oracle.updates(oracle.two_prompts(), weights, P, 2, OLD.tolist()):
        rows, width = [y for group in groups for y in group], max(len(y.tokens) for g in groups for y in g)
        mask = torch.tensor([[t < len(y.tokens) for t in range(width)] for y in rows])

        def tables(logits: torch.Tensor, rows=rows, width=width) -> torch.Tensor:
            table = torch.log_softmax(logits, dim=-1)
            padded = [
                [table[s, a] for s, a in zip(y.rows, y.tokens, strict=True)]
                + [table[0, 0]] * (width - len(y.tokens))
                for y in rows
            ]
            return torch.stack([torch.stack(row) for row in padded])

        reward = torch.tensor([y.reward for y in rows], dtype=torch.float64)
        group = torch.arange(P).repeat_interleave(2)
        total = total + chance * f(Batch(tables(theta), tables(OLD), reward, mask, horizon=2, group=group))
    return torch.autograd.grad(total, theta)[0]


CALLABLES = [group_centred_token_mean, whole_centred, first_row_only, first_group_only, by_item]


@pytest.mark.parametrize("f", CALLABLES)
@pytest.mark.parametrize("prompts", [2, "each"])
def test_a_callable_sees_all_rows_of_every_ordered_update(f, prompts):
    wanted = literal(f, 2, None if prompts == "each" else oracle.HALVES)
    for symmetric in (None, False):
        found = mean_of(f, prompts, scope="batch", symmetric=symmetric)
        torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("f", [group_centred_token_mean, first_row_only, first_group_only])
def test_where_ordered_updates_are_many_their_order_is_checked(f):
    check_order(f)


def check_order(f) -> None:
    """As if they were too many to be listed outright: multisets for what allows them, ordered ones else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OUTRIGHT", "TOGETHER"):
            patch.setattr(f"ticgrpo_theory.exact.groups.every_group.{name}", 0)
        check_order_of_many(f)


def check_order_of_many(f) -> None:
    for prompts in (2, "each"):
        found = mean_of(f, prompts, scope="batch", explain=True)
        torch.testing.assert_close(
            found.value, literal(f, 2, None if prompts == "each" else oracle.HALVES), **EXACT
        )
        # One group of each prompt, in their order: that of the groups does not need to be left alone.
        whole = f is group_centred_token_mean or (f is first_group_only and prompts == "each")
        assert ("order checked on" in found.assumed) == whole


def test_trusting_an_order_that_matters_gives_another_number():
    wrong = mean_of(first_row_only, 2, scope="batch", symmetric=True)
    assert float((wrong - mean_of(first_row_only, 2, scope="batch")).abs().max()) > MOVES


def test_of_one_group_at_a_time_an_update_is_the_mean():
    one = expected_gradient(two_prompts(), THETA, OLD, whole_centred, 2)
    for prompts in (1, 2, 5, "each"):
        torch.testing.assert_close(mean_of(whole_centred, prompts), one, **EXACT)
    assert float((mean_of(whole_centred, 2, scope="batch") - one).abs().max()) > MOVES


def test_a_trainers_loss_is_given_advantages_by_group_and_all_rows():
    def loss(logp, logp_old, advantages, mask):
        return -(advantages[:, None] * (logp - logp_old).exp() * mask).sum() / mask.sum()

    found = mean_of(from_loss(loss, centred()), 2, scope="batch")
    torch.testing.assert_close(found, mean_of(of(centred(), batch_token_mean), 2), **EXACT)
    assert float((found - mean_of(from_loss(loss, centred()), 2)).abs().max()) > MOVES


def test_the_limit_is_named_where_updates_are_too_many():
    with pytest.raises(NotAffordable, match=r"updates of \(P, G\) = \(4, 8\) .* more than limit = 262,144"):
        expected_gradient(two_prompts(), THETA, OLD, whole_centred, 8, prompts=4, scope="batch")
    found = expected_gradient(
        two_prompts(), THETA, OLD, of(batch_standardised()), 8, prompts=4, method="sampled", explain=True
    )
    assert "updates, intervals by the central limit theorem" in found.assumed
    exact = expected_gradient(two_prompts(), THETA, OLD, of(batch_standardised()), 8, prompts=4)
    assert bool(((found.value - exact).abs() <= found.half_width).all())


EQUAL = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[1.0, 1.0, 1.0])
HALF_EQUAL = TokenMDP.mixture(
    [EQUAL, TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[1.0, 0.0, 0.0])],
    [0.5, 0.5],
    share_rows=True,
)
REFUSED = [
    (two_prompts(), of(centred()), 2, {"prompts": 0}, "prompts = 0"),
    (
        two_prompts(),
        of(centred()),
        2,
        {"prompts": "all"},
        "prompts = 'all': give a number P >= 1 of groups, or",
    ),
    (two_prompts(), whole_centred, 2, {"scope": "rows"}, "scope = 'rows': choose 'group'"),
    (
        EQUAL,
        of(centred(), filter=drop_equal()),
        2,
        {},
        "every group of every prompt has equal rewards, and drop_equal",
    ),
    (two_prompts(), of(raw(), filter=drop_equal()), 1, {}, "a group of one response has equal rewards"),
    (
        HALF_EQUAL,
        of(centred(), filter=drop_equal("same_prompt")),
        2,
        {"prompts": 2},
        "every group of prompt 0 has equal rewards, and .* draws groups of that prompt for ever",
    ),
    (
        two_prompts(),
        of(centred(), filter=drop_equal("refill")),
        2,
        {"prompts": "each"},
        r"drop_equal\('refill'\) draws new prompts, and prompts='each' has every prompt once",
    ),
    (
        TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 0.0, 1.0]),
        of(centred(), filter=overlong()),
        2,
        {},
        "every response is cut at the horizon, and overlong.* keeps none: give the world an eos",
    ),
    (
        two_prompts(),
        of(centred(), batch_token_mean),
        float("inf"),
        {},
        "an update of infinite groups is none",
    ),
    (
        two_prompts(),
        of(centred(), micro_batch_token_mean(3)),
        2,
        {"prompts": 2},
        "an update of B = 4 rows cannot be cut into micro-batches of 3",
    ),
    (
        two_prompts(),
        of(batch_standardised(), micro_batch_token_mean(2)),
        2,
        {"prompts": 2, "method": "enumeration"},
        "reads the whole update and its scale a micro-batch; use method='groups'",
    ),
]


@pytest.mark.parametrize("world, estimator, G, options, message", REFUSED, ids=range(len(REFUSED)))
def test_an_update_that_is_none_is_refused_with_the_way_out(world, estimator, G, options, message):
    logits = torch.zeros(world.num_rows, world.vocab_size, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        expected_gradient(world, logits, logits, estimator, G, **options)


def test_filters_that_keep_some_prompts_only_are_answered():
    logits = torch.zeros(2, 2, dtype=torch.float64)
    for mode in ("refill", "divide_by_all", "divide_by_kept"):
        estimator = of(centred(), filter=drop_equal(mode))
        found, listed = (
            expected_gradient(HALF_EQUAL, logits, logits, estimator, 2, prompts=2, method=method)
            for method in ("enumeration", "groups")
        )
        torch.testing.assert_close(found, listed, **EXACT)
        assert float(found.abs().max()) > MOVES


def test_a_batch_of_rows_with_groups_has_their_shape():
    with pytest.raises(ValueError, match="group has shape"):
        dataclasses.replace(
            Batch(*[torch.zeros(2, 1).double()] * 2, torch.zeros(2).double(), torch.ones(2, 1).bool()),
            group=torch.zeros(3, dtype=torch.int64),
        )
