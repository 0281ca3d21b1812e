"""The oracle against printed reference values: variable length, roots, two prompts, Eq. 9.

Rows of a table of V = 2 logits are given by their entry for token 0; the other entry is its negative.
delta = 0 unless given.
"""

import math

import pytest

from tests.oracles import literal
from tests.oracles.definitions import (
    GroupGradient,
    expected_gradient,
    expected_return,
    norm,
    path_world,
    policy_gradient,
    second_moment,
    squared_distance,
    token_logps,
    tree_world,
)
from tests.oracles.oracle_tolerances import printed
from tests.oracles.weights import leave_one_out, log_ratio_sum, ratio, standardised

OLD, THETA = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]], [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]


def eos_world(rewards):
    """V = 2, T = 3, token 1 ends: responses (0,0,0), (0,0,1), (0,1), (1)."""
    order = [(0, 0, 0), (0, 0, 1), (0, 1), (1,)]
    world = tree_world(2, 3, lambda s: rewards[order.index(s)], eos=1)
    assert [tokens for tokens, _, _ in world.responses] == order
    return world


BINARY, TERNARY = (1.0, 0.0, 0.0, 1.0), (1.0, 0.3, 0.0, 1.0)


def standardised_prefix_ratio(group, horizon):
    rows = []
    for (logp, old, _), A in zip(group, standardised(group, 0.0), strict=True):
        sums = [log_ratio_sum(logp[:t], old[:t]) for t in range(1, len(logp) + 1)]
        rows.append([ratio(log_w) * A / len(group) for log_w in sums])
    return rows


def leave_one_out_token_ratio(group, horizon):
    rows = []
    for (logp, old, _), A in zip(group, leave_one_out(group), strict=True):
        rows.append([ratio(x - y) * A / len(group) for x, y in zip(logp, old, strict=True)])
    return rows


@pytest.mark.parametrize(
    "rewards, J_old, J, gradient_old, gradient",
    [
        (BINARY, 0.5424853053, 0.3233051781, 0.3035890491, 0.2379847023),
        (TERNARY, 0.6064022202, 0.3422955708, 0.2711874735, 0.2437909872),
    ],
)
def test_return_and_gradient_norms(rewards, J_old, J, gradient_old, gradient):
    world = eos_world(rewards)
    assert expected_return(world, OLD) == printed(J_old, 10)
    assert expected_return(world, THETA) == printed(J, 10)
    assert norm(policy_gradient(world, OLD)) == printed(gradient_old, 10)
    assert norm(policy_gradient(world, THETA)) == printed(gradient, 10)


ROWS = [
    # estimator, parameters, binary E[g_hat], E||g_hat||^2, ternary E[g_hat], E||g_hat||^2; G = 4
    ("grpo", {"delta": 0, "eps_high": 0.28}, (-0.1543384912, 0.0566082035, 0), 0.0700406632,
     (-0.1558067884, 0.0694486196, -0.0019463114), 0.0735577473),
    ("grpo", {"delta": 0.1, "eps_high": 0.28}, (-0.1268713566, 0.0465338200, 0), 0.0474064085,
     (-0.1241394469, 0.0550413279, -0.0011311585), 0.0468962980),
    ("dapo", {"delta": 0}, (-0.1193934908, 0.0669363117, 0), 0.0520553240,
     (-0.1196203576, 0.0791606381, -0.0023656207), 0.0551950749),
    ("dapo", {"delta": 0.1}, (-0.0981149136, 0.0550069237, 0), 0.0351733454,
     (-0.0953210521, 0.0630456065, -0.0013743679), 0.0353164380),
    ("tic_grpo_eq11", {"delta": 0}, (-0.1073685655, 0.0121769703, 0.0235395262), 0.0388682682,
     (-0.1047479314, 0.0159707540, 0.0195159006), 0.0374152750),
    ("tic_grpo", {"delta": 0}, (-0.1014469120, 0.0365309110, 0.0706185786), 0.0886066875,
     (-0.0969813632, 0.0479122619, 0.0585477017), 0.0857961519),
    ("tic_grpo", {"delta": 0, "eps_high": math.inf}, (-0.1995959418, 0.1708965843, 0.0706185786),
     0.2685325154,
     (-0.2181456726, 0.2137857714, 0.0585477017), 0.3157086298),
    ("no_is", {"delta": 0}, (-0.2830354055, 0.0016707216, 0.0519187717), 0.2320071948,
     (-0.2803080321, 0.0217353520, 0.0387965964), 0.2288748427),
    ("stale", {"delta": 0}, (-0.2406986400, 0.0473468012, 0.0406884602), 0.1747331565,
     (-0.2407940957, 0.0696080097, 0.0337335568), 0.1792776035),
    (standardised_prefix_ratio, {}, (-0.1920634164, 0.0877657487, 0.0706185786), 0.2099280050,
     (-0.1891071993, 0.1448645404, 0.0585477017), 0.2455130335),
]  # fmt: skip


