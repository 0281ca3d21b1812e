"""experiments/length_bias.py: what it claims, on its own rows, each claim beside a case that must fail."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from experiments.length_bias import WORLD, Config, fall, made, rows
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more
from ticgrpo_theory.estimators import catalogue
from ticgrpo_theory.exact.fixed_points import fixed_point, mean_step, policy
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

CFG = Config(deltas=(0.0, 1.0), group_sizes=(2, 16, math.inf))
BY_LENGTH = ("grpo", "tic_grpo_eq11")
FREE_OF_LENGTH = ("tic_grpo", "dr_grpo")
SMALL = Config(estimators=("grpo",), deltas=(0.5,), group_sizes=(2,))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


def test_one_over_the_length_rests_at_the_printed_point_for_every_group_size_and_delta(table):
    part = table[table.estimator.isin(BY_LENGTH)]
    assert len(part) == 2 * 2 * 3
    np.testing.assert_allclose(part.fixed_point, 0.66135555568, **PRINTED(11))
    np.testing.assert_allclose(part.expected_return, 0.22396438465, **PRINTED(11))
    np.testing.assert_allclose(part.floor, 0.010447581223, **PRINTED(12))
    # The root of the cubic, not a number that was typed in.
    assert (3 - 3 * part.fixed_point - part.fixed_point**2 - 2 * part.fixed_point**3).abs().max() < 1e-11


def test_the_same_check_rejects_the_other_scales(table):
    others = table[~table.estimator.isin(BY_LENGTH)]
    assert (others.fixed_point - 0.66135555568).abs().min() > VISIBLE


def test_scales_without_lengths_rest_at_the_optimum_and_lengths_do_not(table):
    free = table[table.estimator.isin(FREE_OF_LENGTH)]
    assert (free.fixed_point - 0.5).abs().max() <= EXACT["atol"] and free.floor.max() <= EXACT["atol"]
    assert free.mean_at_optimum.abs().max() <= EXACT["atol"]
    assert table[table.estimator.isin(BY_LENGTH)].mean_at_optimum.min() > VISIBLE
    finite = table[(table.estimator == "dapo") & (table.group_size < math.inf)]
    assert finite.mean_at_optimum.min() > MOVES


# G, fixed point and floor of the token mean at delta = 0.
TOKEN_MEAN = [
    (2, 0.5635083269, 1.952108e-3),
    (4, 0.5346245985, 5.936961e-4),
    (8, 0.5177865090, 1.577799e-4),
    (16, 0.5089375334, 3.991423e-5),
    (32, 0.5044690140, 9.984448e-6),
    (64, 0.5022335737, 2.494326e-6),
]


def test_the_token_mean_rests_at_the_printed_points_which_close_in_like_one_over_G():
    sizes, points, floors = map(list, zip(*TOKEN_MEAN, strict=True))
    part = pd.DataFrame(rows(Config(estimators=("dapo",), deltas=(0.0,), group_sizes=tuple(sizes))))
    np.testing.assert_allclose(part.fixed_point, points, **PRINTED(10))
    np.testing.assert_allclose(part.floor / floors, 1.0, **PRINTED(6))
    fit = fit_power_law(1 / part.group_size.to_numpy(), part.floor.to_numpy())
    assert fit is not None and fit.slope == pytest.approx(2.0, abs=0.03)
    assert fall(part.set_index("group_size")).startswith("G^-")


def test_the_token_mean_with_delta_and_its_mean_step_to_the_printed_digits():
    mdp = WORLDS[WORLD].build()
    (row,) = rows(Config(estimators=("dapo",), deltas=(0.1,), group_sizes=(4,)))
    np.testing.assert_allclose(row["fixed_point"], 0.5346136562, **PRINTED(10))
    np.testing.assert_allclose(row["floor"] / 5.933245e-4, 1.0, **PRINTED(6))
    step = mean_step(mdp, 0.6, catalogue.dapo(delta=0.0), 4)
    np.testing.assert_allclose(step, -0.0272916788, **PRINTED(10))
    # Under the scale 1/|s| the step there points the other way.
    assert mean_step(mdp, 0.6, catalogue.grpo(delta=0.0), 4) > MOVES


def test_an_infinite_group_has_no_token_mean_bias(table):
    part = table[(table.estimator == "dapo") & (table.group_size == math.inf)]
    assert part.floor.max() <= EXACT["atol"]


def test_each_fixed_point_attracts(table):
    mdp = WORLDS[WORLD].build()
    for row in table[table.delta == 1.0].itertuples():
        estimator = made(row.estimator, row.delta)
        below, above = (mean_step(mdp, row.fixed_point + x, estimator, row.group_size) for x in (-0.05, 0.05))
        assert below > 0 > above


def test_a_fixed_point_is_refused_where_there_is_none_or_no_single_number():
    alike = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    with pytest.raises(ValueError, match=r"changes from up to down 0 times for p in \[0.02, 0.98\]"):
        fixed_point(alike, "rloo", 2)
    with pytest.raises(ValueError, match=r"has 1 rows of 4 logits: .* use expected_gradient"):
        fixed_point(WORLDS["bandit"].build(), "rloo", 2)
    assert policy(alike, 0.5).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"estimators": ("gspo",)}, r"unknown entry 'gspo' of estimators; the nearest is 'grpo'"),
        ({"group_sizes": (1,)}, r"group size 1: give whole numbers of 2 or more, or inf, to --group-sizes"),
        ({"group_sizes": (2.5,)}, r"group size 2.5: "),
        ({"deltas": (-1.0,)}, r"delta = -1.0: .* must be >= 0"),
        ({"deltas": ()}, r"deltas = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


def test_the_terminal_says_in_words_how_floors_fall():
    never = pd.DataFrame({"floor": [0.25, 0.25]}, index=[2.0, 4.0])
    bent = pd.DataFrame({"floor": [0.25, 1.0, 0.5, 0.125]}, index=[2.0, 4.0, 8.0, 16.0])
    assert (fall(never), fall(0 * never), fall(bent)) == ("never", "is 0", "-")
