"""multisets.py: all groups listed with their probabilities, and summed, against groups in plain Python."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.weights import token_weights as oracle_token_weights
from tests.properties.strategies import eighths, padded
from tests.properties.tolerances import EXACT, MOVES, VISIBLE
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.losses import Objective
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.groups.every_group import EveryGroup
from ticgrpo_theory.exact.mean.mean_weights import multiset_weights

HORIZON = 4


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 5), st.integers(1, 7))
def test_multisets_come_once_each_with_their_probability(weights, G, chunk):
    """G! / prod n! x prod p^n in fractions; chunks of any size give the same rows."""
    prob = [Fraction(w, sum(weights)) for w in weights]
    found = {}
    for members, P in multisets.groups(np.array([float(p) for p in prob]), G, chunk):
        assert len(members) == len(P) <= chunk
        found.update(zip(map(tuple, members.tolist()), P.tolist(), strict=True))
    expected = {}
    for members in combinations_with_replacement(range(len(prob)), G):
        orders = math.factorial(G) // math.prod(math.factorial(n) for n in Counter(members).values())
        expected[members] = orders * math.prod(prob[i] for i in members)
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), [float(P) for P in expected.values()], **EXACT)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 7))
def test_ordered_groups_come_once_each_with_their_probability(weights, G, chunk):
    prob = np.array(weights) / sum(weights)
    listed = list(multisets.ordered_groups(prob, G, chunk))
    members = np.concatenate([group for group, _ in listed])
    assert members.tolist() == [list(group) for group in product(range(len(prob)), repeat=G)]
    np.testing.assert_allclose(np.concatenate([P for _, P in listed]), prob[members].prod(axis=1), **EXACT)


@st.composite
def responses(draw, max_size: int = 4) -> tuple[list, np.ndarray]:
    """Members (logp, logp_old, reward) of lengths 1 to 3, with probabilities, some of them 0."""
    members = []
    for _ in range(draw(st.integers(1, max_size))):
        n = draw(st.integers(1, 3))
        logp_old = draw(st.lists(eighths(-3, -1), min_size=n, max_size=n))
        steps = draw(st.lists(eighths(-1, 1), min_size=n, max_size=n))
        logp = [x + y for x, y in zip(logp_old, steps, strict=True)]
        members.append((logp, logp_old, draw(eighths(-1, 1))))
    weight = draw(st.lists(st.integers(0, 5), min_size=len(members), max_size=len(members)).filter(any))
    return members, np.array(weight) / sum(weight)


def summed(estimator, members, prob, G, **options) -> np.ndarray:
    batch = padded(members, HORIZON)

    def batch_of(chosen, positions):
        tables = (batch.logp, batch.logp_old, batch.reward, batch.mask)
        return Batch(*(table[chosen] for table in tables), horizon=HORIZON)

    every = EveryGroup(estimator, prob, G, **options)
    return multiset_weights(every, batch_of, *batch.logp.shape).numpy()


def direct(weights, members, prob, G) -> np.ndarray:
    """sum over ordered groups of P(group) c[i,t], gathered by response; `weights` maps a group to its c."""
    total = np.zeros((len(members), max(len(logp) for logp, _, _ in members)))
    for group in product(range(len(members)), repeat=G):
        P = math.prod(prob[n] for n in group)
        if P > 0:
            for n, c in zip(group, weights([members[n] for n in group]), strict=True):
                total[n, : len(c)] += P * np.array(c)
    return total


@pytest.mark.parametrize("name", ["grpo", "dapo", "tic_grpo", "gmpo", "rloo"])
@given(responses(), st.integers(2, 3))
def test_sum_over_multisets_is_the_sum_over_ordered_groups(name, case, G):
    members, prob = case
    expected = direct(lambda group: oracle_token_weights(name, group, HORIZON), members, prob, G)
    np.testing.assert_allclose(summed(ESTIMATORS[name], members, prob, G), expected, **EXACT)


FEW = (
    [
        ([-1.0, -2.0], [-1.5, -1.0], 1.0),
        ([-0.5], [-1.0], 0.25),
        ([-2.0, -1.0, -1.0], [-1.0, -1.0, -1.0], 0.0),
    ],
    np.array([0.5, 0.25, 0.25]),
)


def test_the_same_check_rejects_groups_without_multinomial_coefficients(monkeypatch):
    def unweighted(prob, group_size, chunk):
        for members, _ in multisets._listed(
            multisets.next_multisets, prob, np.zeros(group_size, dtype=np.int64), 10, chunk
        ):
            yield members, prob[members].prod(axis=1)

    expected = summed(ESTIMATORS["grpo"], *FEW, 3)
    monkeypatch.setattr(multisets, "groups", unweighted)
    assert np.abs(summed(ESTIMATORS["grpo"], *FEW, 3) - expected).max() > VISIBLE


def test_chunks_and_order_do_not_change_the_sum(monkeypatch):
    expected = summed(ESTIMATORS["dapo"], *FEW, 4)
    np.testing.assert_allclose(summed(ESTIMATORS["dapo"], *FEW, 4, symmetric=False), expected, **EXACT)
    monkeypatch.setattr(multisets, "CHUNK", 1)
    np.testing.assert_allclose(summed(ESTIMATORS["dapo"], *FEW, 4), expected, **EXACT)


def by_order(batch: Batch) -> torch.Tensor:
    """Response i counts i + 1 times: asymmetric in the group."""
    order = torch.arange(1.0, len(batch.reward) + 1)
    c = ESTIMATORS["grpo"].token_weights(batch)
    return (order[:, None] * c * batch.logp).sum()


def alike(batch: Batch) -> torch.Tensor:
    return (ESTIMATORS["grpo"].token_weights(batch) * batch.logp).sum()


def oracle_by_order(group):
    c = oracle_token_weights("grpo", group, HORIZON)
    return [[(i + 1) * x for x in row] for i, row in enumerate(c)]


def test_callables_that_read_the_order_are_summed_over_ordered_groups():
    expected = direct(oracle_by_order, *FEW, 3)
    np.testing.assert_allclose(summed(Objective(by_order), *FEW, 3), expected, **EXACT)
    np.testing.assert_allclose(
        summed(Objective(alike), *FEW, 3), summed(ESTIMATORS["grpo"], *FEW, 3), **EXACT
    )


def test_multisets_alone_would_give_such_callables_another_sum():
    expected = direct(oracle_by_order, *FEW, 3)
    assert np.abs(summed(Objective(by_order), *FEW, 3, symmetric=True) - expected).max() > MOVES


def test_callables_with_randomness_are_refused():
    generator = torch.Generator().manual_seed(0)
    noisy = Objective(lambda batch: (torch.rand(1, generator=generator) * batch.logp).sum())
    with pytest.raises(ValueError, match=r"other token weights to the same group the second time"):
        summed(noisy, *FEW, 2)


def uniform(N: int) -> tuple[list, np.ndarray]:
    return [([-1.0], [-1.0], n / N) for n in range(N)], np.full(N, 1 / N)


def test_too_many_groups_are_refused_before_any_is_listed():
    count = math.comb(100 + 16 - 1, 16)
    with pytest.raises(
        ValueError, match=rf"\(100, 16\) has C\(N\+G-1, G\) = {count:,} multisets .* MAX_GROUPS"
    ):
        summed(ESTIMATORS["grpo"], *uniform(100), 16)
    with pytest.raises(ValueError, match=r"\(100, 16\) has N\*\*G = more than 10\^30 ordered groups"):
        summed(ESTIMATORS["grpo"], *uniform(100), 16, symmetric=False)
    with pytest.raises(ValueError, match=r"\(60, 4\) has .* 595,665 multisets .* limit"):
        summed(Objective(alike), *uniform(60), 4)
    with pytest.raises(ValueError, match=r"group_size = 0: a group has a whole number >= 1"):
        summed(ESTIMATORS["grpo"], *FEW, 0)
