"""How many groups there are; inf where forming the number would take long or nobody could list them.

multisets   C(N + G - 1, G)        sequences   N^G        of G out of N responses
"""

import math

LARGEST = 10**30
"""Counts up to here are whole numbers; forming that of a group of 10^9 might take minutes."""


def multisets(N: int, G: int) -> int | float:
    """C(N + G - 1, G); inf beyond LARGEST."""
    fewer = min(G, N - 1)
    # C(n, k) with 2 k <= n is at least C(2 k, k), and C(130, 65) = 9.5e37.
    return at_most(math.comb(N + G - 1, fewer)) if fewer < 65 else math.inf


def sequences(N: int, G: int) -> int | float:
    """N^G; inf beyond LARGEST."""
    return at_most(N**G) if N == 1 or G < 100 else math.inf


def at_most(count: int) -> int | float:
    """The count, or inf beyond LARGEST."""
    return count if count <= LARGEST else math.inf


def written(count: int | float) -> str:
    """The count in words of an error message."""
    return f"{count:,}" if count <= LARGEST else f"more than 10^{math.log10(LARGEST):.0f}"
