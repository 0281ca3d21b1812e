"""numbers.py: what counts as a number, a whole number and a switch, and what is said of everything else."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from ticgrpo_theory.inputs.numbers import (
    SHOWN,
    as_number,
    finite_number,
    integer,
    number_or_nan,
    shown,
    switch,
    whole_number,
)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (np.int64(3), 3.0),
        (np.float32(0.5), 0.5),
        (torch.tensor(0.25), 0.25),
        (Fraction(1, 4), 0.25),
        (math.inf, math.inf),
    ],
)
def test_real_numbers_of_any_kind_count(value, number):
    assert as_number(value) == number_or_nan(value) == number


@pytest.mark.parametrize(
    "value",
    [
        "3",
        b"3",
        None,
        True,
        np.bool_(True),
        torch.tensor(True),
        1j,
        np.complex64(1),
        torch.tensor(1j),
        [3],
        np.ones(2),
        10**400,
        {},
    ],
)
def test_words_bools_complex_numbers_and_several_numbers_are_none(value):
    assert as_number(value) is None and math.isnan(number_or_nan(value))
    with pytest.raises(ValueError, match=r"beta = .* must be a finite number: the weight"):
        finite_number("beta", value, "the weight")


def test_numbers_that_are_not_finite_are_numbers_and_no_finite_ones():
    assert math.isnan(as_number(math.nan) or 0.0) and finite_number("beta", np.int8(2), "") == 2.0
    for value in (math.nan, -math.inf):
        with pytest.raises(ValueError, match=rf"beta = {value} must be a finite number"):
            finite_number("beta", value, "the weight")


def test_whole_numbers_keep_every_digit():
    large = 2**70 + 1
    assert whole_number("G", large, 1, "") == large and type(whole_number("G", np.uint8(3), 1, "")) is int
    for value in (2.0, "2", None, False, math.inf):
        with pytest.raises(ValueError, match=r"G = .* must be a whole number >= 1: responses"):
            integer("G", value, 1, "responses")
    assert integer("G", -4, 1, "responses") == -4
    with pytest.raises(ValueError, match="G = 0 must be >= 1: responses"):
        whole_number("G", 0, 1, "responses")


def test_a_switch_is_true_or_false_and_nothing_else():
    assert [switch("s", value, "on", "off") for value in (True, False)] == [True, False]
    for value in ("no", 0, 1, None, np.bool_(False)):
        with pytest.raises(ValueError, match=r"s = .*: give True \(on\) or False \(off\)"):
            switch("s", value, "on", "off")


def test_long_values_are_quoted_on_one_line_and_cut_off():
    assert shown("a") == "'a'"
    assert len(shown(np.zeros((9, 9)))) == SHOWN and shown(np.zeros((9, 9))).endswith("...")
    assert "\n" not in shown(np.zeros((2, 2)))
