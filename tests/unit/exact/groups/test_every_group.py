"""every_group.py: which groups stand for which, what is checked on each of them, and what is refused."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.losses import Objective
from ticgrpo_theory.exact.groups import every_group
from ticgrpo_theory.exact.groups.every_group import OUTRIGHT, TOGETHER, EveryGroup
from ticgrpo_theory.exact.groups.multisets import reorderings
from ticgrpo_theory.exact.mean.mean_weights import multiset_weights


@pytest.fixture(autouse=True)
def a_group_is_not_cheap(request, monkeypatch):
    """Otherwise what vmap takes is listed in every order as soon as an order has to be checked."""
    if "cheap" not in request.node.name:
        monkeypatch.setattr(every_group, "TOGETHER", 0)


# Reorderings


@pytest.mark.parametrize("G", range(2, 9))
def test_reorderings_carry_every_row_across_every_block_boundary(G):
    """Blocks of b rows: in a few consecutive groups each row has been in another block."""
    orders = torch.cat([reorderings(n, 1, G, 1)[0] for n in range(5, 5 + 2 * G)]).numpy()
    for boundary in range(1, G):
        crossed = (orders < boundary) != (np.arange(G) < boundary)
        assert crossed.any(axis=0).all(), f"a row stays on its side of {boundary}"
    assert (orders != np.arange(G)).any(axis=1).all()


@pytest.mark.parametrize("G", range(2, 9))
def test_reorderings_are_permutations_that_change_from_group_to_group(G):
    for repetitions in (1, 3):
        listed = list(reorderings(7, 40, G, repetitions))
        assert len(listed) == repetitions
        for orders in listed:
            assert (orders.sort(dim=1).values == torch.arange(G)).all()
            assert (orders != torch.arange(G)).any(dim=1).all()
            if G > 2:
                same = (orders[1:] == orders[:-1]).all(dim=1).double().mean()
                assert same < 0.5
        assert len({tuple(row) for row in torch.cat(listed).tolist()}) >= min(math.factorial(G) - 1, 10)


def test_a_fixed_permutation_and_reversals_keep_pairs_together():
    """What the rotations are for: both keep blocks of 2 of 4."""
    pairs = {frozenset(p) for p in ((0, 1), (2, 3))}
    for order in ((3, 2, 1, 0), (2, 3, 0, 1)):
        assert {frozenset(order[:2]), frozenset(order[2:])} == pairs
    orders = torch.cat([reorderings(n, 1, 4, 1)[0] for n in range(4)]).tolist()
    assert any({frozenset(o[:2]), frozenset(o[2:])} != pairs for o in orders)


# Sums over groups

RNG = np.random.default_rng(3)
N, G, T = 8, 4, 3
LENGTH = torch.tensor([1, 2, 3, 1, 2, 3, 2, 3])
MASK = torch.arange(T) < LENGTH[:, None]
OLD = torch.from_numpy(-1.0 - RNG.random((N, T)))
NEW = OLD + torch.from_numpy(RNG.normal(size=(N, T))) / 2
REWARD = torch.tensor([0.5, 0.0, 1.0, 0.0, 0.5, 0.0, 0.25, 0.0], dtype=torch.float64)
PROB = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.049, 0.001])
ORDERED = N**G
"""More than OUTRIGHT, so that multisets are tried first."""


def batch_of(members: torch.Tensor, positions: torch.Tensor) -> Batch:
    return Batch(NEW[members], OLD[members], REWARD[members], MASK[members], None, T)


def every(objective, group_size: int = G, **options) -> EveryGroup:
    estimator = objective if hasattr(objective, "token_weights") else Objective(objective)
    return EveryGroup(estimator, PROB, group_size, **options)


def summed(groups: EveryGroup) -> torch.Tensor:
    return multiset_weights(groups, batch_of, N, T)


@functools.cache
def by_definition(objective, group_size: int = G) -> torch.Tensor:
    """sum over ordered groups of P(group) c[i,t], gathered by response."""
    members = torch.tensor(list(itertools.product(range(N), repeat=group_size)))
    prob = torch.from_numpy(PROB)[members].prod(dim=1)
    c = Objective(objective).token_weights(batch_of(members, members[:, 0]))
    total = torch.zeros(N, T, dtype=torch.float64)
    return total.index_add(0, members.flatten(), (prob[:, None, None] * c).flatten(0, 1))


def log_w(batch: Batch) -> torch.Tensor:
    return batch.log_ratio.sum(dim=-1)


def alike(batch: Batch) -> torch.Tensor:
    return ((batch.reward - batch.reward.mean()) * log_w(batch).exp()).mean()


def alike_in_logs(batch: Batch) -> torch.Tensor:
    return ((batch.reward - batch.reward.mean()) * log_w(batch)).mean()


def in_blocks_of_two(batch: Batch) -> torch.Tensor:
    """Micro-batches: each two responses have a token mean of their own."""
    A = batch.reward - batch.reward.mean()
    token = A[:, None] * batch.log_ratio.exp().where(batch.mask, 0.0)
    return sum(token[b : b + 2].sum() / batch.mask[b : b + 2].sum() for b in range(0, len(A), 2)) / 2


def on_a_rare_response(batch: Batch) -> torch.Tensor:
    """Only where response 7, of probability 0.001, stands first."""
    rare = (batch.logp_old[0, 0] == OLD[7, 0]).double()
    return alike(batch) + 50 * rare * log_w(batch)[1]


def first_row(batch: Batch) -> torch.Tensor:
    return ((batch.reward - batch.reward[0]) * log_w(batch)).mean()


@pytest.mark.parametrize("objective", [in_blocks_of_two, on_a_rare_response, first_row])
def test_an_order_that_matters_is_noticed_and_the_ordered_groups_are_summed(objective):
    assert ORDERED > OUTRIGHT
    groups = every(objective)
    assert not groups.ordered
    found = summed(groups)
    assert groups.ordered and groups.groups == ORDERED
    torch.testing.assert_close(found, by_definition(objective), **EXACT)
    trusted = summed(every(objective, symmetric=True))
    assert (trusted - by_definition(objective)).abs().max() > MOVES / 10


def test_where_no_order_matters_every_multiset_was_checked():
    groups = every(alike)
    found = summed(groups)
    multisets = math.comb(N + G - 1, G)
    assert not groups.ordered and groups.groups == multisets
    assert groups.checked >= multisets and groups.checked % multisets == 0
    torch.testing.assert_close(found, by_definition(alike), **EXACT)


def test_symmetric_says_which_groups_are_listed():
    for objective in (alike, in_blocks_of_two):
        ordered = every(objective, symmetric=False)
        torch.testing.assert_close(summed(ordered), by_definition(objective), **EXACT)
        assert ordered.ordered and ordered.checked == 0
    trusted = every(alike, symmetric=True)
    torch.testing.assert_close(summed(trusted), by_definition(alike), **EXACT)
    assert not trusted.ordered and trusted.checked == 0


def test_of_cheap_groups_all_orders_are_listed():
    assert ORDERED <= TOGETHER
    groups = every(alike)
    torch.testing.assert_close(summed(groups), by_definition(alike), **EXACT)
    assert groups.ordered and groups.checked == 0


def test_few_ordered_groups_are_listed_outright():
    few = every(first_row, group_size=3)
    assert N**3 <= OUTRIGHT and few.ordered
    torch.testing.assert_close(summed(few), by_definition(first_row, 3), **EXACT)
    assert not every(first_row, group_size=1).ordered and not every(ESTIMATORS["grpo"], 3).ordered
    assert not every(first_row, group_size=3, symmetric=True).ordered


def test_of_the_catalogue_multisets_stand_for_ordered_groups_unchecked():
    groups = every(ESTIMATORS["dapo"])
    found = summed(groups)
    assert not groups.ordered and groups.checked == 0
    ordered = summed(every(ESTIMATORS["dapo"], symmetric=False))
    torch.testing.assert_close(found, ordered, **EXACT)


def test_the_limit_is_on_the_groups_of_a_black_box():
    multisets = math.comb(N + G - 1, G)
    summed(every(alike, limit=multisets))
    with pytest.raises(ValueError, match=rf"= {multisets} multisets .* than limit = {multisets - 1}"):
        summed(every(alike, limit=multisets - 1))
    with pytest.raises(ValueError, match=rf"{ORDERED:,} ordered groups .* their order matters .*'sampled'"):
        summed(every(first_row, limit=multisets))
    summed(every(ESTIMATORS["grpo"], limit=1))


def test_single_precision_is_not_taken_for_an_order():
    def in_float32(batch: Batch) -> torch.Tensor:
        w = (batch.log_ratio.float() * batch.mask.float()).sum(-1).exp()
        A = batch.reward.float() - batch.reward.float().mean()
        return (A * w / w.sum()).sum()

    def first_in_float32(batch: Batch) -> torch.Tensor:
        return in_float32(batch) + 1e-3 * log_w(batch).float()[0] * batch.reward.float()[0]

    groups = every(in_float32)
    found = summed(groups)
    assert not groups.ordered and groups.checked > 0
    torch.testing.assert_close(found, by_definition(in_float32), atol=1e-6, rtol=1e-5)
    groups = every(first_in_float32)
    summed(groups)
    assert groups.ordered


# What groups do not determine

MOOD = r"gives other token weights to the same group the second time"


class Counter:
    """An objective that counts its calls, however vmap makes them."""

    def __init__(self, factor) -> None:
        self.calls, self.factor = 0, factor

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.calls += 1
        # Reading a number keeps vmap out: every group is a call.
        float(batch.reward.sum())
        return self.factor(self.calls) * alike(batch)


STATES = {
    "grows": lambda calls: 1.0 + 1e-3 * calls,
    "alternates": lambda calls: 1.0 + calls % 2,
    "flips once after 25 calls": lambda calls: 1.0 + (calls > 25),
    "random": lambda calls: 1.0 + float(np.random.default_rng(calls).random()),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("symmetric", [None, True, False])
@pytest.mark.parametrize("G", [2, 3])
def test_state_and_randomness_are_refused(name, symmetric, G):
    groups = EveryGroup(Objective(Counter(STATES[name])), np.full(4, 0.25), G, symmetric)
    with pytest.raises(ValueError, match=MOOD):
        multiset_weights(groups, batch_of, 4, T)


def test_a_counter_that_changes_nothing_is_not_refused():
    groups = EveryGroup(Objective(Counter(lambda calls: 1.0)), np.full(4, 0.25), 3)
    multiset_weights(groups, batch_of, 4, T)
    assert groups.groups == 4**3


def test_randomness_under_vmap_is_refused():
    def noisy(batch: Batch) -> torch.Tensor:
        return (1 + torch.rand(())) * alike(batch)

    with pytest.raises(ValueError, match=MOOD):
        summed(every(noisy))


def test_a_change_of_the_groups_in_place_is_refused():
    def centring(batch: Batch) -> torch.Tensor:
        batch.reward.sub_(batch.reward.mean())
        return (batch.reward * log_w(batch)).sum()

    def on_a_copy(batch: Batch) -> torch.Tensor:
        return centring(dataclasses.replace(batch, reward=batch.reward.clone()))

    torch.testing.assert_close(summed(every(on_a_copy)), G * by_definition(alike_in_logs), **EXACT)
    with pytest.raises(ValueError, match=r"changes batch.reward in place; .* batch.reward.clone\(\)"):
        summed(every(centring))


def test_the_check_can_be_missed_only_where_it_is_taken_out(monkeypatch):
    monkeypatch.setattr(every_group.Walk, "ask_again", lambda *_: None)
    groups = EveryGroup(Objective(Counter(STATES["grows"])), np.full(4, 0.25), 3, symmetric=False)
    multiset_weights(groups, batch_of, 4, T)
