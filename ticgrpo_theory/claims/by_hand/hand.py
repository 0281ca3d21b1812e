"""A world line with what is computed of it again and again: g_hat, means over groups, steps, J and grad J."""

from collections.abc import Callable
from fractions import Fraction
from functools import reduce

from ticgrpo_theory.claims.by_hand.interval import Interval
from ticgrpo_theory.claims.by_hand.world import (
    ZERO,
    Parts,
    Policy,
    Response,
    Table,
    groups,
    policy,
    prompts,
    scores,
    weighed,
)
from ticgrpo_theory.claims.world_line import WorldLine

Value = Interval | Table


class Hand:
    """A world line and what can be computed of it. `tell` is given every step, as a line of text."""

    def __init__(self, line: WorldLine, tell: Callable[[str], None] = lambda text: None) -> None:
        self.line, self.tell = line, tell
        self.prompts = prompts(line)
        self.old = policy(line, "old")
        self.now = policy(line, "theta")

    def role(self, name: str) -> Policy:
        return self.old if name == "old" else self.now if name == "theta" else policy(self.line, name)

    def update(self, spelled: str | None, size: int | None) -> tuple[Parts, int]:
        """Estimator and group size, those of the line where they are left out."""
        parts = Parts.of(spelled or str(self.line.estimator))
        size = self.line.G if size is None else size
        if size is None:
            raise ValueError(f"the line {self.line} states no group size: add G=2, say")
        if size == 0:
            return Parts(parts.ratio, "z", parts.clip, parts.scale, parts.held), 1
        return parts, size

    def moments(self, every: list[Response]) -> tuple[Interval, Interval]:
        """mu and sigma of the reward of one prompt under theta_old."""
        chances = [y.probability(self.old) for y in every]
        mean = total([p * y.reward for p, y in zip(chances, every, strict=True)])
        variance = total(
            [p * (y.reward - mean) * (y.reward - mean) for p, y in zip(chances, every, strict=True)]
        )
        return mean, variance.sqrt()

    def gradient(self, parts: Parts, group: list[Response], now: Policy, every: list[Response]) -> Table:
        """g_hat of one group."""
        found = weighed(parts, group, now, self.old, self.moments(every), self.line.T)
        return scores([(each.response, each.weights) for each in found], self.old if parts.held else now)

    def over_groups(self, size: int, f: Callable[[list[Response], list[Response]], Table]) -> Table:
        """E of f(group, every response of its prompt)."""
        found = None
        for every in self.prompts:
            for chance, group in groups(every, self.old, size):
                each = times(chance / len(self.prompts), f(group, every))
                found = each if found is None else plus(found, each)
        assert found is not None
        return found

    def stepped(self, parts: Parts, group: list[Response], every: list[Response], steps: int) -> Policy:
        """The policy after steps of eta on one group: p exp(eta g) / sum, as logits move."""
        now = self.old
        for _ in range(steps):
            g = self.gradient(parts, group, now, every)
            odds = [
                [p * (x * Interval.of(self.line.eta or 0)).exp() for p, x in zip(row, moves, strict=True)]
                for row, moves in zip(now, g, strict=True)
            ]
            now = [[x / total(row) for x in row] for row in odds]
        return now

    def value_of(self, now: Policy) -> Interval:
        """J."""
        every = [y for prompt in self.prompts for y in prompt]
        return total([y.probability(now) * y.reward for y in every]) / len(self.prompts)

    def gradient_of(self, now: Policy) -> Table:
        """grad J."""
        every = [y for prompt in self.prompts for y in prompt]
        share = Fraction(1, len(self.prompts))
        return scores([(y, [y.probability(now) * y.reward * share] * len(y.tokens)) for y in every], now)


def total(numbers: list[Interval]) -> Interval:
    return reduce(lambda a, b: a + b, numbers, ZERO)


def times(factor: Interval, table: Table) -> Table:
    return [[factor * x for x in row] for row in table]


def plus(left: Table, right: Table) -> Table:
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def spelled(value: Value) -> str:
    """A number, or the rows of a table; of two tokens the first, as the second is its negative."""
    if isinstance(value, Interval):
        return str(value)
    if all(len(row) == 2 for row in value):
        return f"({', '.join(str(row[0]) for row in value)}) for token 0 of each row"
    return "; ".join("(" + ", ".join(map(str, row)) + ")" for row in value)


def short(value: Value) -> str:
    """As `spelled`, without its words."""
    return spelled(value).removesuffix(" for token 0 of each row")
