"""convergence.py and its tables: the grid, what coincides on it, and what a regression finds or does not."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.floors import grid_tables as tables
from ticgrpo_theory.floors import grids
from ticgrpo_theory.floors.exact_floors import floor_at_fixed_point
from ticgrpo_theory.floors.grids import SERIES, bare, cells, check_grid, path_rows, tree
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS

XOR, LENGTHS = (WORLDS[name].build() for name in ("xor", "length-trap"))
START = torch.tensor([[0.4, -0.4]], dtype=torch.float64)
GROUPS, STEPS = (4, 16, 64), (0.025, 0.05, 0.1, 0.2)


def test_series_are_drawn_for_responses_that_make_whole_groups():
    found = cells(("grpo", "grpo-disjoint"), (4, 8, 16), (0.1,))
    assert found == [
        ("xor", "grpo", 4, 0.1),
        ("xor", "grpo", 8, 0.1),
        ("xor", "grpo", 16, 0.1),
        ("xor", "grpo-disjoint", 8, 0.1),
        ("xor", "grpo-disjoint", 16, 0.1),
        ("tree", "grpo", 4, 0.1),
        ("tree", "grpo", 8, 0.1),
        ("tree", "grpo", 16, 0.1),
    ]


def test_the_tree_has_the_responses_and_rewards_of_xor():
    for p in (0.3, 0.7):
        at = (grids.alike(mdp, p) for mdp in (XOR, tree()))
        returns = [expected_return(mdp, theta) for mdp, theta in zip((XOR, tree()), at, strict=True)]
        assert returns == pytest.approx([2 * p * (1 - p)] * 2, abs=EXACT["atol"])


def walked(name: str, K: int, h: float, clipped: bool = False) -> torch.Tensor:
    """theta after ten outer steps of four replicates."""
    estimator = bare(name)
    if clipped:
        estimator = dataclasses.replace(ESTIMATORS[name], advantage=standardised(0.0))
    run = {"group_size": 4, "learning_rate": h / K, "inner_steps": K, "outer_steps": 10, "replicates": 4}
    return simulate(XOR, START, estimator, **run).theta


def test_one_step_is_all_three_estimators_and_the_stale_one_at_any_K():
    one = walked("stale", 1, 0.2)
    for name in ("grpo", "tic_grpo_eq11"):
        torch.testing.assert_close(walked(name, 1, 0.2), one, **EXACT)
        assert (walked(name, 4, 0.2) - one).abs().max() > EXACT["atol"]
    torch.testing.assert_close(walked("stale", 4, 0.2), one, **EXACT)


def test_the_clip_that_is_left_out_would_never_act_on_grpo_at_these_steps():
    torch.testing.assert_close(walked("grpo", 4, 0.2, clipped=True), walked("grpo", 4, 0.2), **SAME_BITS)
    # Partner: in steps ten times as long it does.
    assert (walked("grpo", 4, 2.0, clipped=True) - walked("grpo", 4, 2.0)).abs().max() > VISIBLE


def exact_floors(mdp, name: str) -> pd.DataFrame:
    """The exact first order in eta K of every floor of a grid, with errors of 1 %."""
    rows = []
    for G in GROUPS:
        here = floor_at_fixed_point(mdp, bare(name), G)
        for h in STEPS:
            y = here.root + here.noise * h
            row = {"world": "xor", "series": "grpo", "responses": G, "eta_K": h, "floor": y}
            rows.append(row | {"first_order": here.noise * h, "standard_error": 0.01 * y})
    return pd.DataFrame(rows)


def test_without_noise_the_product_is_all_that_is_found_on_xor():
    fit = tables.regressions(exact_floors(XOR, "grpo"))["exact product"]
    assert fit.coefficient["first order"] == pytest.approx(1, abs=1e-9)
    for term in ("eta K", "1 / G", "1", "eta K first order", "(eta K / G)^2"):
        assert not fit.excludes_zero(term) and abs(fit.coefficient[term]) < 1e-9
    # On eta K / G alone what depends on G in its coefficient, 0.0677 to 0.0630, is booked under eta K.
    four = tables.regressions(exact_floors(XOR, "grpo"))["four terms"]
    assert 0.063 < four.coefficient["eta K / G"] < 0.068
    assert four.excludes_zero("eta K") and abs(four.coefficient["eta K"]) * 64 < 0.07 * 0.063
    assert not four.excludes_zero("1 / G") and not four.excludes_zero("1")


def test_the_same_regression_finds_the_constant_that_lengths_leave():
    """The partner with an additive term: 1/|s| on length-trap leaves 1.045e-2 at every eta K and G."""
    four = tables.regressions(exact_floors(LENGTHS, "grpo"))["four terms"]
    assert four.excludes_zero("1") and four.coefficient["1"] == pytest.approx(0.010447581, rel=0.01)
    assert not four.excludes_zero("eta K / G")


def test_the_same_regression_finds_a_term_in_one_over_G_and_one_in_eta_K():
    floors = exact_floors(XOR, "grpo")
    for term, x in (("1 / G", 1 / floors.responses), ("eta K", floors.eta_K)):
        added = floors.assign(floor=floors.floor + 1e-3 * x)
        for fit in tables.regressions(added).values():
            assert fit.excludes_zero(term) and fit.coefficient[term] == pytest.approx(1e-3, rel=0.2)


def test_slopes_of_the_exact_floors():
    floors = exact_floors(XOR, "grpo")
    line = floors[floors.responses == 16]
    assert tables.slope(line, "eta_K").coefficient["slope"] == pytest.approx(1, abs=EXACT["atol"])
    assert tables.common_slope(floors, "eta_K", "responses").coefficient["slope"] == pytest.approx(1)
    falls = tables.slope(floors[floors.eta_K == 0.1], "responses").coefficient["slope"]
    # log(0.0630 / 0.0677) / log 16 below -1.
    assert falls == pytest.approx(-1.026, abs=1e-3)
    assert tables.slope(line[:2], "eta_K") is None


def test_small_grids_leave_out_what_they_cannot_tell_apart():
    floors = exact_floors(XOR, "grpo")
    assert tables.regressions(floors[floors.responses == 4]) == {}
    assert list(tables.regressions(floors[floors.eta_K > 0.05])) == ["four terms"]


def test_shares_add_up_to_the_floor():
    shares = tables.shares(exact_floors(XOR, "grpo"), 0.1, 16)
    assert shares.groupby("model").share.sum().tolist() == pytest.approx([1, 1], abs=EXACT["atol"])


def test_a_path_falls_on_the_tree_and_stays_up_on_xor():
    ends = {}
    for world in ("xor", "tree"):
        path = path_rows(world, 4, 0.4, 120.0, 8, 0)
        times = [row["time"] for row in path]
        assert times == sorted(times) and times[0] == 0 and 60 < times[-1] < 120
        ends[world] = np.array([row["floor"] for row in path[-3:]])
    assert ends["tree"][0] > 2 * ends["tree"][2] and ends["tree"][2] < ends["xor"][2] / 10
    assert abs(math.log(ends["xor"][0] / ends["xor"][2])) < 1


def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out():
    with pytest.raises(ValueError, match=r"unknown series 'ppo': choose from one-step, grpo, tic-eq11"):
        check_grid(("ppo",), (4,), (0.1,))
    with pytest.raises(ValueError, match=r"group size 1: A needs at least 2 responses; give whole"):
        check_grid(("grpo",), (1,), (0.1,))
    with pytest.raises(ValueError, match=r"group_sizes = \(4,\): none can be divided .* multiples of 8"):
        check_grid(("grpo-disjoint",), (4,), (0.1,))
    with pytest.raises(ValueError, match=r"eta K = 2.0: a step is > 0, and below 2, .* give say 0.1"):
        check_grid(("grpo",), (4,), (2.0,))
    assert check_grid(tuple(SERIES), (4, 8), (0.1,)) is None
