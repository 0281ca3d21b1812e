"""experiments/prompt_std_bias.py: what it claims, on its own rows, each claim beside one that must fail."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from experiments.prompt_std_bias import NO_STD, Config, opposed, rows
from tests.oracles import definitions
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more
from ticgrpo_theory.estimators import catalogue
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

CFG = Config(deltas=(0.0, 0.1, NO_STD), group_sizes=(2, 4, 16, 64, 256, math.inf), policies=(0.3, 0.5))
SMALL = Config(deltas=(0.5,), group_sizes=(2,), policies=(0.5,))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


def of(table: pd.DataFrame, world: str, delta: float) -> pd.DataFrame:
    chosen = table[(table.world == world) & (table.delta == delta)]
    assert len(chosen)
    return chosen


def test_two_opposed_prompts_stop_every_policy_at_delta_zero(table):
    part = of(table, "opposed", 0.0)
    assert part.mean_norm.max() <= EXACT["atol"] and len(part) == 2 * 6
    for p, printed in ((0.5, 0.0078125), (0.3, 0.0055125)):
        np.testing.assert_allclose(part[part.p == p].gradient_norm_sq, printed, **PRINTED(7))
        np.testing.assert_allclose(part[part.p == p].gradient_norm_sq, (p * (1 - p)) ** 2 / 8)


def test_the_same_check_rejects_a_positive_delta_and_no_standard_deviation(table):
    assert of(table, "opposed", 0.1).mean_norm.min() > MOVES
    assert of(table, "opposed", NO_STD).mean_norm.min() > VISIBLE


def test_with_delta_what_is_left_is_a_multiple_of_the_gradient_that_is_proportional_to_delta():
    cfg = Config(deltas=(1e-6, 1e-5, 1e-4, 1e-3), group_sizes=(4,), policies=(0.5,))
    part = pd.DataFrame(rows(cfg)).query("world == 'opposed'")
    fit = fit_power_law(part.delta.to_numpy(), part.share.to_numpy())
    assert fit is not None and fit.points == 4 and fit.slope == pytest.approx(1.0, abs=0.01)
    # Parallel: no length is left over.
    np.testing.assert_allclose(part.mean_norm, part.share * part.gradient_norm_sq**0.5, **EXACT)


# delta, G, the fixed point and what it leaves of the gradient.
TWO_PROMPTS = [
    (0.0, 4, 0.75341010, 3.210978e-6),
    (0.0, 16, 0.78151616, 2.316707e-4),
    (0.0, 64, 0.78747924, 3.147404e-4),
    (0.0, 256, 0.78838934, 3.281465e-4),
    (0.0, math.inf, 0.78867513, 3.323925e-4),
    (0.1, 4, 0.75280175, 2.174704e-6),
    (0.1, 16, 0.77341635, 1.347138e-4),
    (0.1, 256, 0.77901833, 1.996378e-4),
]


@pytest.mark.parametrize("delta, G, fixed_point, floor", TWO_PROMPTS)
def test_fixed_points_and_floors_of_two_prompts_to_the_printed_digits(table, delta, G, fixed_point, floor):
    (row,) = of(table, "prompt-trap", delta).query("group_size == @G").itertuples()
    np.testing.assert_allclose(row.fixed_point, fixed_point, **PRINTED(8))
    np.testing.assert_allclose(row.floor / floor, 1.0, **PRINTED(6))


def test_the_floor_grows_with_G_and_groups_of_two_have_none(table):
    for delta in (0.0, 0.1):
        floors = of(table, "prompt-trap", delta).sort_values("group_size").floor.to_numpy()
        assert floors[0] <= EXACT["atol"] and (np.diff(floors) > 0).all() and floors[-1] > MOVES
    assert of(table, "prompt-trap", 0.0).fixed_point.max() == pytest.approx((3 + math.sqrt(3)) / 6)


def test_without_the_standard_deviation_the_optimum_is_the_fixed_point(table):
    part = of(table, "prompt-trap", NO_STD)
    assert (part.fixed_point - 0.75).abs().max() <= EXACT["atol"]
    assert part.floor.max() <= EXACT["atol"]
    mdp = WORLDS["prompt-trap"].build()
    best = expected_return(mdp, policy(mdp, 0.75))
    assert all(expected_return(mdp, policy(mdp, p)) < best for p in (0.7, 0.78867513, 0.8))
    # Wrong would be one scale for the mixture, as if prompts shared their groups: it moves nothing at all.
    assert of(table, "prompt-trap", 0.0).query("group_size > 4").floor.min() > MOVES


@pytest.mark.parametrize("delta", [0.0, 0.125])
def test_each_prompt_has_its_own_groups(delta):
    """The mean over prompts of plain loops over the ordered groups of each."""
    theta = [[0.4, -0.2]]
    prompts = (
        definitions.path_world(2, 1, lambda _: 0, lambda y, r=r: r[y[0]]) for r in ((1.0, 0.0), (0.0, 0.5))
    )
    each = [definitions.expected_gradient(world, theta, theta, "grpo", 3, delta=delta) for world in prompts]
    found = expected_gradient(opposed(), theta, theta, catalogue.grpo(delta=delta), 3)[0].tolist()
    assert found == pytest.approx([(a + b) / 2 for a, b in zip(*(g[0] for g in each), strict=True)])
    assert (abs(found[0]) > MOVES) == (delta > 0)


def test_the_given_policies_are_no_fixed_points_of_the_gradient(table):
    for p in CFG.policies:
        assert float(policy_gradient(opposed(), policy(opposed(), p)).norm()) > VISIBLE


@pytest.mark.parametrize(
    "change, message",
    [
        ({"policies": (1.0,)}, r"policy 1.0: a probability between 0 and 1"),
        ({"group_sizes": (1,)}, r"group size 1: give whole numbers of 2 or more, or inf"),
        ({"deltas": (-1.0,)}, r"delta = -1.0: .* must be >= 0"),
        ({"deltas": (math.nan,)}, r"delta = nan: .* must be >= 0"),
        ({"policies": ()}, r"policies = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))
