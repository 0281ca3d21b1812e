"""advantages.py: hand-worked values, the definitions in plain Python, and the limit of a large group."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.weights import centred as oracle_centred
from tests.oracles.weights import leave_one_out as oracle_leave_one_out
from tests.oracles.weights import standardised as oracle_standardised
from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.estimators.advantages import (
    Advantage,
    centred,
    known_moments,
    leave_one_out,
    population,
    raw,
    standardised,
)
from ticgrpo_theory.stats.rng import stream

GROUP = [0.0, 0.0, 0.0, 1.0]  # mean 1/4, variance 3/16
LOW, HIGH = -1 / math.sqrt(3), math.sqrt(3)
BY_HAND = [
    (standardised(delta=0.0), [LOW, LOW, LOW, HIGH]),
    # std = sqrt(3)/4 becomes 1 + sqrt(3)/4.
    (standardised(delta=1.0), [*[-1 / (4 + math.sqrt(3))] * 3, 3 / (4 + math.sqrt(3))]),
    # 1/(G-1) makes the variance 1/4.
    (standardised(delta=0.0, ddof=1), [-1 / 2, -1 / 2, -1 / 2, 3 / 2]),
    (centred(), [-1 / 4, -1 / 4, -1 / 4, 3 / 4]),
    (leave_one_out(), [-1 / 3, -1 / 3, -1 / 3, 1.0]),
    (raw(), GROUP),
    (known_moments(0.5, 0.25, 0.75), [-1 / 2, -1 / 2, -1 / 2, 1 / 2]),
]
rewards = st.lists(eighths(-1, 1), min_size=1, max_size=5)


def double(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def check_by_hand(advantage: Advantage, expected: list[float]) -> None:
    torch.testing.assert_close(advantage(double(GROUP)), double(expected), **EXACT)


@pytest.mark.parametrize("advantage, expected", BY_HAND)
def test_advantages_by_hand(advantage, expected):
    check_by_hand(advantage, expected)


@given(rewards, st.sampled_from([0.0, 1e-6, 0.125]))
def test_standardised_is_its_definition(group, delta):
    expected = oracle_standardised([([], [], r) for r in group], delta)
    torch.testing.assert_close(standardised(delta)(double(group)), double(expected), **EXACT)


@given(rewards)
def test_centred_and_leave_one_out_are_their_definitions(group):
    members = [([], [], r) for r in group]
    torch.testing.assert_close(centred()(double(group)), double(oracle_centred(members)), **EXACT)
    if len(group) > 1:
        expected = double(oracle_leave_one_out(members))
        torch.testing.assert_close(leave_one_out()(double(group)), expected, **EXACT)


RELATIVE = (
    standardised(0.0),
    standardised(1e-6),
    standardised(0.0, ddof=1),
    centred(),
    leave_one_out(),
)


def check_equal_rewards(advantage: Advantage) -> None:
    for reward in (0.1, 1 / 3, 0.0, -7.3, 1e8 + 0.1):
        for size in (2, 3, 5, 7):
            assert advantage(double([reward] * size)).tolist() == [0.0] * size


@pytest.mark.parametrize("advantage", RELATIVE)
def test_a_group_of_equal_rewards_has_advantage_exactly_zero(advantage):
    check_equal_rewards(advantage)


def test_deciding_equality_by_the_standard_deviation_would_fail():
    group = double([0.1, 0.1, 0.1])
    std = (group - group.mean()).square().mean().sqrt()
    assert std > 0 and ((group - group.mean()) / std).abs().max() == 1


@pytest.mark.parametrize("advantage", [standardised(), centred()])
def test_a_group_of_one_has_advantage_zero(advantage):
    assert advantage(double([0.7])).tolist() == [0.0]


@pytest.mark.parametrize("advantage", [*RELATIVE, raw(), known_moments(0.5, 0.25)])
def test_one_group_alone_and_a_thousand_together_give_the_same_bits(advantage):
    together = torch.rand(1000, 7, generator=stream(0, "advantages"), dtype=torch.float64)
    alone = torch.stack([advantage(group) for group in together])
    torch.testing.assert_close(advantage(together), alone, **SAME_BITS)


@pytest.mark.parametrize("advantage", [*RELATIVE, raw(), known_moments(0.5, 0.25)])
@given(st.lists(eighths(-1, 1), min_size=2, max_size=5))
def test_known_group_moments_give_the_same_numbers(advantage, group):
    reward = double(group)
    mean = reward.mean()
    variance = double([0.0])[0] if max(group) == min(group) else (reward - mean).square().mean()
    found = advantage.of_moments(reward, mean, variance, len(group))
    torch.testing.assert_close(found, advantage(reward), **EXACT)


def departure_from_linear(advantage: Advantage) -> float:
    """Largest gap of A((a + b)/2) from (A(a) + A(b))/2."""
    a, b = double([0.0, 0.0, 1.0]), double([1.0, 0.5, 0.0])
    return float((advantage((a + b) / 2) - (advantage(a) + advantage(b)) / 2).abs().max())


LINEAR = [centred(), leave_one_out(), raw(), known_moments(0.5, 0.25), population().at(0.5, 0.25)]


@pytest.mark.parametrize("advantage", LINEAR)
def test_an_advantage_that_says_it_is_linear_is(advantage):
    assert advantage.linear and departure_from_linear(advantage) <= EXACT["atol"]


@pytest.mark.parametrize("advantage", [standardised(0.0), standardised(1.0)])
def test_an_advantage_that_does_not_say_so_is_not_linear(advantage):
    assert not advantage.linear and departure_from_linear(advantage) > VISIBLE


@pytest.mark.parametrize("advantage", [*RELATIVE, raw(), known_moments(0.5, 0.25), population(0.125)])
def test_the_limit_is_what_a_large_group_tends_to(advantage):
    reward = double([0.0, 0.25, 1.0, 1.0])
    mean, std = float(reward.mean()), float(reward.var(correction=0).sqrt())
    limit = advantage.limit(mean, std)(reward)
    gaps = []
    for copies in (10, 1000):
        large = reward.repeat(copies)
        at_hand = advantage if isinstance(advantage, known_moments) else advantage.at(mean, std)
        gaps.append(float((at_hand(large)[:4] - limit).abs().max()))
    # 1/G against 1/(G-1) is the only difference left: a hundredth of it at a hundred times the size.
    assert gaps[1] <= gaps[0] / 99 + EXACT["atol"] and gaps[0] < 0.1


def test_population_moments_are_those_it_is_given():
    reward = double([0.0, 1.0])
    assert population(0.25).at(0.5, 0.25) == known_moments(0.5, 0.25, 0.25)
    torch.testing.assert_close(population(0.25).at(0.5, 0.25)(reward), double([-1.0, 1.0]), **EXACT)
    for same in (standardised(), centred(), leave_one_out(), raw(), known_moments(0.5, 1.0)):
        assert same.at(0.5, 0.25) is same


def test_known_moments_of_equal_responses_give_zero():
    assert known_moments(0.3, 0.0)(double([0.3, 0.3])).tolist() == [0.0, 0.0]
    # A mean that was summed up is not quite the reward.
    for advantage in (population(1e-6).at(0.3 - 1e-16, 0.0), standardised(1e-6).limit(0.3 - 1e-16, 0.0)):
        assert advantage(double([0.3, 0.3])).tolist() == [0.0, 0.0]


def test_population_without_its_moments_is_refused():
    with pytest.raises(
        ValueError, match=r"population\(\) needs mu and sigma .*: call \.at\(mu, sigma\) first"
    ):
        population()(double([0.0, 1.0]))


@pytest.mark.parametrize(
    "advantage, size",
    [(leave_one_out(), 1), (standardised(0.0, ddof=1), 1), (standardised(), 0), (raw(), 0)],
)
def test_a_group_that_is_too_small_is_refused(advantage, size):
    message = rf"is undefined for a group of {size}; it needs group_size >= {size + 1}: draw more responses"
    with pytest.raises(ValueError, match=message):
        advantage(double([0.5] * size))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: standardised(delta=-0.1), r"delta = -0\.1: .* must be >= 0"),
        (lambda: standardised(delta=math.nan), r"delta = nan"),
        (lambda: standardised(ddof=2), r"ddof = 2: .* with ddof 0 or 1"),
        (lambda: known_moments(0.0, -1.0), r"std = -1\.0, delta = 0\.0: both must be >= 0"),
        (lambda: known_moments(0.0, 1.0, -1.0), r"delta = -1\.0: both must be >= 0"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
