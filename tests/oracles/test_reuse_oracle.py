"""K steps on one group: identities, and printed reference values."""

import math

import pytest

from tests.oracles.definitions import (
    expected_gradient,
    expected_return,
    mse,
    norm,
    ordered_groups,
    policy_gradient,
    tree_world,
)
from tests.oracles.oracle_tolerances import EXACT, assert_tables_equal, printed
from tests.oracles.reuse import reuse
from tests.oracles.weights import log_ratio_sum, ratio


def uneven_world():
    """V = 2, T = 3, token 1 ends, four rewards; and theta."""
    rewards = {(0, 0, 0): 1.0, (0, 0, 1): 0.25, (0, 1): 0.0, (1,): 0.75}
    return tree_world(2, 3, rewards.__getitem__, eos=1), [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]


@pytest.mark.parametrize("name", ["grpo", "dapo", "tic_grpo", "stale", "no_is"])
def test_reuse_starts_at_the_one_step_values_and_ignores_the_order(name):
    world, theta = uneven_world()
    steps = reuse(world, theta, name, 2, 2, 0.5)
    gradient = policy_gradient(world, theta)
    bias = expected_gradient(world, theta, theta, name, 2)
    for row, other in zip(bias, gradient, strict=True):
        row[:] = [x - y for x, y in zip(row, other, strict=True)]
    assert_tables_equal(steps.bias[0], bias)
    assert steps.mse[0] == pytest.approx(mse(world, theta, theta, name, 2), **EXACT)
    assert steps.expected_return[0] == pytest.approx(expected_return(world, theta), **EXACT)
    ordered = reuse(world, theta, name, 2, 2, 0.5, groups=ordered_groups)
    assert len(ordered.bias) == 3
    for k in range(3):
        assert_tables_equal(steps.bias[k], ordered.bias[k])
        assert steps.mse[k] == pytest.approx(ordered.mse[k], **EXACT)
        assert steps.expected_return[k] == pytest.approx(ordered.expected_return[k], **EXACT)


def test_a_stale_gradient_makes_k_steps_one_long_step():
    world, theta = uneven_world()
    ends = {}
    for name in ("stale", "no_is", "grpo", "tic_grpo"):
        many, one = reuse(world, theta, name, 2, 4, 0.25), reuse(world, theta, name, 2, 1, 1.0)
        ends[name] = abs(many.expected_return[4] - one.expected_return[1])
    assert ends.pop("stale") < 1e-14
    assert min(ends.values()) > 1e-4


START = [[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1]]
MATCH = tree_world(2, 2, lambda s: float(s[0] == s[1]))
J = expected_return(MATCH, START)
SIGMA = math.sqrt(J * (1 - J))


def known_moments(group, horizon):
    """Trajectory ratio without clip, z = (r - J) / sigma with the moments of theta_old, 1/(G |s_i|)."""
    return [
        [ratio(log_ratio_sum(logp, old)) * (r - J) / SIGMA / (len(group) * len(logp))] * len(logp)
        for logp, old, r in group
    ]


def test_reuse_makes_the_trajectory_ratio_biased():
    assert (J, SIGMA) == (printed(0.5045766245, 10), printed(0.4999790541, 10))
    values = {2: 1.4471199177e-4, 4: 7.2346135080e-5, 8: 3.6170607142e-5, 16: 1.8084689071e-5}
    for G, value in values.items():
        steps = reuse(MATCH, START, known_moments, G, 1, 0.00625, target_scale=0.5 / SIGMA)
        assert norm(steps.bias[0]) < 1e-15
        assert norm(steps.bias[1]) == printed(value, 14)
    for G, first, third in ((2, 2.2880950033e-3, 6.5238204335e-3), (4, 1.1418533107e-3, 3.2669042727e-3)):
        steps = reuse(MATCH, START, known_moments, G, 3, 0.1, target_scale=0.5 / SIGMA)
        assert (norm(steps.bias[1]), norm(steps.bias[3])) == (printed(first, 13), printed(third, 13))


def test_the_reuse_bias_starts_as_eta_over_G_times_a_fixed_vector():
    etas = (1e-4, 5e-5)
    slopes = [reuse(MATCH, START, known_moments, 2, 1, eta, target_scale=0.5 / SIGMA).bias[1] for eta in etas]
    for i, entry in enumerate((-0.02840668, 0.00961453, 0.01320721)):
        # Extrapolated to eta = 0 from two step sizes, which leaves an error of order eta squared.
        first, second = (2 * table[i][0] / eta for table, eta in zip(slopes, etas, strict=True))
        assert 2 * second - first == printed(entry, 8)


def slope_of_group_normalisation(G):
    """c_G = E[sigma_G] / sigma^2 for rewards 0 and 1 at delta = 0."""
    mean = sum(math.comb(G, n) * J**n * (1 - J) ** (G - n) * math.sqrt(n * (G - n)) / G for n in range(G + 1))
    return mean / SIGMA**2


def test_reuse_bias_with_group_statistics():
    values = {2: 6.1151861876e-5, 4: 5.8884548373e-5, 8: 3.5250429699e-5, 16: 1.7982682575e-5}
    for G, value in values.items():
        scale = 0.5 * slope_of_group_normalisation(G)
        steps = reuse(
            MATCH, START, "tic_grpo_eq11", G, 1, 0.00625, target_scale=scale, eps_high=math.inf, delta=0
        )
        assert norm(steps.bias[1]) == printed(value, 14)


@pytest.mark.parametrize(
    "name, params, gains",
    [
        ("tic_grpo_eq11", {"eps_high": math.inf}, {2: 0.06642035, 4: 0.10475269}),
        ("grpo", {"eps_high": math.inf, "eps_low": math.inf}, {2: 0.06273524, 4: 0.10227165}),
        ("stale", {}, {2: 0.06314742, 4: 0.10255771}),
        ("tic_grpo_eq11", {"eps_high": 0.2}, {2: 0.04508811, 4: 0.08060215}),
        ("grpo", {}, {2: 0.04379087, 4: 0.08026832}),
    ],
)
def test_expected_gain_of_four_steps_on_one_group(name, params, gains):
    for G, gain in gains.items():
        after = reuse(MATCH, START, name, G, 4, 0.5, delta=0, **params).expected_return
        assert after[4] - after[0] == printed(gain, 8)