@pytest.mark.parametrize("estimator, params, binary, binary_square, ternary, ternary_square", ROWS)
def test_expected_gradient_and_second_moment(
    estimator, params, binary, binary_square, ternary, ternary_square
):
    for rewards, entries, square in ((BINARY, binary, binary_square), (TERNARY, ternary, ternary_square)):
        world = eos_world(rewards)
        got = expected_gradient(world, THETA, OLD, estimator, 4, **params)
        for row, entry in zip(got, entries, strict=True):
            assert row == [printed(entry, 10), printed(-entry, 10)]
        assert second_moment(world, THETA, OLD, estimator, 4, **params) == printed(square, 10)


@pytest.mark.parametrize(
    "estimator, binary, ternary",
    [
        ("trajectory_is", 0.0, 0.0),
        ("prefix_is", 0.0730095125, 0.0567763984),
        (leave_one_out_token_ratio, 0.1030520241, 0.0936700630),
        ("rloo", 0.2099892544, 0.1585233522),
    ],
)
def test_distance_of_leave_one_out_estimators_from_the_current_gradient(estimator, binary, ternary):
    for rewards, distance in ((BINARY, binary), (TERNARY, ternary)):
        world = eos_world(rewards)
        got = expected_gradient(world, THETA, OLD, estimator, 3)
        assert math.sqrt(squared_distance(got, policy_gradient(world, THETA))) == printed(distance, 10)


def one_row(p):
    """Two logits of one row that give token 0 the probability p."""
    return [[math.log(p / (1 - p)) / 2, -math.log(p / (1 - p)) / 2]]


def root(f, low, high):
    """Where f changes sign, by halving."""
    assert (f(low) > 0) != (f(high) > 0)
    for _ in range(44):
        middle = (low + high) / 2
        low, high = (middle, high) if (f(middle) > 0) == (f(low) > 0) else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize(
    "name, G, delta, p, square, digits",
    [
        ("grpo", 2, 0.0, 0.66135555568, 0.010447581223, (11, 12)),
        ("grpo", 4, 0.1, 0.66135555568, 0.010447581223, (11, 12)),
        ("tic_grpo", 4, 0.1, 0.5, 0.0, (11, 12)),
        ("dapo", 2, 0.0, 0.5635083269, 1.952108e-3, (10, 9)),
        ("dapo", 4, 0.0, 0.5346245985, 5.936961e-4, (10, 10)),
        ("dapo", 8, 0.0, 0.5177865090, 1.577799e-4, (10, 10)),
        ("dapo", 4, 0.1, 0.5346136562, 5.933245e-4, (10, 10)),
    ],
)
def test_where_the_expected_gradient_vanishes_when_the_reward_goes_with_the_length(
    name, G, delta, p, square, digits
):
    world = path_world(2, 3, lambda prefix: 0, lambda s: float(len(s) == 2), eos=1)
    found = root(
        lambda q: expected_gradient(world, one_row(q), one_row(q), name, G, delta=delta)[0][0], 0.45, 0.72
    )
    assert found == printed(p, digits[0])
    assert norm(policy_gradient(world, one_row(found))) ** 2 == printed(square, digits[1])


