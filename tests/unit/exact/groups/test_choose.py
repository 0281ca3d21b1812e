"""counts.py, lattice.py, token_means.py, lengths.py: every way to sum over a group agrees."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import scales
from ticgrpo_theory.estimators.advantages import (
    Advantage,
    centred,
    leave_one_out,
    raw,
    reads_group,
    standardised,
)
from ticgrpo_theory.exact.groups import choose, lengths, token_means
from ticgrpo_theory.exact.groups.counts import Counts, Members
from ticgrpo_theory.exact.groups.lattice import Lattice, positions
from ticgrpo_theory.exact.groups.outcomes import distinct, outcomes


def close(found, expected) -> None:
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, **EXACT)


def every_method(advantage: Advantage, reward: np.ndarray, G: int) -> list[Counts | Members | Lattice]:
    """All three, whatever they cost."""
    contribution = choose.Contribution(advantage, G)
    length = np.zeros_like(reward)
    k = positions(reward)
    assert k is not None
    return [
        Counts(contribution.of_statistics, reward, length, G),
        Members(contribution.of_group, reward, length, G),
        Lattice(contribution.of_moments, reward, k, G, advantage.linear),
    ]


@st.composite
def rewards_and_probabilities(draw) -> tuple[np.ndarray, np.ndarray]:
    """Up to five reward values on a lattice, increasing, and two distributions of them."""
    reward = sorted(draw(st.sets(eighths(-1, 1), min_size=1, max_size=5)))
    weight = st.lists(st.integers(1, 6), min_size=len(reward), max_size=len(reward))
    weights = np.array([draw(weight), draw(weight)], dtype=np.float64)
    return np.array(reward), weights / weights.sum(axis=1, keepdims=True)


any_advantage = st.sampled_from([standardised(0.0), standardised(0.125, ddof=1), centred(), leave_one_out()])


@given(any_advantage, rewards_and_probabilities(), st.integers(2, 6))
def test_counts_members_and_lattice_agree(advantage, case, G):
    reward, prob = case
    counts, members, lattice = every_method(advantage, reward, G)
    close([members.given_one(prob)], [counts.given_one(prob)])
    close([lattice.given_one(prob)], [counts.given_one(prob)])
    close(members.given_two(prob), counts.given_two(prob))
    close(lattice.given_two(prob), counts.given_two(prob))


def test_counts_and_lattice_agree_for_hundreds_of_thousands_of_groups():
    reward, prob = np.arange(5) / 4, np.array([[0.3, 0.2, 0.1, 0.15, 0.25], [0.9, 0.04, 0.03, 0.02, 0.01]])
    counts, _, lattice = every_method(standardised(1e-6), reward, 40)
    assert counts.size > 100_000
    close([lattice.given_one(prob)], [counts.given_one(prob)])


def test_the_same_check_rejects_a_lattice_that_is_off_by_one_step():
    reward, prob = np.array([0.0, 0.25, 1.0]), np.array([[0.5, 0.25, 0.25]])
    contribution = choose.Contribution(standardised(0.0), 5)
    counts = every_method(standardised(0.0), reward, 5)[0].given_one(prob)
    wrong = Lattice(contribution.of_moments, reward, np.array([0, 2, 4]), 5).given_one(prob)
    assert np.abs(counts - wrong).max() > VISIBLE


def test_the_probabilities_on_a_lattice_add_to_1():
    """A = 1 averages to 1, given any reward value and for any number of draws."""
    for G in (1, 2, 3, 17, 64):
        k = np.array([0, 1, 3, 4, 9, 10])
        lattice = Lattice(lambda r, mean, var: (r + mean) * 0 + 1, k / 10, k, G)
        plus, minus = lattice.given_one(np.array([[0.1, 0.2, 0.3, 0.2, 0.15, 0.05]]))[0]
        close([plus, minus], [np.ones(6), np.zeros(6)])


@pytest.mark.parametrize(
    "reward, k",
    [
        ([0.0, 1.0], [0, 1]),
        ([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([-0.7, 0.0, 0.3], [0, 7, 10]),
        ([0.0, 0.3, 1.0], [0, 3, 10]),
        ([5.0], [0]),
        (list(np.arange(8) / 7 + 0.1), list(range(8))),
        ([1e6, 1e6 + 1, 1e6 + 3], [0, 1, 3]),
        ([0.0, 1 / math.sqrt(2), 1.0], None),
        ([0.0, 1e-5, 1.0], None),
        ([1.0, 1.0 + 2**-52, 1.0 + 3 * 2**-52], [0, 1, 3]),
    ],
)
def test_positions_on_a_lattice(reward, k):
    found = positions(np.array(reward))
    assert (found is None) == (k is None)
    assert k is None or found.tolist() == k


def test_the_cheapest_method_is_chosen():
    def chosen(reward: list[float], G: int) -> type:
        contribution = choose.Contribution(standardised(), G)
        return type(choose.choose(contribution, np.array(reward), np.zeros(len(reward)), 1))

    assert chosen([0.0, 1.0], 64) is Counts
    assert chosen(list(np.arange(5) / 4), 64) is Lattice
    assert chosen(list(np.sqrt(np.arange(5))), 16) is Counts
    assert chosen(list(np.sqrt(np.arange(60))), 3) is Members


def test_a_sum_that_would_take_too_long_is_refused():
    contribution = choose.Contribution(standardised(), 64)
    reward = np.sqrt(np.arange(30.0))
    with pytest.raises(
        ValueError, match=r"G - 1 = 63 responses with 30 types .* lists .* group_size=math.inf"
    ):
        choose.choose(contribution, reward, np.zeros(30), 1)


@pytest.mark.parametrize("advantage", [standardised(), centred(), leave_one_out(), standardised(0.5, 1)])
def test_advantages_of_a_group_read_the_others(advantage):
    assert reads_group(advantage)


def test_the_raw_reward_reads_no_other():
    assert not reads_group(raw())


@st.composite
def rewards_with_lengths(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes with up to three reward values and lengths up to 64."""
    n = draw(st.integers(2, 5))
    reward = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n))
    length = draw(st.lists(st.integers(1, 64), min_size=n, max_size=n, unique=True))
    weight = np.array(draw(st.lists(st.integers(1, 6), min_size=n, max_size=n)), dtype=np.float64)
    return np.array(reward), np.array(length, dtype=np.float64), weight / weight.sum()


