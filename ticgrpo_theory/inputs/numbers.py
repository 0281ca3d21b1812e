"""Numbers and switches that users give, checked: the value, or a ValueError with value, limit, way out.

The standard library alone, so that every room may ask. NumPy numbers and tensors of one entry count as what
they hold. Words and complex numbers are no numbers here, bools neither: True would be a group of one.
"""

import math
import operator
from numbers import Complex, Real
from typing import Any

SHOWN = 60
"""Characters of a value that a sentence quotes."""


def shown(value: Any) -> str:
    """A value as a sentence quotes it: on one line, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def is_bool(value: Any) -> bool:
    """Whether it is a bool of Python, NumPy or PyTorch."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def as_number(value: Any) -> float | None:
    """`value` as a float, NaN and infinities included; None for what is no real number."""
    if is_bool(value) or isinstance(value, str | bytes):
        return None
    if isinstance(value, Complex) and not isinstance(value, Real):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def number_or_nan(value: Any) -> float:
    """`value` as a float; NaN, of which no limit holds, for what is no real number."""
    found = as_number(value)
    return math.nan if found is None else found


def finite_number(name: str, value: Any, meaning: str) -> float:
    """`value` as a float, or a ValueError with what it is for where it is no finite real number."""
    number = number_or_nan(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} = {shown(value)} must be a finite number: {meaning}")
    return number


def integer(name: str, value: Any, least: int, meaning: str) -> int:
    """`value` as an int, of whatever sign, or a ValueError with what it counts from `least` on."""
    try:
        if is_bool(value):
            raise TypeError
        return operator.index(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} = {shown(value)} must be a whole number >= {least}: {meaning}") from None


def whole_number(name: str, value: Any, least: int, meaning: str) -> int:
    """`value` as an int >= least, or a ValueError with what it counts."""
    number = integer(name, value, least, meaning)
    if number < least:
        raise ValueError(f"{name} = {number} must be >= {least}: {meaning}")
    return number


def switch(name: str, value: Any, yes: str, no: str) -> bool:
    """`value`, which is True or False, or a ValueError with what either does: words are no switches."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} = {shown(value)}: give True ({yes}) or False ({no})")
    return value
