"""Fractions, and intervals between two of them where a number is not rational."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

BITS = 128
"""An end with a denominator of more than 2 BITS bits is moved outwards to a multiple of 2^-BITS."""
UNIT, CUT = 1 << BITS, 1 << BITS + 16


def below(x: Fraction) -> Fraction:
    """A fraction of few bits that is at most x; x itself where it has few."""
    return x if x.denominator.bit_length() <= 2 * BITS else Fraction(math.floor(x * UNIT), UNIT)


@dataclass(frozen=True)
class Interval:
    """All numbers from lo to hi; a fraction where the two are equal."""

    lo: Fraction
    hi: Fraction

    @classmethod
    def of(cls, x: Interval | Fraction | int) -> Interval:
        return x if isinstance(x, Interval) else cls(Fraction(x), Fraction(x))

    @classmethod
    def over(cls, *ends: Fraction) -> Interval:
        """The smallest that has all ends, with few bits."""
        return cls(below(min(ends)), -below(-max(ends)))

    @property
    def exact(self) -> bool:
        return self.lo == self.hi

    def __add__(self, other: Interval | Fraction | int) -> Interval:
        other = Interval.of(other)
        return Interval.over(self.lo + other.lo, self.hi + other.hi)

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)

    def __sub__(self, other: Interval | Fraction | int) -> Interval:
        return self + -Interval.of(other)

    def __mul__(self, other: Interval | Fraction | int) -> Interval:
        other = Interval.of(other)
        return Interval.over(*(a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)))

    def __truediv__(self, other: Interval | Fraction | int) -> Interval:
        """Raises ValueError where the divisor may be zero."""
        other = Interval.of(other)
        if other.lo <= 0 <= other.hi:
            raise ValueError(f"division by {other}, which may be zero")
        return self * Interval(1 / other.hi, 1 / other.lo)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Fraction | int) -> Interval:
        return Interval.of(other) - self

    def __rtruediv__(self, other: Fraction | int) -> Interval:
        return Interval.of(other) / self

    def at_most(self, other: Interval | Fraction | int) -> bool:
        """Whether self <= other. Raises ValueError where the intervals leave it open."""
        other = Interval.of(other)
        if self.hi <= other.lo:
            return True
        if self.lo > other.hi:
            return False
        raise ValueError(f"{self} <= {other} is open: the intervals overlap")

    def sqrt(self) -> Interval:
        return Interval(root(max(self.lo, Fraction(0)))[0], root(max(self.hi, Fraction(0)))[1])

    def exp(self) -> Interval:
        return Interval(exponential(self.lo)[0], exponential(self.hi)[1])

    def log(self) -> Interval:
        return Interval(logarithm(self.lo)[0], logarithm(self.hi)[1])

    def __str__(self) -> str:
        """The fraction where it is a short one, else ten digits."""
        if self.exact and self.lo.denominator < 10**9:
            return str(self.lo)
        if self.lo < 0 < self.hi:
            return "~0"
        return f"{'' if self.exact else '~'}{float((self.lo + self.hi) / 2):.10g}"


def root(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two fractions around sqrt x; the same one twice where it is rational."""
    a, b = math.isqrt(x.numerator), math.isqrt(x.denominator)
    if a * a == x.numerator and b * b == x.denominator:
        return Fraction(a, b), Fraction(a, b)
    floor = math.isqrt(math.floor(x * UNIT * UNIT))
    return Fraction(floor, UNIT), Fraction(floor + 1, UNIT)


def exponential(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two fractions around e^x: the series of e^(x / 2^k), |x / 2^k| < 1/2, squared k times."""
    if x == 0:
        return Fraction(1), Fraction(1)
    halvings = max(0, math.ceil(abs(x)).bit_length() + 1)
    y = x / 2**halvings
    term, total, n = Fraction(1), Fraction(1), 0
    while abs(term) > Fraction(1, CUT):
        n += 1
        term = term * y / n
        term = Fraction(math.floor(term * CUT), CUT)
        total += term
    # Each of n terms was cut by less than 1 / CUT, and the rest of the series is below the last one.
    wide = Fraction(4 * n + 4, CUT)
    found = Interval.over(total - wide, total + wide)
    for _ in range(halvings):
        found = found * found
    return found.lo, found.hi


def logarithm(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two fractions around log x = 2 atanh((x - 1) / (x + 1)), x brought close to 1 by square roots."""
    if x <= 0:
        raise ValueError(f"log {x} does not exist: a probability above 0 is needed")
    if x == 1:
        return Fraction(0), Fraction(0)
    found, halvings = Interval(x, x), 0
    while found.hi > Fraction(11, 10) or found.lo < Fraction(10, 11):
        found, halvings = found.sqrt(), halvings + 1
    z = (found - 1) / (found + 1)
    square, power, total, n = z * z, z, Interval.of(0), 0
    while n < BITS:
        total, power, n = total + power / (2 * n + 1), power * square, n + 1
    rest = max(abs(power.lo), abs(power.hi)) * 2
    found = (total + Interval(-rest, rest)) * 2 * 2**halvings
    return found.lo, found.hi
