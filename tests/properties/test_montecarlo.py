"""assert_mean_is fails on a wrong mean, on a mean that nobody could tell wrong, and on what is no sample."""

import pytest
import torch

from tests.properties.montecarlo import assert_mean_is

# 200 samples of mean 0 and standard deviation (1/n with n - 1) 1.0025: five standard errors are 0.354.
SAMPLES = torch.tensor([1.0, -1.0] * 100, dtype=torch.float64)


def test_the_right_mean_passes_within_five_standard_errors():
    assert_mean_is(SAMPLES, 0.0, visible=0.36)
    assert_mean_is(SAMPLES + 0.35, 0.0, visible=0.36)


def test_a_mean_beyond_five_standard_errors_fails():
    with pytest.raises(AssertionError, match=r"the mean of 200 samples is 0.36, 5.1 standard errors from 0"):
        assert_mean_is(SAMPLES + 0.36, 0.0, visible=0.36)


def test_too_few_samples_to_see_the_error_fail():
    with pytest.raises(AssertionError, match=r"5 standard errors are 0.354, wider .* draw 252 samples"):
        assert_mean_is(SAMPLES, 0.0, visible=0.3162)


def test_one_wrong_entry_of_a_table_fails():
    table = torch.stack([SAMPLES, SAMPLES, SAMPLES + 1], dim=-1)
    assert_mean_is(table, torch.tensor([0.0, 0.0, 1.0]), visible=0.36)
    with pytest.raises(AssertionError, match=r"the mean of 200 samples is 1,"):
        assert_mean_is(table, torch.tensor([0.0, 0.0, 0.0]), visible=0.36)


def test_samples_without_spread_must_be_exact():
    same = torch.full((200,), 0.1, dtype=torch.float64)
    assert_mean_is(same, 0.1, visible=0.36)
    with pytest.raises(AssertionError, match=r"standard errors from 0\.1"):
        assert_mean_is(same + 1e-9, 0.1, visible=0.36)


def test_nan_and_few_samples_fail():
    with pytest.raises(AssertionError, match="not a number"):
        assert_mean_is(torch.cat([SAMPLES, torch.tensor([torch.nan])]), 0.0, visible=0.36)
    with pytest.raises(AssertionError, match="99 samples"):
        assert_mean_is(SAMPLES[:99], 0.0, visible=0.36)
