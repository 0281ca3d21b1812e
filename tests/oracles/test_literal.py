"""The token weights of the oracle are the derivatives of the objectives that the papers print."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import literal
from tests.oracles.weights import (
    WEIGHTS,
    leave_one_out,
    log_ratio_sum,
    ppo_token_weight,
    ratio,
    standardised,
    token_weights,
)

DIFFERENCED = {"rel": 1e-9, "abs": 1e-9}  # the five-point difference leaves about 1e-12 of values of order 1
HORIZON = 5

# Token log-ratios and reward of each response: ratios inside, above and below every clip, for both signs of A
# (the mean reward is 0.44), with lengths 1 to 4. Nothing lies within 2e-3 of the end of a clip, where the
# objective has no derivative.
RESPONSES = [
    ([0.1, 0.6, -0.6], 0.75),  # tokens inside, above and below; w' = 1.1 inside 1.28, above exp(0.01 sqrt 3)
    ([0.5], 1.0),  # w' and the geometric mean above
    ([-0.9, -0.5], 0.875),  # both below
    ([-0.05, 0.05, 0.006], 1.25),  # everything inside
    ([0.1, 0.6, -0.6, 0.05], 0.0),  # tokens inside, above and below; w' inside
    ([0.7, 0.3], 0.125),  # w' = 2.7 between 1.28 and the dual clip
    ([0.7, 0.8], 0.25),  # w' = 4.5 beyond the dual clip
    ([-0.5], 0.375),  # below
    ([-0.9, -0.6], -0.25),  # w' below, far enough for a cap of 1.2
    ([0.21, -0.2], 0.0),  # between 1.2 and 1.28, and above 0.8
]


def group_of(responses):
    """(logp, logp_old, reward) with these log-ratios."""
    group = []
    for i, (log_ratios, reward) in enumerate(responses):
        old = [-0.5 - 0.25 * ((3 * i + t) % 5) for t in range(len(log_ratios))]
        group.append(([x + y for x, y in zip(log_ratios, old, strict=True)], old, reward))
    return group


def derivative(name, group, **params):
    """The central difference of the printed objective called `name`, as a table of token weights."""
    logp, old, rewards = ([member[field] for member in group] for field in range(3))
    delta = {"delta": params.pop("delta")} if "delta" in params else {}
    if name in ("rloo", "trajectory_is", "prefix_is"):
        A = literal.group_leave_one_out(rewards)
    elif name == "reinforce":
        A = rewards
    elif name == "dr_grpo":
        A = literal.group_centred(rewards)
        params["horizon"] = HORIZON
    else:
        A = literal.group_standardised(rewards, **delta)
    if name in ("cispo", "prefix_is"):
        params["frozen"] = logp
    objective = {
        "rloo": literal.sequence_score,
        "reinforce": literal.sequence_score,
        # `stale` maximises the objective of `no_is`, with its gradient taken at theta_old.
        "stale": literal.no_is,
    }.get(name) or getattr(literal, name)
    return literal.central_difference(lambda table: objective(table, old, A, **params), logp)


def largest_gap(table, other):
    pairs = [pair for row, o in zip(table, other, strict=True) for pair in zip(row, o, strict=True)]
    return max(abs(x - y) for x, y in pairs)


def assert_equal(got, expected):
    for row, other in zip(got, expected, strict=True):
        assert row == pytest.approx(other, **DIFFERENCED)


def test_the_group_has_ratios_on_every_side_of_every_clip_for_both_signs():
    group = group_of(RESPONSES)
    A = standardised(group, 0.0)
    tokens, products, means = set(), set(), set()
    for (log_ratios, _), a in zip(RESPONSES, A, strict=True):
        sign = 1 if a > 0 else -1

        def side(x, low, high, sign=sign):
            return sign, "below" if x < low else "above" if x > high else "inside"

        tokens |= {side(x, -0.4, 0.4) for x in log_ratios}
        products.add(side(sum(log_ratios), math.log(0.8), math.log(1.28)))
        means.add(side(sum(log_ratios) / len(log_ratios), math.log(0.8), math.log(1.28)))
    every = {(sign, where) for sign in (1, -1) for where in ("below", "inside", "above")}
    assert (tokens, products, means) == (every, every, every)
    assert {len(log_ratios) for log_ratios, _ in RESPONSES} == {1, 2, 3, 4}


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_token_weights_are_the_derivative_of_the_printed_objective(name):
    group = group_of(RESPONSES)
    assert_equal(token_weights(name, group, HORIZON), derivative(name, group))


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_no_other_estimators_weights_are_the_derivative(name):
    group = group_of(RESPONSES)
    printed = derivative(name, group)
    for other in sorted(WEIGHTS):
        same = other == name or {other, name} == {"no_is", "stale"}
        gap = largest_gap(token_weights(other, group, HORIZON), printed)
        assert gap < 1e-9 if same else gap > 1e-3, other


KNOBS = [
    *[(name, {"delta": 0.3}) for name in sorted(WEIGHTS) if "delta" in WEIGHTS[name].__code__.co_varnames],
    *[
        (name, {"eps_high": 0.9})
        for name in ("grpo", "dapo", "tic_grpo", "tic_grpo_eq11", "seq_clip", "gspo", "cispo")
    ],
    *[(name, {"eps_low": 0.5}) for name in ("grpo", "dapo", "seq_clip", "gspo")],
    ("gspo", {"eps_low": 3e-4, "eps_high": 4e-4}),
    ("gmpo", {"eps": 0.55}),
    ("tic_grpo_released", {"growth": 0.08}),
    ("tic_grpo_released", {"dual": 5.0}),
    ("tic_grpo_released", {"cap": 1.2}),
    ("tic_grpo_released", {"cap": 1.2, "dual": 5.0}),
    ("seq_clip", {"dual": 5.0}),
    ("seq_clip", {"cap": 1.2}),
]


@pytest.mark.parametrize("name, params", KNOBS)
def test_every_knob_moves_the_weights_as_it_moves_the_objective(name, params):
    group = group_of(RESPONSES)
    weights = token_weights(name, group, HORIZON, **params)
    assert_equal(weights, derivative(name, group, **params))
    assert largest_gap(weights, token_weights(name, group, HORIZON)) > 1e-3


def at_trajectory_level(weight):
    """Token weights from `weight(w', A, G, length)`, the same number at every token."""

    def weights(group, advantages):
        rows = []
        for (logp, old, _), A in zip(group, advantages, strict=True):
            rows.append([weight(ratio(log_ratio_sum(logp, old)), A, len(group), len(logp))] * len(logp))
        return rows

    return weights


def std_with_one_less(group):
    return [a * math.sqrt((len(group) - 1) / len(group)) for a in standardised(group, 0.0)]


WRONG = {
    "a lower end for the upper-only clip": ("tic_grpo", lambda w, A, G, n: (0.8 <= w <= 1.28) * w * A / G),
    "the two-sided rule, which lifts the upper end for A < 0": (
        "tic_grpo", lambda w, A, G, n: ppo_token_weight(w, A, math.inf, 0.28) / G),
    "an upper end that saturates instead of switching off": (
        "tic_grpo", lambda w, A, G, n: min(w, 1.28) * A / G),
    "a sum to the horizon": ("tic_grpo", lambda w, A, G, n: (w <= 1.28) * w * A * HORIZON / n / G),
    "a flipped sign": ("tic_grpo", lambda w, A, G, n: -(w <= 1.28) * w * A / G),
    "the clip on the other side": ("tic_grpo", lambda w, A, G, n: (w >= 1.28) * w * A / G),
    "a geometric mean without 1/length": (
        "gspo", lambda w, A, G, n: ppo_token_weight(w ** (1 / n), A, 0.2, 0.28) / G),
    "a clip before the root": ("gspo", lambda w, A, G, n: ppo_token_weight(w, A, 0.2, 0.28) / (G * n)),
    "an upper end for A < 0 in the released loss": (
        "tic_grpo_released", lambda w, A, G, n: (math.log(w) <= 0.01 * math.sqrt(n)) * w * A / G),
    "no dual clip": ("tic_grpo_released", lambda w, A, G, n: ppo_token_weight(
        w, A, math.inf, math.expm1(0.01 * math.sqrt(n))) / G),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistaken_weight_is_not_the_derivative(mistake):
    name, weight = WRONG[mistake]
    group = group_of(RESPONSES)
    wrong = at_trajectory_level(weight)(group, standardised(group, 1e-6))
    assert largest_gap(wrong, derivative(name, group)) > 1e-3


def test_other_conventions_of_the_advantage_are_not_the_derivative():
    group = group_of(RESPONSES)
    upper_only = at_trajectory_level(lambda w, A, G, n: (w <= 1.28) * w * A / G)
    printed = derivative("tic_grpo", group, delta=0.0)
    assert largest_gap(upper_only(group, standardised(group, 0.0)), printed) < 1e-9
    assert largest_gap(upper_only(group, std_with_one_less(group)), printed) > 1e-3
    assert largest_gap(upper_only(group, leave_one_out(group)), printed) > 1e-3


# Multiples of 1/8 stay 2e-3 away from the ends of all clips, also after division by a length up to 3.
log_ratios = st.lists(st.integers(-8, 8).map(lambda n: n / 8), min_size=1, max_size=3)
rewards = st.integers(-8, 8).map(lambda n: n / 8)


@given(st.sampled_from(sorted(WEIGHTS)), st.lists(st.tuples(log_ratios, rewards), min_size=2, max_size=4))
def test_token_weights_are_the_derivative_for_any_group(name, responses):
    group = group_of(responses)
    assert_equal(token_weights(name, group, HORIZON), derivative(name, group))


def test_the_difference_quotient_is_right_to_ten_digits():
    # d/dx sum exp(2 x) = 2 exp(2 x)
    table = [[0.3, -1.0], [0.5]]
    got = literal.central_difference(lambda logp: sum(math.exp(2 * x) for row in logp for x in row), table)
    assert got[0] == pytest.approx([2 * math.exp(0.6), 2 * math.exp(-2.0)], rel=1e-10)
    assert got[1] == pytest.approx([2 * math.exp(1.0)], rel=1e-10)
