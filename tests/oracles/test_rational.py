"""Hand-worked fractions, and the float oracle against the rational one."""

from fractions import Fraction as F

import pytest

from tests.oracles.definitions import (
    expected_gradient,
    mse,
    multiset_groups,
    ordered_groups,
    path_world,
    policy_gradient,
    second_moment,
    tree_world,
)
from tests.oracles.oracle_tolerances import EXACT, assert_tables_equal
from tests.oracles.rational import (
    RATIONAL_WEIGHTS,
    logits_of,
    rational_expected_gradient,
    rational_expected_return,
    rational_policy_gradient,
    rational_probability,
)


def test_return_and_gradient_of_two_tokens_by_hand():
    # Root 2:1, after token 0 3:1, after token 1 1:1; r = 1 for (0,0) only. J = 2/3 * 3/4 = 1/2.
    # Root: p (1 - p) (Q(0) - Q(1)) = 2/9 * (3/4 - 0) = 1/6.  After 0: d p (1 - p) = 2/3 * 3/16 = 1/8.
    world = tree_world(2, 2, lambda s: int(s == (0, 0)))
    integers = [[2, 1], [3, 1], [1, 1]]
    assert rational_probability(world, integers, 0) == F(1, 2)
    assert rational_expected_return(world, integers) == F(1, 2)
    by_hand = [[F(1, 6), -F(1, 6)], [F(1, 8), -F(1, 8)], [0, 0]]
    assert rational_policy_gradient(world, integers) == by_hand
    assert_tables_equal(policy_gradient(world, logits_of(integers)), by_hand)


def test_prefix_ratios_by_hand_keep_the_old_continuation():
    # The same world and theta; theta_old uniform. At the root the value of token 0 is the old one, 1/2 and
    # not 3/4: 2/9 * 1/2 = 1/9. At the second token nothing follows, so the entry is that of grad J, 1/8.
    world = tree_world(2, 2, lambda s: int(s == (0, 0)))
    integers, uniform = [[2, 1], [3, 1], [1, 1]], [[1, 1], [1, 1], [1, 1]]
    got = rational_expected_gradient(world, integers, uniform, "prefix_is", 2)
    assert got == [[F(1, 9), -F(1, 9)], [F(1, 8), -F(1, 8)], [0, 0]]


@pytest.mark.parametrize("rewards, by_hand", [((1, 0), F(0)), ((0, 1), -F(1, 9))])
def test_centred_clipped_gradient_of_one_token_by_hand(rewards, by_hand):
    # Old 1:1, new 2:1, so w = 4/3, 2/3; G = 2; the group is mixed with probability 1/2 and then A = +-1/2.
    # r = (1, 0): w = 4/3 > 1.2 at A > 0 and w = 2/3 < 0.8 at A < 0: both off.
    # r = (0, 1): both on; c = 4/3 * -1/2 / 2 = -1/3 and 2/3 * 1/2 / 2 = 1/6; entry of token 0:
    # -1/3 * (1 - 2/3) + 1/6 * (0 - 2/3) = -2/9, times 1/2.
    world = tree_world(2, 1, lambda s: rewards[s[0]])
    got = rational_expected_gradient(world, [[2, 1]], [[1, 1]], "dr_grpo", 2)
    assert got == [[by_hand, -by_hand]]
    theta, theta_old = logits_of([[2, 1]]), logits_of([[1, 1]])
    assert_tables_equal(expected_gradient(world, theta, theta_old, "dr_grpo", 2), got)


def test_raw_and_leave_one_out_gradients_of_one_token_by_hand():
    # p = 2/3, r = (1, 0): both estimate grad J = p (1 - p) = 2/9 at theta = theta_old.
    world = tree_world(2, 1, lambda s: 1 - s[0])
    for name in ("rloo", "reinforce"):
        assert rational_expected_gradient(world, [[2, 1]], [[2, 1]], name, 2) == [[F(2, 9), -F(2, 9)]]
    # g_hat of `reinforce` is (1/2) sum_i r_i (e_0 - pi) = (n/2) (1/3, -1/3), n ~ Bin(2, 2/3): E n^2 = 4/9 +
    # 16/9 = 20/9, so E||g_hat||^2 = (20/9) (1/4) (2/9) = 10/81.
    theta = logits_of([[2, 1]])
    assert second_moment(world, theta, theta, "reinforce", 2) == pytest.approx(10 / 81, **EXACT)
    # E||g_hat - grad J||^2 = 10/81 - ||grad J||^2 = 10/81 - 8/81.
    assert mse(world, theta, theta, "reinforce", 2) == pytest.approx(2 / 81, **EXACT)


@pytest.mark.parametrize("G", [2, 3])
def test_trajectory_ratio_gives_the_current_gradient_in_exact_fractions(G):
    world = tree_world(3, 2, lambda s: F(sum(s), 1 + len(s)), eos=2)
    integers, integers_old = [[2, 1, 3], [1, 5, 2], [3, 1, 1]], [[1, 2, 2], [4, 1, 1], [1, 1, 3]]
    gradient = rational_policy_gradient(world, integers)
    assert rational_expected_gradient(world, integers, integers_old, "trajectory_is", G) == gradient
    # The same check rejects every other estimator that has a rational gradient.
    for name in sorted(set(RATIONAL_WEIGHTS) - {"trajectory_is"}):
        other = rational_expected_gradient(world, integers, integers_old, name, G)
        assert max(
            abs(x - y) for a, b in zip(other, gradient, strict=True) for x, y in zip(a, b, strict=True)
        ) > F(1, 100)


@pytest.mark.parametrize("groups", [ordered_groups, multiset_groups])
@pytest.mark.parametrize("name", sorted(RATIONAL_WEIGHTS))
def test_float_oracle_equals_the_rational_one(name, groups):
    for world, rows in (
        (tree_world(2, 3, len, eos=1), 3),
        (path_world(3, 2, lambda prefix: len(prefix), max), 2),
    ):
        integers = [[3, 1, 2], [1, 7, 2], [4, 2, 3]][:rows]
        integers_old = [[2, 5, 1], [3, 1, 4], [1, 6, 2]][:rows]
        integers, integers_old = ([row[: world.vocab_size] for row in n] for n in (integers, integers_old))
        exact = rational_expected_gradient(world, integers, integers_old, name, 2, groups)
        theta, theta_old = logits_of(integers), logits_of(integers_old)
        assert_tables_equal(expected_gradient(world, theta, theta_old, name, 2, groups), exact)
