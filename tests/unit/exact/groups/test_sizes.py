"""groups/sizes.py: counts by hand, at the limit, and for groups of which none can be formed."""

import math

import pytest

from ticgrpo_theory.exact.groups import sizes


def test_counts_by_hand():
    assert sizes.multisets(3, 2) == 6 and sizes.sequences(3, 2) == 9
    assert sizes.multisets(1, 10**15) == sizes.sequences(1, 10**15) == 1
    assert sizes.multisets(2, 10**15) == 10**15 + 1


@pytest.mark.parametrize(("N", "G"), [(4, 10), (65, 64), (10, 200), (200, 10), (2, 99), (64, 16)])
def test_counts_are_the_formulas_up_to_the_largest_and_inf_beyond(N, G):
    comb, power = math.comb(N + G - 1, G), N**G
    assert sizes.multisets(N, G) == (comb if comb <= sizes.LARGEST else math.inf)
    assert sizes.sequences(N, G) == (power if power <= sizes.LARGEST else math.inf)


@pytest.mark.parametrize(("N", "G"), [(66, 65), (10**6, 10**9), (10**9, 10**6), (4, 10**400)])
def test_nothing_is_formed_for_groups_that_nobody_could_list(N, G):
    assert sizes.sequences(N, G) == math.inf
    assert sizes.multisets(N, G) == math.inf


def test_counts_are_written_out_as_far_as_they_are_known():
    assert sizes.written(1234567) == "1,234,567"
    assert sizes.written(math.inf) == sizes.written(10**31) == "more than 10^30"
