"""means.py: how far the cosine of a sampled mean may be from that of E g, worked on angles."""

import math

import pytest

from ticgrpo_theory.cli.answers.means import because, cosine_half_width


def test_a_mean_that_is_exact_or_has_no_direction_has_no_half_width():
    assert cosine_half_width(0.5, 0.0, 1.0) == 0 and cosine_half_width(None, 0.5, 1.0) == 0


def test_the_angle_turns_by_the_arc_sine_of_half_width_over_norm():
    # 60 degrees, turned by 30 either way: the cosine goes from 1/2 to 0 or to sqrt(3) / 2.
    assert cosine_half_width(0.5, 0.5, 1.0) == pytest.approx(0.5)
    # At 0 degrees it can only fall.
    assert cosine_half_width(1.0, 0.5, 1.0) == pytest.approx(1 - math.sqrt(3) / 2)


@pytest.mark.parametrize("h", [1.0, 2.0])
def test_a_half_width_of_the_norm_or_more_leaves_every_angle(h):
    assert cosine_half_width(0.25, h, 1.0) == pytest.approx(1.25)


def test_the_bound_holds_for_every_vector_within_the_half_width():
    mean, gradient, h = (2.0, 1.0), (1.0, 0.0), 0.75
    at = math.hypot(*mean)
    allowed = cosine_half_width(mean[0] / at, h, at)
    for k in range(360):
        x, y = mean[0] + h * math.cos(math.radians(k)), mean[1] + h * math.sin(math.radians(k))
        assert abs(x / math.hypot(x, y) - mean[0] / at) <= allowed + 1e-12
    assert gradient == (1.0, 0.0) and allowed < 1


def test_why_a_command_drew_groups_is_said_or_nothing():
    assert because("") == "" and because("too many") == ". No exact method is affordable: too many"
