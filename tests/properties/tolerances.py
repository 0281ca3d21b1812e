"""Named tolerances for `torch.testing.assert_close`: no test writes a number of its own."""

Tolerance = dict[str, float]

EXACT: Tolerance = {"atol": 1e-12, "rtol": 1e-12}
"""Both sides in float64, neither sampled; relative to the value where that is large."""

SAME_BITS: Tolerance = {"atol": 0.0, "rtol": 0.0}
"""The same sums in the same order."""

DIFFERENCED: Tolerance = {"atol": 1e-8, "rtol": 1e-8}
"""One side is a five-point difference, which loses about four digits of float64."""

SINGLE: Tolerance = {"atol": 2e-6, "rtol": 2e-6}
"""One side in float32: 16 units in the last place at values of order one."""

VISIBLE = 1e-2
"""Least gap that a check which must fail has to show: ten orders of magnitude above EXACT."""

MOVES = 1e-4
"""Least change of a number that is said to depend on something: eight orders of magnitude above EXACT."""


def PRINTED(digits: int) -> Tolerance:
    """Half a unit in the last of `digits` printed decimals, and a little for rounding."""
    return {"atol": 0.5001 * 10.0**-digits, "rtol": 0.0}
