"""Numbers and worlds of certificates: intervals between two fractions, and a world line read into tables.

Python's standard library alone; nothing of the package, and nothing of the other way round.
"""

from fractions import Fraction as F
from functools import reduce
from itertools import product
from math import floor, isqrt
from operator import mul

BITS = 136
ONE = 1 << BITS


class N:
    """lo..hi: a fraction where they are equal; ends of too many bits move outwards."""

    def __init__(self, lo, hi=None):
        hi = lo if hi is None else hi
        self.lo, self.hi = self.short(F(lo)), -self.short(-F(hi))

    @staticmethod
    def short(x):
        return x if x.denominator.bit_length() < 3 * BITS else F(floor(x * ONE), ONE)

    def __add__(self, other):
        other = number(other)
        return N(self.lo + other.lo, self.hi + other.hi)

    def __neg__(self):
        return N(-self.hi, -self.lo)

    def __sub__(self, other):
        return self + -number(other)

    def __mul__(self, other):
        other = number(other)
        if self.lo == self.hi and other.lo == other.hi:
            return N(self.lo * other.lo)
        ends = [a * b for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        return N(min(ends), max(ends))

    def __truediv__(self, other):
        other = number(other)
        need(other.lo > 0 or other.hi < 0, "a divisor that may be 0")
        return self * N(1 / other.hi, 1 / other.lo)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return number(other) - self

    def __le__(self, other):
        other = number(other)
        need(self.hi <= other.lo or self.lo > other.hi, "a comparison that the intervals leave open")
        return self.hi <= other.lo

    def sqrt(self):
        def low(x):
            a, b = isqrt(x.numerator), isqrt(x.denominator)
            return (
                F(a, b)
                if (a * a, b * b) == (x.numerator, x.denominator)
                else F(isqrt(floor(x * ONE * ONE)), ONE)
            )

        lo, hi = low(max(self.lo, F(0))), low(self.hi)
        return N(lo, hi if hi * hi == self.hi else hi + F(1, ONE))

    def exp(self):
        return N(series(self.lo)[0], series(self.hi)[1])

    def log(self):
        """2 atanh((x - 1) / (x + 1)) of a root of x that is close to 1."""
        need(self.lo > 0, "the logarithm of what may not be above 0")
        x, k = self, 1
        while x.hi > F(9, 8) or x.lo < F(8, 9):
            x, k = x.sqrt(), k + 1
        z = (x - 1) / (x + 1)
        power, total = z, z
        for n in range(1, 30):  # |z| <= 1/17: what is left is below 17^-59
            power = power * z * z
            total = total + power / (2 * n + 1)
        return (total + N(F(-1, 17**58), F(1, 17**58))) * 2**k


def number(x):
    return x if isinstance(x, N) else N(x)


def need(condition, words):
    if not condition:
        raise ValueError(words)


def series(x):
    """(below, above) e^x: Taylor of x / 2^k in integers, squared k times."""
    k = floor(abs(x)).bit_length() + 2
    unit = 1 << (BITS + 24 + k)
    y, term, total, n = floor(x * unit) >> k, unit, unit, 0
    while abs(term) > 1:
        n += 1
        term = term * y // (unit * n)
        total += term
    found = N(F(total - 2 * n - 9, unit), F(total + 2 * n + 9, unit))
    for _ in range(k):
        found = found * found
    return found.lo, found.hi


def read_line(text):
    """A world line as a dictionary: responses, rewards of every prompt, rows and policies."""
    given = dict(word.split("=", 1) for word in text.split())
    need(len(given) == len(text.split()), f"a key given twice in {text!r}")
    V, T, eos = int(given["V"]), int(given["T"]), int(given.get("EOS", -1))

    def beyond(y):
        return [y] if len(y) == T or (y and y[-1] == eos) else [z for a in range(V) for z in beyond((*y, a))]

    every, one = beyond(()), given.get("rows") == "one"
    prefixes = [p for t in range(T) for p in product([a for a in range(V) if a != eos], repeat=t)]
    row = {p: 0 if one else i for i, p in enumerate(prefixes)}
    r = given["r"]
    if r.startswith("#0>="):
        rewards = [[F(y.count(0) >= int(r[4:])) for y in every]]
    else:
        rewards = [[F(x) for x in part.split(",")] for part in r.split("|")]
    need(all(len(part) == len(every) for part in rewards), "not one reward for each response")

    def policy(word):
        rows = [[F(x) for x in each.split(":")] for each in given[word].split(",")]
        rows = [[p[0], 1 - p[0]] if len(p) == 1 else p for p in rows]
        rows = rows * (1 if one else len(prefixes)) if len(rows) == 1 else rows
        need(len(rows) == (1 if one else len(prefixes)), f"not one row of {word} for each prefix")
        need(all(sum(p) == 1 and min(p) > 0 and len(p) == V for p in rows), f"{word}: no probabilities")
        return [[N(p) for p in each] for each in rows]

    return {
        "T": T,
        "prompts": [
            [(y, [row[y[:t]] for t in range(len(y))], x) for y, x in zip(every, part, strict=True)]
            for part in rewards
        ],
        "old": policy("old"),
        "theta": policy("theta" if "theta" in given else "old"),
        "ref": policy("ref") if "ref" in given else None,
        "G": given.get("G"),
        "estimator": given.get("estimator"),
        "eta": F(given.get("eta", 0)),
        "group": given["group"].split(",") if "group" in given else None,
    }


def times(factors):
    return reduce(mul, factors, N(1))


def add(numbers):
    return reduce(lambda a, b: a + b, numbers, N(0))


def probabilities(y, policy):
    return [policy[s][a] for s, a in zip(y[1], y[0], strict=True)]


def chance(y, policy):
    return times(probabilities(y, policy))


def scores(pairs, at):
    """sum of c[t] (e_a - pi) over responses, by rows."""
    table = [[N(0)] * len(row) for row in at]
    for y, c in pairs:
        for s, a, weight in zip(y[1], y[0], c, strict=True):
            table[s] = [x + weight * (N(int(a == b)) - at[s][b]) for b, x in enumerate(table[s])]
    return table


def both(left, right, sign=1):
    return [[a + b * sign for a, b in zip(*rows, strict=True)] for rows in zip(left, right, strict=False)]


def scaled(factor, table):
    return [[factor * x for x in row] for row in table]


def dot(left, right):
    return add(a * b for rows in zip(left, right, strict=True) for a, b in zip(*rows, strict=False))


def deviation(rewards):
    mean = sum(rewards) / F(len(rewards))
    return N(sum((r - mean) ** 2 for r in rewards) / F(len(rewards))).sqrt()
