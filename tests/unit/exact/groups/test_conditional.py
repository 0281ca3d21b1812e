"""groups.py: hand-worked fractions, all groups in plain Python, the arguments, refusals."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.weights import centred as oracle_centred
from tests.oracles.weights import leave_one_out as oracle_leave_one_out
from tests.oracles.weights import standardised as oracle_standardised
from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT, MOVES, VISIBLE
from ticgrpo_theory.estimators import scales
from ticgrpo_theory.estimators.advantages import (
    Advantage,
    centred,
    known_moments,
    leave_one_out,
    raw,
    standardised,
)
from ticgrpo_theory.exact.groups import conditional as groups
from ticgrpo_theory.exact.groups.outcomes import outcomes

HORIZON = 5
ADVANTAGES = {
    standardised(0.0): lambda rewards: oracle_standardised([([], [], r) for r in rewards], 0.0),
    standardised(0.125): lambda rewards: oracle_standardised([([], [], r) for r in rewards], 0.125),
    centred(): lambda rewards: oracle_centred([([], [], r) for r in rewards]),
    leave_one_out(): lambda rewards: oracle_leave_one_out([([], [], r) for r in rewards]),
    raw(): lambda rewards: list(rewards),
    known_moments(0.25, 0.5, 0.25): lambda rewards: [(r - Fraction(1, 4)) * Fraction(4, 3) for r in rewards],
}


def inverse_root(length, total_length, group_size, horizon):
    """A scale that reads the total length and is no multiple of its inverse."""
    return 1.0 / (length.double() * total_length.double().sqrt())


SCALES = {
    scales.sequence_mean: lambda own, lengths: Fraction(1, len(lengths) * own),
    scales.token_mean: lambda own, lengths: Fraction(1, sum(lengths)),
    scales.sequence_sum: lambda own, lengths: Fraction(1, len(lengths)),
    scales.constant: lambda own, lengths: Fraction(1, len(lengths) * HORIZON),
    inverse_root: lambda own, lengths: 1 / (own * math.sqrt(sum(lengths))),
}

Outcomes = tuple[list[float], list[int], list[Fraction]]


@st.composite
def any_outcomes(draw) -> Outcomes:
    """Up to four outcomes: reward, length up to 5, probability in sixteenths, some of them 0."""
    n = draw(st.integers(1, 4))
    reward = draw(st.lists(eighths(-1, 1), min_size=n, max_size=n))
    length = draw(st.lists(st.integers(1, 5), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n).filter(any))
    return reward, length, [Fraction(w, sum(weights)) for w in weights]


def every_group(
    table: Outcomes, G: int, advantage: Advantage, scale
) -> list[tuple[tuple[int, ...], Fraction, list]]:
    """(outcomes of the responses, probability, G scale_i A_i) of every ordered group."""
    reward, length, prob = table
    listed = []
    for members in product(range(len(reward)), repeat=G):
        A = ADVANTAGES[advantage]([Fraction(reward[o]) for o in members])
        lengths = [length[o] for o in members]
        parts = [G * a * SCALES[scale](n, lengths) for a, n in zip(A, lengths, strict=True)]
        listed.append((members, math.prod(prob[o] for o in members), parts))
    return listed


def direct(table: Outcomes, G: int, advantage: Advantage, scale) -> tuple[list, list]:
    """(f+, f-) by definition: sums over all groups that start with outcome o; 0 where o is impossible."""
    total = [[Fraction(0)] * len(table[0]) for _ in range(2)]
    for members, P, parts in every_group(table, G, advantage, scale):
        if P > 0:
            total[0][members[0]] += P / table[2][members[0]] * max(parts[0], 0)
            total[1][members[0]] += P / table[2][members[0]] * min(parts[0], 0)
    return total[0], total[1]


def arrays(table: Outcomes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array(table[0]), np.array(table[1]), np.array([float(p) for p in table[2]])


def conditional(table: Outcomes, G: int, advantage, scale) -> tuple[np.ndarray, np.ndarray]:
    return groups.conditional_advantages(outcomes(advantage, scale, *arrays(table), G, HORIZON))


def close(found: np.ndarray, expected) -> None:
    np.testing.assert_allclose(np.asarray(found), np.array(expected, dtype=np.float64), **EXACT)


ROOT = math.sqrt(2)
COIN: Outcomes = ([1.0, 0.0], [1, 3], [Fraction(1, 4), Fraction(3, 4)])
BY_HAND = [
    # A pair with one success has A = (1, -1); a pair of equals has A = 0.
    (standardised(0.0), scales.sequence_sum, 2, [3 / 4, 0], [0, -1 / 4]),
    # (1,0,0): A = (2,-1,-1)/sqrt(2); (1,1,0): A = (1,1,-2)/sqrt(2).
    (standardised(0.0), scales.sequence_sum, 3, [3 / 4 * ROOT, 0], [0, -ROOT / 4]),
    (centred(), scales.sequence_sum, 3, [1 / 2, 0], [0, -1 / 6]),
    (leave_one_out(), scales.sequence_sum, 3, [3 / 4, 0], [0, -1 / 4]),
    (raw(), scales.sequence_mean, 3, [1, 0], [0, 0]),
    # The only group with A != 0 has lengths 1 + 3, so that G / total = 1/2.
    (standardised(0.0), scales.token_mean, 2, [3 / 8, 0], [0, -1 / 8]),
]


@pytest.mark.parametrize("advantage, scale, G, plus, minus", BY_HAND)
def test_a_biased_coin_by_hand(advantage, scale, G, plus, minus):
    found = conditional(COIN, G, advantage, scale)
    close(found[0], plus)
    close(found[1], minus)


@pytest.mark.parametrize("scale", SCALES)
@given(st.sampled_from(list(ADVANTAGES)), any_outcomes(), st.integers(1, 4))
def test_conditional_advantages_are_sums_over_all_groups(scale, advantage, table, G):
    G = max(G, advantage.min_group)
    found, expected = conditional(table, G, advantage, scale), direct(table, G, advantage, scale)
    close(found[0], expected[0])
    close(found[1], expected[1])
    total = groups.conditional_advantage_sum(outcomes(advantage, scale, *arrays(table), G, HORIZON))
    close(total, np.array(expected[0], dtype=float) + np.array(expected[1], dtype=float))


TERNARY: Outcomes = ([0.0, 0.25, 1.0], [1, 4, 2], [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)])


@pytest.mark.parametrize("wrong", [standardised(0.0, ddof=1), standardised(0.5), centred()])
def test_the_same_check_rejects_another_advantage(wrong):
    found = conditional(TERNARY, 3, wrong, scales.sequence_sum)[0]
    expected = np.array(direct(TERNARY, 3, standardised(0.0), scales.sequence_sum)[0])
    assert np.abs(found - expected).max() > VISIBLE


def test_the_same_check_rejects_a_group_with_one_response_more():
    found = conditional(TERNARY, 4, standardised(0.0), scales.sequence_sum)[0]
    expected = np.array(direct(TERNARY, 3, standardised(0.0), scales.sequence_sum)[0])
    assert np.abs(found - expected).max() > VISIBLE


def test_the_same_check_rejects_lengths_that_are_expected_instead_of_pooled():
    table, G = TERNARY, 3
    mean_length = float(sum(n * p for n, p in zip(table[1], table[2], strict=True)))
    found = conditional(table, G, standardised(0.0), scales.sequence_sum)[0] / mean_length
    expected = np.array(direct(table, G, standardised(0.0), scales.token_mean)[0])
    assert np.abs(found - expected).max() > VISIBLE


@pytest.mark.parametrize("scale", SCALES)
@given(st.sampled_from(list(ADVANTAGES)), any_outcomes(), st.integers(1, 3))
def test_products_are_sums_over_all_groups(scale, advantage, table, G):
    G = max(G, advantage.min_group)
    found = groups.conditional_products(outcomes(advantage, scale, *arrays(table), G, HORIZON))
    N, sign = len(table[0]), (max, min)
    square, cross = np.zeros((2, N)), np.zeros((2, 2, N, N))
    for members, P, x in every_group(table, G, advantage, scale):
        for s in range(2) if P > 0 else ():
            o = members[0]
            square[s, o] += P / table[2][o] * sign[s](x[0], 0) ** 2
            for r in range(2) if G > 1 else ():
                other = members[1]
                term = sign[s](x[0], 0) * sign[r](x[1], 0)
                cross[s, r, o, other] += P / table[2][o] / table[2][other] * term
    own, index = found.own_scale, found.index
    close(own**2 * found.square[:, index], square)
    close(own[:, None] * own * found.cross[:, :, index[:, None], index], cross)


@given(any_outcomes(), st.integers(2, 5), st.sampled_from([standardised(0.0), centred(), leave_one_out()]))
def test_advantages_relative_to_the_group_average_to_zero(table, G, advantage):
    plus, minus = conditional(table, G, advantage, scales.sequence_sum)
    close(arrays(table)[2] @ (plus + minus), 0.0)


def test_the_same_check_rejects_the_raw_reward():
    plus, minus = conditional(TERNARY, 3, raw(), scales.sequence_sum)
    assert abs(arrays(TERNARY)[2] @ (plus + minus)) > VISIBLE


def test_every_argument_moves_the_number():
    start = np.stack(conditional(TERNARY, 4, standardised(0.0), scales.token_mean))
    other = [
        conditional(TERNARY, 5, standardised(0.0), scales.token_mean),
        conditional(TERNARY, 4, standardised(0.01), scales.token_mean),
        conditional(TERNARY, 4, standardised(0.0), scales.sequence_mean),
        conditional(([0.0, 0.25, 2.0], *TERNARY[1:]), 4, standardised(0.0), scales.token_mean),
        conditional((TERNARY[0], [2, 4, 2], TERNARY[2]), 4, standardised(0.0), scales.token_mean),
        conditional((*TERNARY[:2], TERNARY[2][::-1]), 4, standardised(0.0), scales.token_mean),
    ]
    assert min(np.abs(np.stack(x) - start).max() for x in other) > MOVES
    wide = groups.conditional_advantages(outcomes(raw(), scales.constant, *arrays(TERNARY), 4, HORIZON + 1))
    assert np.abs(np.stack(wide) - np.stack(conditional(TERNARY, 4, raw(), scales.constant))).max() > MOVES


class softened(Advantage):
    """An advantage of the rewards themselves, without mean and variance."""

    def __call__(self, reward: torch.Tensor) -> torch.Tensor:
        return torch.tanh(reward - reward.amax(-1, keepdim=True) + 0.5)


def test_advantages_that_are_only_callable_are_evaluated_on_vectors_of_rewards():
    advantage = softened()
    ADVANTAGES[advantage] = lambda rewards: [math.tanh(r - max(rewards) + 0.5) for r in rewards]
    for scale in SCALES:
        found, expected = conditional(TERNARY, 3, advantage, scale), direct(TERNARY, 3, advantage, scale)
        close(np.stack(found), np.array(expected, dtype=float))


def by_position(reward: torch.Tensor) -> torch.Tensor:
    return reward * torch.arange(1.0, reward.shape[-1] + 1)


REFUSED = [
    (dict(G=0), r"group_size = 0: a group has a whole number >= 1"),
    (dict(G=1.5), r"group_size = 1.5: a group has a whole number >= 1"),
    (dict(G=1, advantage=leave_one_out()), r"leave_one_out\(\) is undefined for a group of 1"),
    (dict(prob=[0.5, 0.25, 0.5]), r"minimum 0.25 and sum 1.25: give a distribution"),
    (dict(prob=[1.5, -0.5, 0.0]), r"minimum -0.5 and sum 1: give a distribution"),
    (dict(reward=[0.0, math.inf, 1.0]), r"reward\[1\] = inf is not finite"),
    (dict(advantage=by_position), r"depends on the order of the responses .* method='groups'"),
    (dict(advantage=by_position, G=math.inf), r"has no known limit for group_size = inf"),
]


@pytest.mark.parametrize("change, text", REFUSED)
def test_what_has_no_answer_is_refused(change, text):
    case = dict(advantage=standardised(), G=4, reward=TERNARY[0], prob=TERNARY[2]) | change
    with pytest.raises(ValueError, match=text):
        groups.conditional_advantages(
            outcomes(
                case["advantage"],
                scales.sequence_sum,
                np.array(case["reward"]),
                np.ones(3),
                np.array([float(p) for p in case["prob"]]),
                case["G"],
                None,
            )
        )


def test_tables_over_too_many_pairs_are_refused():
    N = groups.MAX_CROSS + 1
    table = (np.arange(float(N)), np.ones(N), np.full(N, 1 / N), 4, None)
    with pytest.raises(ValueError, match=rf"{N:,} types .* more than MAX_CROSS = {groups.MAX_CROSS:,}"):
        groups.conditional_products(outcomes(raw(), scales.sequence_sum, *table))


@pytest.mark.parametrize("advantage", [centred(), leave_one_out()])
@pytest.mark.parametrize("G", [2, 3, 7])
def test_one_possible_reward_gives_no_advantage(advantage, G):
    """(0.1 + 2 0.1) / 3 is not 0.1 in float64."""
    reward, prob = np.array([0.1, 0.1]), np.array([0.25, 0.75])
    case = outcomes(advantage, scales.sequence_sum, reward, np.ones(2), prob, G, HORIZON)
    assert not groups.conditional_advantage_sum(case).any()


@dataclass(frozen=True)
class no_differences(raw):
    relative: ClassVar[bool] = True


@dataclass(frozen=True)
class not_linear(standardised):
    linear: ClassVar[bool] = True


@dataclass(frozen=True)
class other_units(centred):
    def in_units(self, unit: float) -> Advantage:
        return self


@pytest.mark.parametrize(
    "own, plain",
    [(no_differences(), raw()), (not_linear(), standardised()), (other_units(), centred())],
)
def test_what_a_subclass_says_of_a_formula_of_this_package_is_not_taken_for_granted(own, plain):
    reward, prob = np.array([1.0, 2.0, 2.0**70]), np.array([0.5, 0.25, 0.25])
    drawn = scales.sequence_sum, reward, np.ones(3), prob, 3, HORIZON
    found, expected = (groups.conditional_advantage_sum(outcomes(a, *drawn)) for a in (own, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
