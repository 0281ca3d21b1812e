"""Token weights of whole updates: each part against loops over rows, by hand, and in one group."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import whole_updates as oracle
from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    centred,
    group_centred_batch_std,
    population,
    standardised,
    token_whitened,
)
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.estimators.ratios import none, token
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    micro_batch_token_mean,
    sequence_mean,
    sequence_sum,
    token_mean,
)

ADVANTAGES = {
    "batch": (batch_standardised(0.5), oracle.batch_standardised, (0.5, 0)),
    "batch, ddof 1": (batch_standardised(0.5, 1), oracle.batch_standardised, (0.5, 1)),
    "tokens": (token_whitened(0.25), oracle.token_whitened, (0.25, 0)),
    "tokens, ddof 1": (token_whitened(0.25, 1), oracle.token_whitened, (0.25, 1)),
    "root mean square": (group_centred_batch_std(0.5), oracle.centred_by_root_mean_square, (0.5, 0)),
    "root mean square, ddof 1": (
        group_centred_batch_std(0.5, 1),
        oracle.centred_by_root_mean_square,
        (0.5, 1),
    ),
    "deviation": (group_centred_batch_std(0.5, of="rewards"), oracle.centred_by_batch_deviation, (0.5, 0)),
    "deviation, ddof 1": (
        group_centred_batch_std(0.5, 1, of="rewards"),
        oracle.centred_by_batch_deviation,
        (0.5, 1),
    ),
}
SCALES = {
    "groups": (sequence_sum, oracle.mean_of_groups),
    "sequence": (sequence_mean, oracle.sequence_mean),
    "group tokens": (token_mean, oracle.token_mean_per_group),
    "tokens": (batch_token_mean, oracle.token_mean_of_update),
    "micro-batches": (micro_batch_token_mean(2), oracle.micro_batches(2, [0, 1, 2, 3])),
    "strided": (micro_batch_token_mean(2, (0, 2, 1, 3)), oracle.micro_batches(2, [0, 2, 1, 3])),
    "shuffled": (micro_batch_token_mean(2, "shuffled"), oracle.shuffled_micro_batches(2)),
}

Drawn = list[list[tuple[float, int]]]
UPDATES = st.lists(
    st.lists(st.tuples(eighths(-1, 1), st.integers(1, 4)), min_size=2, max_size=2), min_size=2, max_size=2
)
"""Two groups of two responses: (reward, length) of each."""


def update_of(drawn: Drawn, cut: bool = False) -> Batch:
    """The batch [P, G, T] with log-ratio 0: weights are scale times A at every token."""
    reward = torch.tensor([[r for r, _ in group] for group in drawn], dtype=torch.float64)
    length = torch.tensor([[n for _, n in group] for group in drawn])
    mask = torch.arange(4) < length[..., None]
    logp = torch.full(mask.shape, -0.5, dtype=torch.float64)
    truncated = length == 4 if cut else None
    return Batch(logp, logp, reward, mask, horizon=4, truncated=truncated)


def rows_of(drawn: Drawn) -> list[tuple[oracle.Response, ...]]:
    return [tuple(oracle.Response((0,) * n, (0,) * n, r, cut=n == 4) for r, n in group) for group in drawn]


def check_rows(estimator: Estimator, expected: oracle.Update, drawn: Drawn) -> None:
    batch = update_of(drawn, cut=estimator.filter == overlong("mask"))
    wanted = torch.tensor(expected.weights(rows_of(drawn)), dtype=torch.float64)[..., None] * batch.mask
    torch.testing.assert_close(estimator.update_weights(batch), wanted, **EXACT)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("advantage", ADVANTAGES)
@given(drawn=UPDATES)
def test_every_advantage_and_scale_of_an_update_is_what_its_loops_say(advantage, scale, drawn):
    part, loops, (delta, ddof) = ADVANTAGES[advantage]
    factor, factors = SCALES[scale]
    expected = oracle.Update(lambda r, n: loops(r, n, delta, ddof), factors)
    check_rows(Estimator(token, part, unclipped(), factor), expected, drawn)


FILTERS = {
    "divide by all": (drop_equal("divide_by_all"), oracle.mean_of_groups, sequence_sum, True, False),
    "divide by kept": (drop_equal("divide_by_kept"), oracle.mean_of_kept_groups, sequence_sum, True, False),
    "tokens of all": (
        drop_equal("divide_by_all"),
        oracle.token_mean_of_update,
        batch_token_mean,
        True,
        False,
    ),
    "tokens of kept": (
        drop_equal("divide_by_kept"),
        oracle.token_mean_of_kept,
        batch_token_mean,
        True,
        False,
    ),
    "masked": (overlong("mask"), oracle.mean_of_groups, sequence_sum, False, True),
    "masked, tokens": (overlong("mask"), oracle.token_mean_of_update, batch_token_mean, False, True),
    "masked, sequence": (overlong("mask"), oracle.sequence_mean, sequence_mean, False, True),
}


@pytest.mark.parametrize("name", FILTERS)
@given(drawn=UPDATES)
def test_filters_leave_out_what_they_say_and_divide_by_what_they_say(name, drawn):
    part, factors, factor, drops, masks = FILTERS[name]
    keep = oracle.unequal if drops else oracle.any_group
    expected = oracle.Update(oracle.group_centred, factors, keep, mask_cut=masks)
    check_rows(Estimator(token, centred(), unclipped(), factor, filter=part), expected, drawn)


MIXED = [[(1.0, 1), (0.0, 3)], [(1.0, 2), (0.5, 4)]]


def test_two_groups_by_hand():
    """Rewards 1, 0 | 1, 1/2, lengths 1, 3 | 2, 4: ten tokens, of which 7 carry a reward above zero."""
    batch = update_of(MIXED)
    c = Estimator(none, centred(), unclipped(), batch_token_mean).update_weights(batch)
    torch.testing.assert_close(
        c[..., 0], torch.tensor([[0.05, -0.05], [0.025, -0.025]], dtype=torch.float64), **EXACT
    )
    # Mean (1 + 2 + 2) / 10 = 1/2, mean square (1 + 2 + 1) / 10, variance 0.15.
    A = Estimator(none, token_whitened(0.0), unclipped(), sequence_sum).update_weights(batch)[..., 0] * 4
    by_hand = torch.tensor([[0.5, -0.5], [0.5, 0.0]], dtype=torch.float64) / math.sqrt(0.15)
    torch.testing.assert_close(A, by_hand, **EXACT)
    c = Estimator(none, centred(), unclipped(), micro_batch_token_mean(2)).update_weights(batch)
    by_hand = torch.tensor([[0.5 / 8, -0.5 / 8], [0.25 / 12, -0.25 / 12]], dtype=torch.float64)
    torch.testing.assert_close(c[..., 0], by_hand, **EXACT)


def test_an_update_without_coupling_is_the_mean_of_its_groups():
    batch, grpo = update_of(MIXED), Estimator(token, standardised(), two_sided(0.2, 0.2), sequence_mean)
    torch.testing.assert_close(grpo.update_weights(batch), grpo.token_weights(batch) / 2, **EXACT)


PARTS = [part for part, _, _ in ADVANTAGES.values()]


@pytest.mark.parametrize("part", PARTS, ids=list(ADVANTAGES))
@pytest.mark.parametrize("scale", [batch_token_mean, micro_batch_token_mean(2), sequence_sum])
def test_a_group_alone_is_an_update_of_one(part, scale):
    estimator, batch = Estimator(token, part, unclipped(), scale), update_of(MIXED)
    alone = estimator.token_weights(batch)
    one_by_one = torch.stack([estimator.update_weights(update_of([group]))[0] for group in MIXED])
    torch.testing.assert_close(alone, one_by_one, **EXACT)
    if scale is not sequence_sum:
        assert float((alone / 2 - estimator.update_weights(batch)).abs().max()) > MOVES


def test_the_axes_before_an_update_are_free():
    estimator = Estimator(token, batch_standardised(), unclipped(), batch_token_mean)
    drawn = [MIXED, [[(0.0, 2), (0.0, 2)], [(1.0, 1), (0.0, 4)]]]
    together = [update_of(one) for one in drawn]
    names = ("logp", "logp_old", "reward", "mask")
    stacked = Batch(*(torch.stack([getattr(one, name) for one in together]) for name in names), horizon=4)
    found = estimator.update_weights(stacked)
    for n, one in enumerate(together):
        torch.testing.assert_close(found[n], estimator.update_weights(one), **EXACT)


def test_a_long_response_loses_up_to_one():
    """limit 4, cache 2: 0 up to 2 tokens, -1/2 at 3, -1 at 4."""
    penalty = overlong("penalty", cache=2).penalty(torch.tensor([1, 2, 3, 4]), 4)
    torch.testing.assert_close(penalty, torch.tensor([0, 0, -0.5, -1.0], dtype=torch.float64), **EXACT)
    paper = overlong("penalty").penalty(torch.tensor([16384, 18432, 20480]), 20480)
    torch.testing.assert_close(paper, torch.tensor([0, -0.5, -1.0], dtype=torch.float64), **EXACT)
    batch = update_of(MIXED)
    filtered = Estimator(none, centred(), unclipped(), sequence_sum, filter=overlong("penalty", cache=2))
    moved = dataclasses.replace(batch, reward=torch.tensor([[1.0, -0.5], [1.0, -0.5]], dtype=torch.float64))
    plain = dataclasses.replace(filtered, filter=None)
    torch.testing.assert_close(filtered.update_weights(batch), plain.update_weights(moved), **EXACT)


REFUSED = [
    (lambda: drop_equal("often"), r"drop_equal\('often'\): choose one of 'refill', 'same_prompt'"),
    (lambda: overlong("cut"), r"overlong\('cut'\): choose one of 'mask', 'penalty'"),
    (lambda: overlong("mask", limit=4), "limit = 4: overlong\\('mask'\\) reads no number"),
    (lambda: overlong("penalty", cache=0), "cache = 0: give a number of tokens > 0"),
    (lambda: overlong("penalty").penalty(torch.tensor([1]), None), "has no limit: give overlong"),
    (lambda: micro_batch_token_mean(0), "rows = 0: a micro-batch has a whole number >= 1 of rows"),
    (lambda: micro_batch_token_mean(2, "mixed"), "order = 'mixed': choose 'in_order', 'shuffled'"),
    (lambda: micro_batch_token_mean(2, (0, 0)), r"order = \(0, 0\): give each of the rows 0..B-1 once"),
    (lambda: group_centred_batch_std(of="all"), "of = 'all': choose 'centred'"),
    (lambda: batch_standardised(-1.0), "delta = -1.0: the constant added"),
    (lambda: token_whitened(ddof=2), "ddof = 2: the standard deviation divides by n - ddof"),
    (
        lambda: Estimator(
            token, centred(), unclipped(), micro_batch_token_mean(2), filter=drop_equal("divide_by_kept")
        ),
        "leaves a number of rows that varies",
    ),
    (
        lambda: Estimator(token, centred(), unclipped(), micro_batch_token_mean(3)).update_weights(
            update_of(MIXED)
        ),
        "an update of B = 4 rows cannot be cut into micro-batches of 3",
    ),
    (
        lambda: Estimator(token, centred(), unclipped(), micro_batch_token_mean(2, (0, 1))).update_weights(
            update_of(MIXED)
        ),
        "order lists 2 rows; the update has B = P \\* G = 4",
    ),
    (
        lambda: Estimator(token, centred(), unclipped(), sequence_sum, filter=overlong()).update_weights(
            update_of(MIXED)
        ),
        "give Batch\\(truncated=...\\), True for a response that ends without EOS",
    ),
    (
        lambda: Estimator(token, centred(), unclipped(), sequence_sum, filter=drop_equal()).update_weights(
            update_of([[(1.0, 1), (1.0, 2)], [(1.0, 1), (0.0, 2)]])
        ),
        r"group \[0\] \(index over \*b, P\) has equal rewards, and drop_equal\(mode='refill'\) says",
    ),
    (
        lambda: Estimator(lambda ratio, mask: ratio, centred(), unclipped(), batch_token_mean).update_weights(
            update_of(MIXED)
        ),
        "reads whole updates, and .* declares nothing of what it reads: compose it of parts of this package",
    ),
    (
        lambda: Estimator(token, centred(), unclipped(), batch_token_mean).update_weights(
            Batch(*(getattr(update_of(MIXED), n)[0] for n in ("logp", "logp_old", "reward", "mask")))
        ),
        r"logp has shape \(2, 4\); an update has the axes \(P, G, T\)",
    ),
    (
        lambda: Estimator(token, population(), unclipped(), sequence_sum, filter=overlong("penalty")),
        "takes mu and sigma of the reward of the world, and overlong",
    ),
    (lambda: token_whitened()(torch.zeros(2)), "reads the lengths of the responses too"),
]


@pytest.mark.parametrize("made, message", REFUSED, ids=range(len(REFUSED)))
def test_what_no_update_can_be_is_refused_with_the_way_out(made, message):
    with pytest.raises(ValueError, match=message):
        made()


class OwnAdvantage(batch_standardised):
    """One of this package, with a formula of a user's own."""

    def over(self, reward, length, kept):
        return reward - reward[..., :1, :1]


class OwnScale(type(batch_token_mean)):
    """A factor of a user's own."""

    def over(self, length):
        return 1.0 / length.cumsum(dim=-1)


class OwnRows(micro_batch_token_mean):
    """Micro-batches that are weighed in a way of their own."""

    def over(self, length):
        return super().over(length) * torch.arange(1, length.shape[-1] + 1)


class OwnFilter(drop_equal):
    """A filter that keeps what a user likes."""

    def kept(self, reward):
        return reward.amax(dim=-1) > 0


@pytest.mark.parametrize(
    "name, part",
    [
        ("advantage", OwnAdvantage()),
        ("scale", OwnScale()),
        ("scale", OwnRows(2)),
        ("filter", OwnFilter()),
    ],
)
def test_parts_of_updates_of_ones_own_are_refused(name, part):
    """Their weights would be taken for those of the class that they derive from."""
    axes = {"advantage": centred(), "scale": sequence_sum, name: part}
    with pytest.raises(ValueError, match=rf"{name} = .*reads whole updates.*scope='batch'"):
        Estimator(token, clip=unclipped(), **axes)
