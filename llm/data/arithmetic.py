"""Generated problems: an n-digit times a 1-digit factor, with worked steps, for training without any data.

    347*8=      ->      7*8=56;4*8+5=37;3*8+3=27
                        Answer: 2776

The response goes from the last digit to the first and adds the carry where there is one, so that its length
varies within a level. The level is n. Half of the problems of every level are held out, the same half for
every request with the same seed, so that training and held-out problems never meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ticgrpo_theory.stats.rng import stream

SPLITS = ("train", "held_out")
FACTORS = range(2, 10)
"""One-digit factors; 0 and 1 leave nothing to work out."""
MAX_LEVEL = 5
"""Digits of the first factor; the problems of a level are shuffled as a whole, 720,000 at level 5."""

ALPHABET = "0123456789*+=;:\nAnswer "
"""Characters of all problems and responses."""


@dataclass(frozen=True)
class Multiplication:
    """a * b, b of one digit."""

    a: int
    b: int

    @property
    def level(self) -> int:
        """Digits of a."""
        return len(str(self.a))

    @property
    def question(self) -> str:
        return f"{self.a}*{self.b}="

    @property
    def answer(self) -> int:
        return self.a * self.b

    def worked(self) -> str:
        """The response to learn from: one step for each digit, then the answer on a line of its own."""
        steps, carry = [], 0
        for digit in reversed(str(self.a)):
            product = int(digit) * self.b + carry
            steps.append(f"{digit}*{self.b}{f'+{carry}' if carry else ''}={product}")
            carry = product // 10
        return ";".join(steps) + f"\nAnswer: {self.answer}"


def numbered(level: int, number: int) -> Multiplication:
    """Problem `number` of a level, counted through all factors b of the smallest a first."""
    return Multiplication(10 ** (level - 1) + number // len(FACTORS), FACTORS[number % len(FACTORS)])


def size(level: int) -> int:
    """How many problems a level has: 9 10^(level - 1) times the number of factors."""
    return 9 * 10 ** (level - 1) * len(FACTORS)


def shares(count: int, available: Sequence[int]) -> list[int]:
    """`count` spread as evenly as the levels allow: small ones give all they have, the others the rest."""
    if not 1 <= count <= sum(available):
        raise ValueError(
            f"{count} problems requested, but these levels have {sum(available)} in this split; request "
            f"between 1 and that, or add levels (up to {MAX_LEVEL})"
        )
    given = [0] * len(available)
    left = count
    while left:
        open_levels = [i for i, most in enumerate(available) if given[i] < most]
        each = max(1, left // len(open_levels))
        for i in open_levels:
            more = min(each, available[i] - given[i], left)
            given[i] += more
            left -= more
    return given


def problems(split: str, count: int, levels: Sequence[int], seed: int) -> list[Multiplication]:
    """`count` distinct problems of a split, level after level, each level in an order drawn from the seed.

    Of a larger count, a smaller one takes the first of every level. Raises ValueError for an unknown split or
    level, and for more problems than there are.
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r}: generated problems have {' and '.join(SPLITS)}")
    if len(set(levels)) < len(levels) or not levels or not all(1 <= n <= MAX_LEVEL for n in levels):
        raise ValueError(f"levels = {tuple(levels)}: give distinct numbers of digits from 1 to {MAX_LEVEL}")
    available = [size(level) // 2 for level in levels]
    made = []
    for level, share in zip(levels, shares(count, available), strict=True):
        order = torch.randperm(size(level), generator=stream(seed, "arithmetic", level))
        half = size(level) // 2
        chosen = order[:half] if split == "train" else order[half:]
        made += [numbered(level, number) for number in chosen[:share].tolist()]
    return made
