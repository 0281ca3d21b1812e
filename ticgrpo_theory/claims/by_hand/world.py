"""A world line in fractions: responses, probabilities, ratios, advantages, token weights, scores.

g_hat = sum_i sum_t c[i,t] (e_{a[i,t]} - pi(. | s[i,t-1])),   c = scale A ratio 1{ratio inside the clip}
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement

from ticgrpo_theory.claims.by_hand.interval import Interval
from ticgrpo_theory.claims.world_line import WorldLine

Table = list[list[Interval]]
ZERO = Interval.of(0)
Policy = list[list[Interval]]
"""Probabilities of every row."""


@dataclass(frozen=True)
class Response:
    """A response of one prompt."""

    tokens: tuple[int, ...]
    rows: tuple[int, ...]
    reward: Fraction

    @property
    def name(self) -> str:
        return "".join(map(str, self.tokens))

    def probabilities(self, policy: Policy) -> list[Interval]:
        """pi(a_t | s_{t-1}) of every token."""
        return [policy[s][a] for s, a in zip(self.rows, self.tokens, strict=True)]

    def probability(self, policy: Policy) -> Interval:
        return product(self.probabilities(policy))


@dataclass(frozen=True)
class Weighed:
    """One response of a group: its advantage, its scale, and the ratio and gate of every token."""

    response: Response
    A: Interval
    scale: Interval
    ratios: list[Interval]
    on: list[bool]

    @property
    def weights(self) -> list[Interval]:
        """c[t]."""
        return [self.scale * self.A * w if on else ZERO for w, on in zip(self.ratios, self.on, strict=True)]


@dataclass(frozen=True)
class Parts:
    """An estimator as a line spells it."""

    ratio: str
    advantage: str
    clip: str
    scale: str
    held: bool
    """Whether the score is that of theta_old."""

    @classmethod
    def of(cls, text: str) -> "Parts":
        ratio, advantage, clip, scale, *rest = text.split("+")
        return cls(ratio, advantage, clip, scale, rest == ["old"])


def product(factors: Sequence[Interval]) -> Interval:
    found = Interval.of(1)
    for factor in factors:
        found = found * factor
    return found


def prompts(line: WorldLine) -> list[list[Response]]:
    """Every response of every prompt; prompts are equally likely."""
    row_of = {prefix: i for i, prefix in enumerate(line.prefixes)}
    found = []
    for rewards in line.rewards():
        found.append(
            [
                Response(y, tuple(0 if line.rows else row_of[y[:t]] for t in range(len(y))), r)
                for y, r in zip(line.responses, rewards, strict=True)
            ]
        )
    return found


def policy(line: WorldLine, role: str) -> Policy:
    """The probabilities of `old`, `theta` or `ref`."""
    return [[Interval.of(Fraction(w, sum(row))) for w in row] for row in line.policy(role).weights]


def pooled(kind: str, token: Sequence[Interval], t: int) -> tuple[Interval, int]:
    """(w, n) where the ratio at token t is the n-th root of w."""
    if kind == "geometric":
        return product(token), len(token)
    taken = {"none": [], "token": token[t : t + 1], "prefix": token[: t + 1], "trajectory": token}
    return product(list(taken[kind])), 1


def bounds(clip: str, positive: bool, length: int) -> tuple[Interval | None, Interval | None]:
    """(lo, hi) on the ratio; None where there is no bound."""
    kind, *numbers = clip.split(":")
    if kind == "none":
        return None, None
    if kind == "upper":
        return None, 1 + Interval.of(Fraction(numbers[0]))
    if kind == "two":
        low, high = (None if x == "inf" else Interval.of(Fraction(x)) for x in numbers)
        if positive:
            return None, None if high is None else 1 + high
        return None if low is None else 1 - low, None
    if kind == "released":
        rate, cap, limit = (Interval.of(Fraction(x)) for x in numbers)
        upper = (rate * Interval.of(length).sqrt()).exp() if positive else cap
        return 1 / limit.exp(), upper
    raise ValueError(f"clip {clip!r}: none, upper:7/25, two:1/5:7/25 and released:... are stated")


def advantages(kind: str, rewards: Sequence[Fraction], moments: tuple[Interval, Interval]) -> list[Interval]:
    """A[i]; `moments` are mu and sigma of the reward under theta_old, for z."""
    G, mean = len(rewards), sum(rewards) / Fraction(len(rewards))
    if kind == "raw":
        return [Interval.of(r) for r in rewards]
    if kind == "z":
        return [(r - moments[0]) / moments[1] for r in rewards]
    if kind == "std":
        sigma = deviation(rewards)
        return [ZERO if max(rewards) == min(rewards) else (r - mean) / sigma for r in rewards]
    factor = {"centred": Fraction(1), "loo": Fraction(G, max(G - 1, 1))}[kind]
    return [Interval.of((r - mean) * factor) for r in rewards]


def deviation(rewards: Sequence[Fraction]) -> Interval:
    """sigma_G with 1/G."""
    mean = sum(rewards) / Fraction(len(rewards))
    return Interval.of(sum(((r - mean) ** 2 for r in rewards), Fraction(0)) / len(rewards)).sqrt()


def weighed(
    parts: Parts,
    group: Sequence[Response],
    now: Policy,
    old: Policy,
    moments: tuple[Interval, Interval],
    horizon: int,
) -> list[Weighed]:
    """Every response of a group with its advantage, scale, ratios and gates."""
    found = []
    total = sum(len(y.tokens) for y in group)
    for y, A in zip(group, advantages(parts.advantage, [y.reward for y in group], moments), strict=True):
        token = [p / q for p, q in zip(y.probabilities(now), y.probabilities(old), strict=True)]
        n = len(token)
        share = {"mean": len(group) * n, "tokens": total, "sum": len(group), "constant": len(group) * horizon}
        lo, hi = bounds(parts.clip, Interval.of(0).at_most(A), n)
        ratios, on = [], []
        for t in range(n):
            w, k = pooled(parts.ratio, token, t)
            inside = (lo is None or power(lo, k).at_most(w)) and (hi is None or w.at_most(power(hi, k)))
            on.append(inside)
            ratios.append(w if k == 1 else (w.log() / k).exp())
        found.append(Weighed(y, A, Interval.of(Fraction(1, share[parts.scale])), ratios, on))
    return found


def power(x: Interval, n: int) -> Interval:
    return product([x] * n)


def scores(pairs: Sequence[tuple[Response, Sequence[Interval]]], at: Policy) -> Table:
    """sum over (y, c) of sum_t c[t] (e_{a_t} - pi(. | s_{t-1})) in row s_{t-1}."""
    found = [[ZERO] * len(row) for row in at]
    for y, c in pairs:
        for s, a, weight in zip(y.rows, y.tokens, c, strict=True):
            found[s] = [x + weight * ((1 if a == b else 0) - at[s][b]) for b, x in enumerate(found[s])]
    return found


def groups(every: Sequence[Response], old: Policy, size: int) -> Iterator[tuple[Interval, list[Response]]]:
    """(probability, members) of every group of one prompt, whatever its order."""
    chances = [y.probability(old) for y in every]
    for members in combinations_with_replacement(range(len(every)), size):
        orders = math.factorial(size)
        for repeats in Counter(members).values():
            orders //= math.factorial(repeats)
        chance = product([chances[i] for i in members]) * orders
        yield chance, [every[i] for i in members]