@given(st.sampled_from([standardised(0.0), centred(), raw()]), rewards_with_lengths(), st.integers(2, 5))
def test_tilted_distributions_and_listed_pairs_agree_on_token_means(advantage, table, G):
    case = outcomes(advantage, scales.token_mean, *table, G, None)
    if not reads_group(advantage):
        case = token_means.without_rewards(case)
    tilted, listed = token_means.Tilted(case), token_means.Listed(case)
    occurs = token_means.joint_distribution(case) > 0
    close([tilted.given_one()[:, occurs]], [listed.given_one()[:, occurs]])
    pairs = occurs[:, :, None, None] & occurs
    for found, expected, where in zip(tilted.given_two(), listed.given_two(), (occurs, pairs), strict=True):
        close([found[..., where]], [expected[..., where]])


def test_the_same_check_rejects_a_tilt_that_forgets_the_own_length():
    table = (np.array([0.0, 1.0]), np.array([1.0, 9.0]), np.array([0.5, 0.5]))
    case = outcomes(standardised(0.0), scales.token_mean, *table, 3, None)
    tilted, listed = token_means.Tilted(case), token_means.Listed(case)
    object.__setattr__(tilted, "decay", np.exp(-np.outer(tilted.nodes[0], [1.0, 1.0])))
    assert np.abs(tilted.given_one() - listed.given_one()).max() > VISIBLE


@pytest.mark.parametrize("largest", [1.0, 2.0, 64.0, 1024.0])
def test_a_sum_of_exponentials_is_the_inverse_and_its_square(largest):
    u, weight = lengths.exponential_sum(3.0, 3.0 * largest)
    x = 3.0 * np.linspace(1.0, largest, 1000)
    decay = np.exp(-np.outer(x, u))
    close([decay @ weight * x, decay @ (weight * u) * x**2], [np.ones(1000), np.ones(1000)])
    assert (
        np.abs(np.exp(-np.outer([9.0 * largest * 64], u)) @ weight * 9.0 * largest * 64 - 1).max() < VISIBLE
    )


def test_only_the_token_mean_itself_is_taken_for_an_inverse_total():
    def inverse_root(length, total_length, group_size, horizon):
        return 1.0 / (length.double() * total_length.double().sqrt())

    table = (np.array([0.0, 1.0]), np.array([1.0, 9.0]), np.array([0.5, 0.5]))
    assert isinstance(
        token_means.strategy(outcomes(raw(), scales.token_mean, *table, 3, None)), token_means.Tilted
    )
    assert isinstance(
        token_means.strategy(outcomes(raw(), inverse_root, *table, 3, None)), token_means.Listed
    )


@pytest.mark.parametrize("values", [1, 3, 31, 32, 33, 200])
def test_distinct_values_of_many_outcomes(values):
    """Few values are searched, many are sorted: both give the same table."""
    order = np.arange(1000)
    value = ((order * 7919) % values) / 8 - 0.5
    prob = (order % 5).astype(np.float64)
    prob /= prob.sum()
    found = distinct(value, prob)
    possible = prob > 0
    expected, index = np.unique(value[possible], return_inverse=True)
    assert found.value.tolist() == expected.tolist()
    assert found.index[possible].tolist() == index.tolist() and (found.index[~possible] == -1).all()
    close([found.prob], [[prob[possible][index == j].sum() for j in range(expected.size)]])
