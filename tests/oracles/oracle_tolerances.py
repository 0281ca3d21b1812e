"""The tolerances of the oracle's own tests."""

import pytest

EXACT = {"rel": 1e-12, "abs": 1e-12}


def printed(value: float, digits: int):
    """Equal to a value printed with so many decimals."""
    return pytest.approx(value, abs=0.51 * 10.0**-digits, rel=0)


def assert_tables_equal(got, expected) -> None:
    """Every entry equal to 1e-12, row by row."""
    for row, other in zip(got, expected, strict=True):
        assert row == pytest.approx([float(x) for x in other], **EXACT)
