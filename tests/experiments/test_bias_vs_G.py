"""experiments/bias_vs_G.py: what it claims, on its own rows, each claim beside a case where it must fail."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from experiments.bias_vs_G import CATALOGUE, MAY_BE_MISSING, Config, leading_order, rows, slope, three_values
from tests.oracles import definitions
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more
from ticgrpo_theory.exact import policy_gradient
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.exact.objective import expected_value_gradient
from ticgrpo_theory.stats.power_law import fit_power_law

pytestmark = more

CFG = Config(deltas=(0.0, 0.1), group_sizes=(2, 4, 16, 32, 64, 128))
SMALL = Config(worlds=("xor", "three-values"), deltas=(0.125,), group_sizes=(2, 3))

REWARD = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 0.3}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


def of(table: pd.DataFrame, world: str, delta: float) -> pd.DataFrame:
    chosen = table[(table.world == world) & (table.delta == delta)].set_index("group_size")
    assert len(chosen) == len(CFG.group_sizes)
    return chosen


def test_two_reward_values_are_unbiased_but_for_the_scale_at_every_group_size_and_delta(table):
    two = table[table.reward_values == 2]
    assert set(two.world) == {"xor", "right-answer"}
    assert two.bias_norm.max() <= EXACT["atol"] and two.direction_error.max() <= EXACT["atol"]
    assert two.floor.max() <= EXACT["atol"]


def test_the_same_check_rejects_three_reward_values(table):
    three = table[table.reward_values == 3]
    assert set(three.world) == {"few-values", "three-values"}
    assert three[three.group_size <= 16].bias_norm.min() > MOVES
    assert three[three.group_size == 2].bias_norm.max() > VISIBLE


# G, c_G, G ||b|| at p = 0.6; the fixed point and what it leaves of the gradient. delta = 0.
PRINTED_ROWS = [
    (16, 2.08061109, 0.04624226, 0.41809369, 5.481617e-5),
    (64, 2.13602592, 0.04612454, 0.41333056, 3.333294e-6),
    (128, 2.14485047, 0.04602219, 0.41254523, 8.272782e-7),
]


@pytest.mark.parametrize("G, c_G, bias, fixed_point, floor", PRINTED_ROWS)
def test_three_reward_values_on_one_row_to_the_printed_digits(table, G, c_G, bias, fixed_point, floor):
    row = of(table, "three-values", 0.0).loc[G]
    found, printed = (row.c_G, row.bias_times_G, row.fixed_point), (c_G, bias, fixed_point)
    np.testing.assert_allclose(found, printed, **PRINTED(8))
    np.testing.assert_allclose(row.floor / floor, 1.0, **PRINTED(6))
    np.testing.assert_allclose(row.leading_order, 0.04590953, **PRINTED(8))


@pytest.mark.parametrize(
    "G, delta, fixed_point, floor",
    [
        (4, 0.0, 0.41934820, 7.883298e-5),
        (32, 0.0, 0.41491325, 1.350713e-5),
        (64, 0.1, 0.41302115, 2.145194e-6),
    ],
)
def test_other_floors_to_the_printed_digits(table, G, delta, fixed_point, floor):
    row = of(table, "three-values", delta).loc[G]
    np.testing.assert_allclose(row.fixed_point, fixed_point, **PRINTED(8))
    np.testing.assert_allclose(row.floor / floor, 1.0, **PRINTED(6))


def test_a_large_delta_leaves_the_printed_floor():
    (row,) = rows(Config(worlds=("three-values",), deltas=(1.0,), group_sizes=(64,)))
    np.testing.assert_allclose(row["fixed_point"], 0.41221716, **PRINTED(8))
    np.testing.assert_allclose(row["floor"] / 2.778549e-7, 1.0, **PRINTED(6))


def test_the_printed_rows_reject_the_standard_deviation_with_another_constant(table):
    found = of(table, "three-values", 0.1).loc[64]
    assert abs(found.c_G - 2.13602592) > VISIBLE and abs(found.bias_times_G - 0.04612454) > VISIBLE


@pytest.mark.parametrize("delta", CFG.deltas)
def test_the_bias_falls_like_one_over_G_and_the_floor_like_its_square(table, delta):
    part = of(table, "three-values", delta)
    for column, power in (("bias_norm", -1.0), ("floor", -2.0)):
        fit = fit_power_law(1 / part.index.to_numpy(), part[column].to_numpy())
        assert fit is not None and -fit.slope == pytest.approx(power, abs=0.03) and fit.end >= 1 / 32
        assert slope(part.reset_index(), column).startswith(f"{-fit.slope:.2f} (")


@pytest.mark.parametrize("world, delta", [(w, d) for w in ("few-values", "three-values") for d in CFG.deltas])
def test_G_times_the_bias_tends_to_what_the_third_moment_says(table, world, delta):
    part = of(table, world, delta)
    gap = (part.bias_times_G - part.leading_order).abs()
    assert gap[128] < 0.03 * part.leading_order[128] and gap[128] < 0.6 * gap[64] + 1e-4


def test_the_third_moment_alone_without_its_linear_part_misses_that_limit(table):
    mdp = three_values()
    theta = CATALOGUE["three-values"].theta_old(mdp)
    p = forward_backward.outcome_distribution(mdp.graph, theta.numpy())
    mean = p @ mdp.graph.reward
    z = (mdp.graph.reward - mean) / math.sqrt(p @ (mdp.graph.reward - mean) ** 2)
    whole = float(expected_value_gradient(mdp, theta, z**3).norm()) / (2 * mdp.horizon)
    assert abs(whole - of(table, "three-values", 0.0).bias_times_G[128]) > VISIBLE
    assert leading_order(mdp, theta, 0.0) > 2 * leading_order(mdp, theta, 1.0)


@pytest.mark.parametrize("G", [2, 3])
@pytest.mark.parametrize("delta", [0.0, 0.125])
def test_scale_and_bias_agree_with_plain_loops_over_ordered_groups(G, delta):
    made = rows(Config(worlds=("three-values",), deltas=(delta,), group_sizes=(G,)))[0]
    P = {y: math.prod(0.6 if a == 0 else 0.4 for a in y) for y in REWARD}
    mean = sum(P[y] * r for y, r in REWARD.items())
    variance = sum(P[y] * (r - mean) ** 2 for y, r in REWARD.items())
    expected, share = 0.0, 0.0
    for members, weight in definitions.ordered_groups([P[y] for y in REWARD], G):
        drawn = [list(REWARD)[i] for i in members]
        rewards = [REWARD[y] for y in drawn]
        if len(set(rewards)) == 1:
            continue
        centre = sum(rewards) / G
        std = math.sqrt(sum((r - centre) ** 2 for r in rewards) / G)
        share += weight * std**2 / (std + delta)
        for y, r in zip(drawn, rewards, strict=True):
            # The score of token 0 over a response: tokens 0, less 0.6 for each of the two tokens.
            expected += weight * (r - centre) / (std + delta) / (2 * G) * (y.count(0) - 1.2)
    assert made["c_G"] == pytest.approx(share / variance, abs=EXACT["atol"])
    gradient = sum(P[y] * r * (y.count(0) - 1.2) for y, r in REWARD.items())
    bias = abs(expected - share / variance / 2 * gradient) * math.sqrt(2)
    assert made["bias_norm"] == pytest.approx(bias, abs=EXACT["atol"]) and bias > MOVES


def test_the_fixed_point_is_the_optimum_where_there_are_two_reward_values_and_not_where_there_are_three(
    table,
):
    xor, three = of(table, "xor", 0.0), of(table, "three-values", 0.0)
    assert (xor.fixed_point - 0.5).abs().max() <= EXACT["atol"]
    assert float(policy_gradient(three_values(), policy(three_values(), 7 / 17)).norm()) <= EXACT["atol"]
    assert (three.fixed_point - 7 / 17).abs().min() > MOVES
    assert table[table.world == "few-values"][list(MAY_BE_MISSING)].isna().all(axis=None)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"worlds": ("two-prompts",)}, r"'two-prompts' has several prompts or lengths.*prompt_std_bias.py"),
        ({"worlds": ("length-trap",)}, r"'length-trap' has several prompts or lengths.*length_bias.py"),
        ({"worlds": ("xorr",)}, r"unknown entry 'xorr' of worlds; the nearest is 'xor'"),
        ({"group_sizes": (1,)}, r"group size 1: .* --group-sizes 2"),
        ({"group_sizes": ()}, r"group_sizes = \(\): give at least one"),
        ({"deltas": (0.1, 0.1)}, r"deltas = .*none twice"),
        ({"deltas": (-0.5,)}, r"delta = -0.5: .* must be >= 0"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


def test_no_power_of_G_is_shown_where_there_is_none():
    columns = {"group_size": [2, 4, 8, 16], "exact": [0.0] * 4, "bent": [1.0, 2.0, 0.5, 3.0]}
    made = pd.DataFrame(columns)
    assert slope(made, "exact") == "exact" and slope(made, "bent") == "-"
