"""How a mean points beside a gradient: numbers one can do by hand, and what has no direction."""

import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.stats.direction import against, cosine, sine


def table(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_a_mean_beside_a_gradient_by_hand():
    # (1, 1) beside (2, 0): half of the gradient, and half of its length across.
    found = against(table(1.0, 1.0), table(2.0, 0.0))
    assert found == pytest.approx(
        {"cosine": 0.5**0.5, "scale": 0.5, "residual": 0.5, "bias": 0.5**0.5}, abs=EXACT["atol"]
    )
    assert found["bias"] ** 2 == pytest.approx((1 - found["scale"]) ** 2 + found["residual"] ** 2)


def test_the_opposite_gradient_has_the_cosine_minus_one_and_nothing_across():
    found = against(table(-3.0, 6.0), table(1.0, -2.0))
    assert found["cosine"] == pytest.approx(-1.0) and found["scale"] == pytest.approx(-3.0)
    assert found["residual"] == pytest.approx(0.0, abs=EXACT["atol"])


def test_what_is_zero_up_to_rounding_has_no_direction():
    assert cosine(table(1e-14, 0.0), table(1.0, 0.0)) is None
    assert cosine(table(1.0, 0.0), table(0.0, 0.0)) is None
    # Small beside 1 is not small beside its gradient.
    assert against(table(1e-14, 0.0), table(1e-14, 0.0))["cosine"] == pytest.approx(1.0)
    assert against(table(1e-14, 0.0), table(1.0, 0.0))["cosine"] is None


def test_the_sine_direction_has_length_one_in_the_order_of_the_table():
    u = sine(torch.zeros(2, 2, dtype=torch.float64))
    assert float(u.norm()) == pytest.approx(1.0)
    torch.testing.assert_close(u / u[0, 0], torch.sin(table(1, 2, 3, 4)).reshape(2, 2) / math.sin(1), **EXACT)
