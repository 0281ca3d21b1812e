"""How two micro-batches share out the rows of the groups of an update, in a fixed or in a random order."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, islice, product

import numpy as np
from jaxtyping import Int64

from ticgrpo_theory.exact.groups import sizes
from ticgrpo_theory.exact.groups.every_group import NotAffordable

Rows = tuple[int, int]
"""Rows of one group in the first and in the second micro-batch."""

Placed = tuple[tuple[int, Rows], ...]
"""(prompt, or 0 where it is drawn; rows) of every group that has a row in either."""

MAX_PLACEMENTS = 10_000

MAX_ORDERS = 1000


def placed(first: Int64[np.ndarray, " P"], second: Int64[np.ndarray, " P"], each: bool) -> Placed:
    """Groups with so many rows in two micro-batches; their order does not matter."""
    groups = np.flatnonzero(first + second)
    return tuple(sorted((int(g) if each else 0, (int(first[g]), int(second[g]))) for g in groups))


def alone(piece: Int64[np.ndarray, " P"], each: bool) -> Placed:
    """A micro-batch without a second one."""
    return placed(piece, np.zeros_like(piece), each)


def fixed_pairs(inside: Int64[np.ndarray, "P M"], each: bool) -> dict[tuple[Placed, Placed, Placed], int]:
    """How many ordered pairs of micro-batches share a group so, as (both, the first, the second)."""
    found: Counter[tuple[Placed, Placed, Placed]] = Counter()
    sharing = (inside.T @ inside) > 0
    for m, other in zip(*np.nonzero(sharing), strict=True):
        first, second = inside[:, m], inside[:, other]
        if m != other:
            found[placed(first, second, each), alone(first, each), alone(second, each)] += 1
    if len(found) > MAX_PLACEMENTS:
        raise NotAffordable(
            f"{len(found):,} kinds of pairs of micro-batches, more than MAX_PLACEMENTS = {MAX_PLACEMENTS:,}: "
            f"lower P, or cut whole groups"
        )
    return dict(found)


def random_placements(rows: Rows, P: int, G: int, each: bool) -> list[tuple[float, Placed]]:
    """(probability, groups) of two micro-batches of so many rows, cut off a random order of P G rows.

    Raises NotAffordable for more than MAX_PLACEMENTS.
    """
    ways = math.comb(P * G, rows[0]) * math.comb(P * G - rows[0], rows[1])
    # Single rows come last: whatever is left can be shared out so.
    shares = sorted(((k, n) for k, n in product(range(G + 1), repeat=2) if 0 < k + n <= G), key=sum)[::-1]
    every = each_group(rows, P, G) if each else any_groups(rows, P, G, shares)
    found = list(islice(every, MAX_PLACEMENTS + 1))
    if len(found) > MAX_PLACEMENTS:
        raise NotAffordable(
            f"micro-batches of {max(rows)} rows are cut off a random order of {P} groups in more than "
            f"MAX_PLACEMENTS = {MAX_PLACEMENTS:,} ways: lower their rows or P, or give the order"
        )
    return [(number / ways, groups) for number, groups in found]


def of_one(share: Rows, G: int) -> int:
    """Ways to choose these rows of one group."""
    return math.comb(G, share[0]) * math.comb(G - share[0], share[1])


def any_groups(rows: Rows, P: int, G: int, shares: list[Rows]) -> Iterator[tuple[int, Placed]]:
    """Numbers of ways by how many groups have each share, whichever they are."""
    if rows == (0, 0):
        yield 1, ()
        return
    if not shares or P == 0:
        return
    (k, n), later = shares[0], shares[1:]
    most = min(P, *(have // take for have, take in zip(rows, (k, n), strict=True) if take))
    for count in range(most + 1):
        here = math.comb(P, count) * of_one((k, n), G) ** count
        for number, groups in any_groups((rows[0] - count * k, rows[1] - count * n), P - count, G, later):
            yield here * number, ((0, (k, n)),) * count + groups


def each_group(rows: Rows, P: int, G: int) -> Iterator[tuple[int, Placed]]:
    """Numbers of ways by the share of every group."""
    if rows == (0, 0):
        yield 1, ()
        return
    if P * G < sum(rows):
        return
    for share in product(range(min(G, rows[0]) + 1), range(min(G, rows[1]) + 1)):
        if sum(share) <= G:
            left = (rows[0] - share[0], rows[1] - share[1])
            for number, groups in each_group(left, P - 1, G):
                own = ((P - 1, share),) if sum(share) else ()
                yield of_one(share, G) * number, own + groups


def orders(B: int, rows: int, otherwise: str = "") -> list[tuple[int, ...]]:
    """An order of B rows for each way to cut them into micro-batches, all equally likely in a random order.

    Raises NotAffordable for more than MAX_ORDERS, with why there is no other way.
    """
    M = B // rows
    ways = math.factorial(B) // (math.factorial(rows) ** M * math.factorial(M))
    if ways > MAX_ORDERS:
        raise NotAffordable(
            f"{B} rows in a random order are cut into micro-batches of {rows} in {sizes.written(ways)} ways, "
            f"more than MAX_ORDERS = {MAX_ORDERS:,}{'; ' if otherwise else ''}{otherwise}"
        )

    def cut(left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if not left:
            yield ()
            return
        # The first row that is left names its micro-batch.
        for others in combinations(left[1:], rows - 1):
            piece = (left[0], *others)
            for later in cut(tuple(b for b in left if b not in piece)):
                yield piece + later

    return list(cut(tuple(range(B))))