def test_token_mean_gradient_away_from_its_root():
    world = path_world(2, 3, lambda prefix: 0, lambda s: float(len(s) == 2), eos=1)
    got = expected_gradient(world, one_row(0.6), one_row(0.6), "dapo", 4, delta=0)
    assert got[0][0] == printed(-0.0272916788, 10)
    assert expected_return(world, one_row(0.66135555568)) == printed(0.22396438465, 11)


def mean_over_prompts(tables):
    return [
        [sum(entries) / len(tables) for entries in zip(*rows, strict=True)]
        for rows in zip(*tables, strict=True)
    ]


def two_prompt_gradient(prompts, p, G, delta):
    """Each prompt has its own group; the two share one row and are equally likely."""
    tables = [expected_gradient(w, one_row(p), one_row(p), "grpo", G, delta=delta) for w in prompts]
    return mean_over_prompts(tables)[0][0]


def test_dividing_by_sigma_can_hide_the_gradient_of_two_prompts():
    prompts = [
        path_world(2, 1, lambda prefix: 0, lambda s: float(s == (0,))),
        path_world(2, 1, lambda prefix: 0, lambda s: float(s == (1,)) / 2),
    ]
    for p, square in ((0.5, 0.0078125), (0.3, 0.0055125)):
        gradient = mean_over_prompts([policy_gradient(w, one_row(p)) for w in prompts])
        assert norm(gradient) ** 2 == printed(square, 10)
        for G in (2, 3, 5):
            assert abs(two_prompt_gradient(prompts, p, G, 0.0)) < 1e-15
            assert two_prompt_gradient(prompts, p, G, 0.1) > 1e-3


@pytest.mark.parametrize(
    "G, delta, p, square",
    [(2, 0.0, 0.75, 0.0), (4, 0.0, 0.75341010, 3.210978e-6), (4, 0.1, 0.75280175, 2.174704e-6)],
)
def test_root_of_two_prompts_that_share_a_row(G, delta, p, square):
    prompts = [
        path_world(2, 2, lambda prefix: 0, lambda s: float(s[0] != s[1])),
        path_world(2, 2, lambda prefix: 0, lambda s: float(s[0] == 0)),
    ]
    found = root(lambda q: two_prompt_gradient(prompts, q, G, delta), 0.7, 0.85)
    assert found == printed(p, 8)
    gradient = mean_over_prompts([policy_gradient(w, one_row(found)) for w in prompts])
    assert norm(gradient) ** 2 == printed(square, 12)


def test_the_objective_of_equation_9_has_not_the_gradient_of_equation_11():
    members = (0, 2, 3, 1)
    world = eos_world(BINARY)
    old = [token_logps(world, OLD)[i] for i in members]
    A = literal.group_standardised([world.responses[i][2] for i in members], delta=0.0)
    field = GroupGradient(world, THETA, OLD, "tic_grpo_eq11", {"delta": 0.0})(members)

    def largest_gap(objective):
        every = literal.central_difference(
            lambda theta: objective([token_logps(world, theta)[i] for i in members]), THETA
        )
        return max(
            abs(x - y)
            for row, other in zip(every, field, strict=True)
            for x, y in zip(row, other, strict=True)
        )

    def padded(logp):
        # The sum of Eq. 9 taken to T = 3 for every length.
        stretched = [a * 3 / len(row) for a, row in zip(A, logp, strict=True)]
        return literal.tic_grpo(logp, old, stretched)

    assert largest_gap(lambda logp: literal.tic_grpo(logp, old, A)) == printed(0.113505887, 9)
    assert largest_gap(padded) == printed(0.147637629, 9)
    assert largest_gap(lambda logp: literal.tic_grpo_eq11(logp, old, A)) < 1e-10
