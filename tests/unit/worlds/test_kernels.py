import math

import numpy as np
import pytest
import torch
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.tolerances import EXACT, SAME_BITS
from ticgrpo_theory.worlds.compiling import forgiving
from ticgrpo_theory.worlds.kernels import BLOCK, clipped, exponentials, softmax, vexp
from ticgrpo_theory.worlds.policy import pull_back as pull_back_of_tensors
from ticgrpo_theory.worlds.pull_back import pull_back

UNITS_IN_THE_LAST_PLACE = 1.1


def worst_error(f, x: np.ndarray) -> float:
    """Largest |f(x) - exp(x)| in units of the last place of exp(x), exp by interval arithmetic."""
    ctx.prec = 120
    worst = 0.0
    for argument, value in zip(x.tolist(), f(x).tolist(), strict=True):
        exact = arb(argument).exp()
        unit = arb(float(np.spacing(float(exact.mid()))))
        worst = max(worst, float((abs(arb(value) - exact) / unit).upper()))
    return worst


def vectorised(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    exponentials(x, out)
    return out


@pytest.mark.parametrize(
    ("least", "greatest"), [(-1e-3, 0.0), (-20.0, 0.0), (-745.0, 0.0), (-745.0, -708.0), (0.0, 700.0)]
)
def test_the_exponential_is_right_to_the_last_place_subnormal_results_included(least, greatest):
    x = np.linspace(least, greatest, 4001)
    assert worst_error(vectorised, x) <= UNITS_IN_THE_LAST_PLACE


def test_the_same_check_sees_an_exponential_in_single_precision():
    x = np.linspace(-20.0, 0.0, 101)
    assert worst_error(lambda x: np.exp(x.astype(np.float32)).astype(np.float64), x) > 1e6


def test_the_exponential_at_its_ends():
    assert vexp(0.0) == 1.0
    assert vexp(-745.13) == 5e-324
    assert [vexp(x) for x in (-746.0, -1e9, -math.inf)] == [0.0, 0.0, 0.0]


def rows_of(logits: list[list[float]], rows: list[int] | None = None) -> np.ndarray:
    table = np.array(logits)
    rows = list(range(len(table))) if rows is None else rows
    out = np.empty((len(rows), table.shape[1]))
    softmax(table, np.array(rows), out)
    return out


logits = st.floats(-1000, 1000) | st.sampled_from([-math.inf, 0.0, 1000.0, -1000.0, 69.0, -69.5])


@given(st.integers(1, 6).flatmap(lambda V: st.lists(st.lists(logits, min_size=V, max_size=V), min_size=1)))
def test_softmax_agrees_with_torch_for_all_logits(table):
    table = [[0.0, *row[1:]] if max(row) == -math.inf else row for row in table]
    expected = torch.softmax(torch.tensor(table, dtype=torch.float64), dim=-1)
    torch.testing.assert_close(torch.from_numpy(rows_of(table)), expected, **EXACT)


@given(st.integers(1, 6).flatmap(lambda V: st.lists(st.lists(logits, min_size=V, max_size=V), min_size=2)))
def test_a_row_of_a_softmax_does_not_depend_on_its_neighbours_to_the_last_bit(table):
    table = [[0.0, *row[1:]] if max(row) == -math.inf else row for row in table]
    together = torch.from_numpy(rows_of(table))
    alone = torch.from_numpy(np.concatenate([rows_of([row]) for row in table]))
    torch.testing.assert_close(together, alone, **SAME_BITS)


def test_softmax_reads_the_rows_that_are_named():
    table = [[0.0, 0.0], [math.log(3), 0.0], [0.0, -math.inf]]
    expected = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25]])
    np.testing.assert_allclose(rows_of(table, [2, 0, 1]), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("p", "p_old", "expected"),
    [
        (0.3, 0.2, 0.0),  # w = 1.5 above 1.25
        (0.1, 0.2, 0.0),  # w = 0.5 below 0.75
        (0.2, 0.2, 0.2),
        (0.25, 0.2, 0.25),  # w = 1.25: the bound itself is inside
        (0.5, 0.0, 0.0),  # w = inf
        (0.0, 0.0, 0.0),
    ],
)
def test_a_ratio_outside_the_bounds_is_switched_off(p, p_old, expected):
    assert clipped(p, p_old, 0.75, 1.25, 0.0, 0.0) == expected


@pytest.mark.parametrize(
    ("p", "p_old", "expected"), [(0.3, 0.2, 0.25), (0.1, 0.2, 0.15), (0.25, 0.2, 0.25), (0.5, 0.0, 0.0)]
)
def test_or_held_at_the_bound(p, p_old, expected):
    assert clipped(p, p_old, 0.75, 1.25, 0.75, 1.25) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("above", [0.0, math.inf])
def test_without_an_upper_bound_nothing_is_lost_where_the_old_probability_underflows(above):
    assert clipped(0.5, 0.0, 0.75, math.inf, 0.0, above) == 0.5


def test_pulling_back_agrees_with_the_formula_on_tensors_in_place_and_beyond_one_block():
    generator = np.random.default_rng(0)
    weights, logits = generator.normal(size=(2, BLOCK // 3 + 7, 5))
    expected = pull_back_of_tensors(torch.from_numpy(weights), torch.from_numpy(logits))
    pull_back(weights, logits, weights)
    torch.testing.assert_close(torch.from_numpy(weights), expected, **EXACT)


def test_machine_code_that_cannot_be_read_is_compiled_again():
    """An index that names a class which is no more, as an earlier version of the package leaves it."""

    def unreadable() -> dict:
        raise AttributeError("Can't get attribute 'Forest' on <module 'ticgrpo_theory'>")

    def readable() -> dict:
        return {"signature": "code"}

    assert forgiving(unreadable)() == {}
    assert forgiving(readable)() == {"signature": "code"}
