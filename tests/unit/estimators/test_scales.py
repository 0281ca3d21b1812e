"""scales.py: the factor of each response, by hand, and who pools lengths."""

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators.scales import (
    Scale,
    constant,
    pools_lengths,
    sequence_mean,
    sequence_sum,
    token_mean,
)

# Two groups of three responses, horizon 8.
LENGTH = torch.tensor([[1, 2, 5], [4, 4, 2]])
TOTAL = torch.tensor([[8], [10]])
FACTORS = {
    sequence_mean: [[1 / 3, 1 / 6, 1 / 15], [1 / 12, 1 / 12, 1 / 6]],
    token_mean: [[1 / 8] * 3, [1 / 10] * 3],
    sequence_sum: [[1 / 3] * 3] * 2,
    constant: [[1 / 24] * 3] * 2,
}


def check_factors(scale: Scale) -> None:
    found = scale(LENGTH, TOTAL, 3, 8)
    torch.testing.assert_close(found, torch.tensor(FACTORS[scale], dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("scale", FACTORS)
def test_factors_by_hand(scale):
    check_factors(scale)


@pytest.mark.parametrize("scale", [sequence_mean, token_mean])
def test_a_mean_over_tokens_sums_to_one_or_to_the_length(scale):
    """sum_i scale_i |s_i| = 1: what makes it a mean."""
    per_group = (scale(LENGTH, TOTAL, 3, None) * LENGTH).sum(dim=-1)
    torch.testing.assert_close(per_group, torch.ones(2, dtype=torch.float64), **EXACT)


def test_only_the_token_mean_pools_lengths():
    assert [pools_lengths(scale) for scale in FACTORS] == [scale is token_mean for scale in FACTORS]


@pytest.mark.parametrize("horizon", [None, 0, -3])
def test_a_constant_scale_without_a_response_limit_is_refused(horizon):
    message = (
        rf"horizon = {horizon}: the scale `constant` divides by the response limit, at least 1; give Batch"
    )
    with pytest.raises(ValueError, match=message):
        constant(LENGTH, TOTAL, 3, horizon)
