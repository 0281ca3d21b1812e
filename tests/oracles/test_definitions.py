"""The oracle itself: hand-worked cases, properties on small worlds, and what must not hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.definitions import (
    World,
    expected_gradient,
    expected_gradient_by_type,
    expected_return,
    mse,
    norm,
    ordered_groups,
    path_world,
    policy_gradient,
    probabilities,
    probability,
    second_moment,
    squared_distance,
    tree_world,
)
from tests.oracles.oracle_tolerances import EXACT, assert_tables_equal
from tests.oracles.weights import WEIGHTS, token_weights

NAMES = sorted(WEIGHTS)


def worlds() -> list[tuple[World, list[list[float]], list[list[float]]]]:
    """(world, theta, theta_old): with an end token; with a reward that repeats; with one shared row."""
    eos_tree = tree_world(2, 3, {(0, 0, 0): 1.0, (0, 0, 1): 0.25, (0, 1): 0.0, (1,): 1.0}.__getitem__, eos=1)
    full_tree = tree_world(2, 2, lambda s: (1.0, 0.5, 0.0, 0.5)[2 * s[0] + s[1]])
    shared = path_world(3, 2, lambda prefix: 0, lambda s: sum(s) / 4, eos=2)
    return [
        (eos_tree, [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]], [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]),
        (full_tree, [[0.7, -0.2], [0.1, 0.5], [-0.9, 0.4]], [[0.1, 0.2], [0.3, -0.1], [-0.2, 0.6]]),
        (shared, [[0.8, -0.3, 0.1]], [[0.1, 0.4, -0.2]]),
    ]


def test_a_tree_numbers_its_rows_by_length_and_leaves_out_prefixes_that_have_ended():
    world = tree_world(3, 3, lambda s: float(sum(s)), eos=1)
    # Extendable prefixes: () | (0) (2) | (0,0) (0,2) (2,0) (2,2): rows 0 | 1 2 | 3 4 5 6.
    assert world.num_rows == 7
    rows = {tokens: used for tokens, used, _ in world.responses}
    assert rows[(1,)] == (0,)
    assert rows[(0, 1)] == (0, 1)
    assert rows[(2, 0, 1)] == (0, 2, 5)
    assert rows[(2, 2, 2)] == (0, 2, 6)
    tokens = [tokens for tokens, _, _ in world.responses]
    assert tokens[:5] == [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1), (0, 2, 0)]
    assert tokens == sorted(tokens) and len(tokens) == 1 + 2 + 4 * 3
    assert [reward for tokens, _, reward in world.responses if tokens == (2, 0, 1)] == [3.0]


def test_a_world_without_an_end_token_has_every_sequence_of_full_length():
    world = tree_world(3, 2, lambda s: 0.0)
    assert [tokens for tokens, _, _ in world.responses] == [(a, b) for a in range(3) for b in range(3)]
    assert [rows for _, rows, _ in world.responses] == [(0, 1 + a) for a in range(3) for _ in range(3)]


def test_standardised_group_by_hand():
    # Rewards 3, 1, 2, 2: mean 2, sigma^2 = (1 + 1) / 4, so A = (sqrt 2, -sqrt 2, 0, 0) at delta = 0.
    group = [
        ([-1.0, -1.0], [-1.0, -1.0], 3.0),
        ([-1.0], [-1.0], 1.0),
        ([-1.0], [-1.0], 2.0),
        ([-1.0], [-1.0], 2.0),
    ]
    c = token_weights("grpo", group, 2, delta=0.0)
    assert c[0] == pytest.approx([math.sqrt(2) / 8] * 2, **EXACT)
    assert c[1] == pytest.approx([-math.sqrt(2) / 4], **EXACT)
    assert c[2:] == [[0.0], [0.0]]
    # Token mean: five tokens in the group.
    assert token_weights("dapo", group, 2, delta=0.0)[1] == pytest.approx([-math.sqrt(2) / 5], **EXACT)


@pytest.mark.parametrize("G", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_three_enumerations_agree(name, G):
    if G == 1 and name in ("rloo", "trajectory_is", "prefix_is"):
        with pytest.raises(ValueError, match="leave-one-out needs G >= 2, got G = 1; use reinforce"):
            token_weights(name, [([-1.0], [-1.0], 1.0)], 1)
        return
    for world, theta, theta_old in worlds():
        ordered = expected_gradient(world, theta, theta_old, name, G, ordered_groups)
        assert G == 1 or norm(ordered) > 1e-3
        assert_tables_equal(expected_gradient(world, theta, theta_old, name, G), ordered)
        assert_tables_equal(expected_gradient_by_type(world, theta, theta_old, name, G), ordered)
        for moment in (second_moment, mse):
            expected = moment(world, theta, theta_old, name, G, ordered_groups)
            assert moment(world, theta, theta_old, name, G) == pytest.approx(expected, **EXACT)


def only_the_first(group, horizon):
    return [[float(i == 0)] * len(logp) for i, (logp, _, _) in enumerate(group)]


def by_the_neighbours_ratio(group, horizon):
    mean = sum(sum(logp) - sum(logp_old) for logp, logp_old, _ in group) / len(group)
    return [[mean * reward] * len(logp) for logp, _, reward in group]


def test_the_agreement_rejects_weights_that_read_the_order_or_the_tokens_of_others():
    world, theta, theta_old = worlds()[0]
    ordered = expected_gradient(world, theta, theta_old, only_the_first, 2, ordered_groups)
    unordered = expected_gradient(world, theta, theta_old, only_the_first, 2)
    assert squared_distance(ordered, unordered) > 1e-4
    # In the second world two responses share reward and length, and so stand for each other.
    world, theta, theta_old = worlds()[1]
    ordered = expected_gradient(world, theta, theta_old, by_the_neighbours_ratio, 2, ordered_groups)
    by_type = expected_gradient_by_type(world, theta, theta_old, by_the_neighbours_ratio, 2)
    assert squared_distance(ordered, by_type) > 1e-4


def test_only_the_trajectory_ratio_gives_the_current_gradient_on_256_responses():
    world = tree_world(4, 4, lambda s: float(sum(s) % 3 == 0))
    theta = [[((3 * s + 5 * a) % 7) / 8 - 0.3 for a in range(4)] for s in range(world.num_rows)]
    theta_old = [[((2 * s + 3 * a) % 5) / 8 for a in range(4)] for s in range(world.num_rows)]
    gradient = policy_gradient(world, theta)
    assert_tables_equal(expected_gradient_by_type(world, theta, theta_old, "trajectory_is", 4), gradient)
    prefix = expected_gradient_by_type(world, theta, theta_old, "prefix_is", 4)
    assert math.sqrt(squared_distance(prefix, gradient)) > 1e-2


eighths = st.integers(-16, 16).map(lambda n: n / 8)


@given(
    st.lists(st.tuples(eighths, eighths), min_size=3, max_size=3), st.lists(eighths, min_size=4, max_size=4)
)
def test_probabilities_add_to_one_and_the_gradient_is_the_derivative_of_the_return(rows, rewards):
    world = tree_world(2, 3, lambda s: rewards[len(s) - (s[-1] == 1)], eos=1)
    theta = [list(row) for row in rows]
    P = probabilities(world, theta)
    assert math.fsum(P) == pytest.approx(1.0, **EXACT)
    assert [probability(world, theta, i) for i in range(len(P))] == P
    gradient = policy_gradient(world, theta)
    for s in range(3):
        for a in range(2):
            sides = []
            for h in (1e-4, -1e-4):
                moved = [list(row) for row in theta]
                moved[s][a] += h
                sides.append(expected_return(world, moved))
            assert (sides[0] - sides[1]) / 2e-4 == pytest.approx(gradient[s][a], abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_equal_rewards_switch_every_relative_advantage_off(name):
    # 0.1 three times: the mean is 0.10000000000000002, so that sigma = 1.4e-17 and not 0.
    group = [([-0.5, -0.2], [-0.6, -0.1], 0.1), ([-0.5], [-0.4], 0.1), ([-0.3], [-0.3], 0.1)]
    c = token_weights(
        name, group, 2, **({"delta": 0.0} if "delta" in WEIGHTS[name].__code__.co_varnames else {})
    )
    if name == "reinforce":
        assert c == [[0.1 / 3, 0.1 / 3], [0.1 / 3], [0.1 / 3]]
    else:
        assert all(x == 0.0 for row in c for x in row)


@pytest.mark.parametrize("name", ["grpo", "dapo", "tic_grpo", "tic_grpo_released", "gspo", "cispo", "gmpo"])
def test_a_log_ratio_of_a_thousand_is_clipped_before_it_is_a_number(name):
    group = [([-1.0], [-1001.0], 1.0), ([-1001.0], [-1.0], 0.0), ([-1.0], [-1.0], 0.0)]
    c = token_weights(name, group, 1)
    assert all(math.isfinite(x) for row in c for x in row)
    assert (c[0][0] > 0.1) == (name == "cispo")


def test_a_token_masked_in_both_policies_never_appears():
    # Two tokens of three: the masked world is the one without the third token. Token 0 rises and has the
    # smaller reward, so that no clip is at work.
    wide = tree_world(3, 1, lambda s: float(s[0] == 1))
    narrow = tree_world(2, 1, lambda s: float(s[0] == 1))
    theta, theta_old = [[0.5, -0.25]], [[0.0, 0.125]]
    got = expected_gradient(wide, [[*theta[0], -math.inf]], [[*theta_old[0], -math.inf]], "grpo", 3)
    expected = expected_gradient(narrow, theta, theta_old, "grpo", 3)
    assert norm(expected) > 1e-3
    assert_tables_equal(got, [[*expected[0], 0.0]])
