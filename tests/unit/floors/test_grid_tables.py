"""grid_tables.py: what a regression of floors finds, or does not."""

import pandas as pd
import pytest

from tests.properties.tolerances import EXACT
from tests.thinned import more
from ticgrpo_theory.floors import grid_tables as tables
from ticgrpo_theory.floors.exact_floors import floor_at_fixed_point
from ticgrpo_theory.floors.grids import bare
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

XOR, LENGTHS = (WORLDS[name].build() for name in ("xor", "length-trap"))
GROUPS, STEPS = (4, 16, 64), (0.025, 0.05, 0.1, 0.2)


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
