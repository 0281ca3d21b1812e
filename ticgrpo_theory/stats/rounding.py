"""Below which numbers a float64 result counts as zero, or has lost digits."""

ROUNDING = 1e-12
"""What float64 may leave of a number that is 0, or of the relative difference of two numbers that are equal.

Numbers here are of size one: rewards, returns, gradients. Sums of some thousand terms, each rounded by 2**-53
= 1.1e-16, stay below it by an order of magnitude, and no quantity that is shown is so small.
"""

SMALLEST = 2.0**-1022
"""The smallest positive float64 that has all its digits."""
