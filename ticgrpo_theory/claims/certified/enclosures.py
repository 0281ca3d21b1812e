"""Expectations over whole groups as balls, and certificates of what they exclude."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations_with_replacement

from flint import arb, ctx, fmpq

from ticgrpo_theory.claims.certified.definitions import weights_of_group
from ticgrpo_theory.claims.certified.rational import (
    IntegerPolicy,
    Number,
    Policy,
    Response,
    fraction,
    product,
    responses,
)
from ticgrpo_theory.estimators.estimator import Estimator, old
from ticgrpo_theory.worlds.mdp import TokenMDP

BITS = 200
"""Working precision: 60 decimal digits, of which 30 are reported."""
DIGITS = 30
MAX_GROUPS = 200_000

Matrix = list[list[arb]]


def policy_gradient(mdp: TokenMDP, policy: Policy) -> Matrix:
    """grad J = sum_q weight_q sum_y P(y) r(y) sum_t psi(s_{t-1}, a_t)."""
    pairs = [
        (y, arb(fraction(weight) * y.prob(policy) * y.reward), [arb(1)] * len(y.tokens))
        for weight, prompt in mdp.prompts
        for y in responses(prompt)
    ]
    return score_sum(pairs, policy)


def expected_return(mdp: TokenMDP, policy: Policy) -> arb:
    """J = sum_q weight_q sum_y P(y) r(y)."""
    total = arb(0)
    for weight, prompt in mdp.prompts:
        for y in responses(prompt):
            total += arb(fraction(weight) * y.reward * y.prob(policy))
    return total


def score_sum(weighted: Sequence[tuple[Response, arb, Sequence[arb]]], policy: Policy) -> Matrix:
    """sum over (y, factor, c) of factor sum_t c[t] (e_{a_t} - pi(. | s_{t-1})) in row s_{t-1}."""
    S, V = len(policy.weights), len(policy.weights[0])
    M = [[arb(0)] * V for _ in range(S)]
    for y, factor, c in weighted:
        for s, a, weight in zip(y.rows, y.tokens, c, strict=True):
            M[s][a] += factor * weight
    totals = [sum(row, arb(0)) for row in M]
    return [[M[s][a] - arb(policy.prob(s, a)) * totals[s] for a in range(V)] for s in range(S)]


def groups(
    every: Sequence[Response], behaviour: IntegerPolicy, group_size: int
) -> Iterator[tuple[Number, list[Response]]]:
    """(probability, members) of every multiset of responses."""
    count = math.comb(len(every) + group_size - 1, group_size)
    if count > MAX_GROUPS:
        raise ValueError(
            f"{len(every)} responses in groups of {group_size} make {count:,} multisets, more than "
            f"MAX_GROUPS = {MAX_GROUPS:,}: certify on a smaller world or group"
        )
    probs = [y.prob(behaviour) for y in every]
    for members in combinations_with_replacement(range(len(every)), group_size):
        orders = math.factorial(group_size)
        for repeats in Counter(members).values():
            orders //= math.factorial(repeats)
        yield orders * product([probs[i] for i in members]), [every[i] for i in members]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A group, its probability with that of its prompt, and mu and sigma of the prompt's reward."""

    probability: arb
    members: list[Response]
    moments: tuple[arb, arb]


def drawn_groups(mdp: TokenMDP, behaviour: IntegerPolicy, group_size: int) -> Iterator[Drawn]:
    """Every group of every prompt."""
    for prompt_weight, prompt in mdp.prompts:
        every = responses(prompt)
        moments = reward_moments(every, behaviour)
        for probability, members in groups(every, behaviour, group_size):
            yield Drawn(arb(fraction(prompt_weight) * probability), members, moments)


def reward_moments(every: Sequence[Response], behaviour: IntegerPolicy) -> tuple[arb, arb]:
    """mu and sigma of the reward of one prompt."""
    mu = sum((y.prob(behaviour) * y.reward for y in every), fmpq(0))
    variance = sum((y.prob(behaviour) * (y.reward - mu) ** 2 for y in every), fmpq(0))
    return arb(mu), arb(variance).sqrt()


def group_gradient(
    mdp: TokenMDP, current: Policy, behaviour: IntegerPolicy, estimator: Estimator, group: Drawn
) -> Matrix:
    """g_hat of one group."""
    for name in ("penalty", "correction", "filter"):
        given = getattr(estimator, name)
        if given is not None:
            raise ValueError(f"no certificate for the {name} {given!r}: only {name}=None is stated")
    c = weights_of_group(estimator, group.members, current, behaviour, group.moments, mdp.horizon)
    weighted = [(y, arb(1), weights) for y, weights in zip(group.members, c, strict=True)]
    return score_sum(weighted, behaviour if estimator.score is old else current)


def expectation(
    mdp: TokenMDP, behaviour: IntegerPolicy, group_size: int, value: Callable[[Drawn], Matrix]
) -> Matrix:
    """sum over groups of probability value(group)."""
    return total(
        scaled(group.probability, value(group)) for group in drawn_groups(mdp, behaviour, group_size)
    )


def expected_gradient(
    mdp: TokenMDP, current: Policy, behaviour: IntegerPolicy, estimator: Estimator, group_size: int
) -> Matrix:
    """E[g_hat]."""

    def value(group: Drawn) -> Matrix:
        return group_gradient(mdp, current, behaviour, estimator, group)

    return expectation(mdp, behaviour, group_size, value)


def second_moment(
    mdp: TokenMDP, current: Policy, behaviour: IntegerPolicy, estimator: Estimator, group_size: int
) -> arb:
    """E||g_hat||^2."""

    def value(group: Drawn) -> Matrix:
        return [[squared_norm(group_gradient(mdp, current, behaviour, estimator, group))]]

    return expectation(mdp, behaviour, group_size, value)[0][0]


def total(matrices: Iterable[Matrix]) -> Matrix:
    """The sum of matrices of one shape."""
    return [
        [sum(entries, arb(0)) for entries in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)
    ]


def scaled(factor: arb, matrix: Matrix) -> Matrix:
    return [[factor * entry for entry in row] for row in matrix]


def difference(left: Matrix, right: Matrix) -> Matrix:
    return [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def inner(left: Matrix, right: Matrix) -> arb:
    return sum((a * b for rows in zip(left, right, strict=True) for a, b in zip(*rows, strict=True)), arb(0))


def squared_norm(matrix: Matrix) -> arb:
    return inner(matrix, matrix)


@dataclass(frozen=True)
class Certificate:
    """An enclosure midpoint +- radius, and what the float64 engine said of the same number."""

    midpoint: str
    radius: str
    excludes_zero: bool
    float64: float
    agreeing_digits: int


def certify(ball: arb, float64: float) -> Certificate:
    """The ball to 30 digits; agreeing_digits = floor(-log10 |float64 - ball| / |ball|), at most 17.

    Where the ball contains zero the error is absolute, not relative.
    """
    middle = ball.mid()
    error = abs(arb(float64) - middle) + ball.rad()
    size = abs(middle) if not ball.contains(0) else arb(1)
    relative = float(error / size) if bool(size > 0) else float(error)
    digits = 17 if relative == 0 else min(17, math.floor(-math.log10(relative)))
    return Certificate(
        midpoint=middle.str(DIGITS, radius=False),
        radius=ball.rad().str(3, radius=False),
        excludes_zero=not bool(ball.contains(0)),
        float64=float64,
        agreeing_digits=digits,
    )


def precision() -> AbstractContextManager[object]:
    """Context of BITS bits; enter it around every certified computation."""
    return ctx.workprec(BITS)
