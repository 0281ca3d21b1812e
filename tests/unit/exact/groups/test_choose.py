"""groups/choose.py: every way to sum over a group agrees, and the cheapest one is taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators.advantage import reads_group
from ticgrpo_theory.estimators.advantages import Advantage, centred, leave_one_out, raw, standardised
from ticgrpo_theory.exact.group_sums.counts import Counts
from ticgrpo_theory.exact.group_sums.lattice import Lattice, positions, sums, sums_and_squares
from ticgrpo_theory.exact.groups import choose
from ticgrpo_theory.exact.groups.members import Members


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
        Lattice(contribution.of_mean, reward, sums(k), G)
        if advantage.linear
        else Lattice(contribution.of_moments, reward, sums_and_squares(k), G),
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
