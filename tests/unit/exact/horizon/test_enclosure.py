"""An enclosure holds the number of enumeration in every world, and wrong roundings do not."""

import pytest

from tests.thinned import more
from tests.unit.exact.horizon.many_worlds import worlds
from ticgrpo_theory.exact.expectation import gradient
from ticgrpo_theory.exact.horizon import increments, kernels, passes
from ticgrpo_theory.exact.horizon.enclosure import enclosed
from ticgrpo_theory.exact.horizon.increments import Bins

BINS = ((24, 8.0), (150, 8.0), (60, 0.7))
"""Bins, and standard deviations that they cover: so few that responses leave them, too."""


def outside(first: int, last: int) -> list[int]:
    """The seeds of the worlds whose enumerated number lies outside of an enclosure."""
    found = []
    for seed, problem in worlds(first, last):
        exact = gradient(problem, "enumeration")
        # Enumeration rounds as well: a unit in the last places of what it adds.
        slack = 1e-14 * float(exact.abs().max())
        for bins, deviations in BINS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(increments, "DEVIATIONS", deviations)
                bounds = enclosed(problem, bins)
            if ((exact < bounds.lower - slack) | (exact > bounds.upper + slack)).any():
                found.append(seed)
    return found


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 48), pytest.param(48, 200, marks=more), pytest.param(200, 1000, marks=pytest.mark.slow)],
)
def test_every_enclosure_holds_the_number_of_enumeration(first, last):
    assert outside(first, last) == []


def rounded_up(monkeypatch):
    made = increments.made

    def one_more(shift, *others):
        return made(shift + 1, *others)

    monkeypatch.setattr(increments, "made", one_more)


def supremum_over_the_wrong_side(monkeypatch):
    interval = Bins.interval

    def wrong(self, length):
        low, high = interval(self, length)
        return 2 * low - high, low

    monkeypatch.setattr(Bins, "interval", wrong)


def lost_mass_counts_as_the_lowest_bin(monkeypatch):
    interval = Bins.interval

    def wrong(self, length):
        low, high = interval(self, length)
        low[-1], high[-1] = low[0], high[0]
        return low, high

    monkeypatch.setattr(Bins, "interval", wrong)


def backward_rounded_apart(monkeypatch):
    layer = kernels.backward_layer

    def apart(row, successor, edge, shift, *others):
        layer(row, successor, edge, shift + 1, *others)

    monkeypatch.setattr(passes.kernels, "backward_layer", apart)


def forward_rounded_apart(monkeypatch):
    layer = kernels.forward_layer

    def apart(row, successor, edge, token, shift, *others):
        layer(row, successor, edge, token, shift + 1, *others)

    monkeypatch.setattr(passes.kernels, "forward_layer", apart)


@pytest.mark.parametrize(
    "mutant",
    [
        rounded_up,
        supremum_over_the_wrong_side,
        lost_mass_counts_as_the_lowest_bin,
        backward_rounded_apart,
        forward_rounded_apart,
    ],
)
def test_wrong_bounds_are_found_out(mutant, monkeypatch):
    mutant(monkeypatch)
    assert outside(0, 24)
