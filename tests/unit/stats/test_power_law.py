"""power_law.py: exponents are found to rounding, and claimed no further than they hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.tolerances import EXACT
from ticgrpo_theory.stats.power_law import fit_power_law, growth

eighths = st.integers(-24, 24).map(lambda n: n / 8)


def close(value: float):
    return pytest.approx(value, abs=EXACT["atol"], rel=EXACT["rtol"])


@given(slope=eighths, factor=st.integers(1, 40).map(lambda n: n / 8), n=st.integers(4, 9))
def test_an_exact_power_law_is_found_over_its_whole_range(slope, factor, n):
    x = np.arange(1, n + 1) / 8
    found = fit_power_law(x, factor * x**slope)
    assert (found.slope, found.factor, found.end, found.points) == (
        close(slope),
        close(factor),
        close(n / 8),
        n,
    )


def test_by_hand_four_points_on_a_parabola_through_three():
    # Slope 2 through (1, 3), (2, 12), (4, 48), (8, 192), given in another order.
    found = fit_power_law(np.array([8.0, 1, 4, 2]), np.array([192.0, 3, 48, 12]))
    assert (found.slope, found.factor, found.points) == (close(2), close(3), 4)


def test_a_line_that_bends_is_claimed_only_as_far_as_it_is_straight():
    x = np.geomspace(1e-3, 10, 41)
    found = fit_power_law(x, x + x**2)
    assert found.slope == pytest.approx(1, abs=0.03) and 0.02 < found.end < 0.3
    assert fit_power_law(x, x + x**2).points < len(x) == fit_power_law(x, x).points


def test_no_exponent_where_points_scatter_or_are_too_few_or_share_one_x():
    four = np.array([1.0, 2, 3, 4])
    assert fit_power_law(four, np.array([1.0, 5, 2, 9])) is None
    assert fit_power_law(four[:3], four[:3]) is None
    assert fit_power_law(np.full(4, 2.0), np.ones(4)) is None
    assert fit_power_law(four, four) is not None


def grown(error, clipped=lambda x: False):
    x = np.arange(6) / 2
    return growth(x, np.array([float(error(u)) for u in x]), np.array([bool(clipped(u)) for u in x]))


def test_nothing_is_fitted_from_the_first_clipped_point_on():
    def jumps(u):
        return 3 * u if u < 2.25 else 40.0

    clip = grown(jumps, lambda u: u > 2.25)
    assert (clip.power_law.slope, clip.clip_from, clip.whole, str(clip)) == (close(1), 2.5, True, "1.00 <2.5")
    # The same jump with no clip to explain it ends the line instead.
    bare = grown(jumps)
    assert (bare.power_law.end, bare.clip_from, bare.whole, str(bare)) == (
        close(2),
        math.inf,
        False,
        "1.00 to 2",
    )


def test_an_error_that_is_there_at_the_start_or_never_has_no_exponent():
    assert str(grown(lambda u: 0.03 + u)) == "+0.03" and grown(lambda u: 0.03 + u).power_law is None
    assert str(grown(lambda u: 1e-14)) == "exact"
    assert str(grown(lambda u: 1e-14, lambda u: u > 1.75)) == "exact <2"
    assert str(grown(lambda u: u, lambda u: u > 0)) == "- <0.5"
    assert str(grown(lambda u: abs(math.sin(40 * u)))) == "-"
