"""printed_objectives.py: Eq. 5 and Eq. 9 on one group, by hand, and what each variant of them changes."""

import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.claims.printed_objectives import alone, eq5, eq5_to_horizon, eq9, horizon, length
from ticgrpo_theory.estimators.batch import Batch

MASK = torch.tensor([[True, True], [True, False]])


def pair(first: float, second: float, other: float) -> Batch:
    """Ratios (first, second) and (other,); rewards 1 and 0, so that A = 1 and -1."""
    w = torch.tensor([[first, second], [other, 1.0]], dtype=torch.float64)
    old = torch.full_like(w, -1.0)
    return Batch(old + w.log(), old, torch.tensor([1.0, 0.0], dtype=torch.float64), MASK)


def value(objective, batch: Batch) -> float:
    return float(objective(batch))


def close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=EXACT["atol"], rel=EXACT["rtol"])


def test_eq5_takes_the_smaller_product_of_every_token():
    # A = 1: min(1.5, 1.28) and min(0.5, 0.8) over 2; A = -1: min(-0.5, -0.8) over 1.
    close(value(eq5(0.2, 0.28), pair(1.5, 0.5, 0.5)), ((1.28 + 0.5) / 2 - 0.8) / 2)
    # A = -1 and a large ratio: min(-4, -1.28) is not bounded by the clip.
    close(value(eq5(0.2, 0.28), pair(1.0, 1.0, 4.0)), (1.0 - 4.0) / 2)
    # Summed to T = 2 and 3 padding counts with the ratio 1: A / |s| for each token that is not there.
    close(value(eq5_to_horizon(0.2, 0.28, 2), pair(1.5, 0.5, 0.5)), ((1.28 + 0.5) / 2 - 0.8 - 1) / 2)
    close(value(eq5_to_horizon(0.2, 0.28, 3), pair(1.5, 0.5, 0.5)), ((1.28 + 0.5 + 1) / 2 - 0.8 - 2) / 2)


def test_eq9_takes_the_ratio_of_the_whole_response():
    batch = pair(1.5, 2.0, 4.0)  # w' = 3 and 4, both held at 1.28
    close(value(eq9(0.28), batch), (1.28 - 1.28) / 2)
    close(value(eq9(math.inf), batch), (3.0 - 4.0) / 2)
    # Taken once instead of once for each token: 3 / 2 - 4 / 1; summed to T = 2: 3 - 4 * 2.
    close(value(eq9(math.inf, alone), batch), (1.5 - 4.0) / 2)
    close(value(eq9(math.inf, horizon(2)), batch), (3.0 - 8.0) / 2)
    # The lower end that Algorithm 2 prints holds a small ratio at 0.8.


def test_lengths_are_counted_on_the_mask():
    assert length(MASK).tolist() == [[2.0, 2.0], [1.0, 1.0]]
