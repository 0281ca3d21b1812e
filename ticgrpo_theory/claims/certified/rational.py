"""Worlds and policies as fractions: logits that are logarithms of small integers.

A policy that has taken a step from there has logits, and so probabilities, that are balls (`BallPolicy`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from flint import arb, fmpq
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.worlds.mdp import TokenMDP

Number = fmpq | arb


@dataclass(frozen=True)
class IntegerPolicy:
    """pi(a | s) = weights[s][a] / sum_b weights[s][b]; its logits are log weights[s][a]."""

    weights: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.weights or any(w < 1 for row in self.weights for w in row):
            raise ValueError(f"weights = {self.weights}: give one row or more of positive integers")

    def prob(self, row: int, token: int) -> fmpq:
        return fmpq(self.weights[row][token], sum(self.weights[row]))

    def logits(self) -> Float[Tensor, "S V"]:
        """log weights, the float64 table for the other engine."""
        return torch.tensor([[math.log(w) for w in row] for row in self.weights], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class BallPolicy:
    """pi(a | s) = exp(theta[s][a]) / sum_b exp(theta[s][b]) with logits that are balls."""

    logits: Sequence[Sequence[arb]]

    @cached_property
    def weights(self) -> list[list[arb]]:
        """exp(theta[s][a])."""
        return [[logit.exp() for logit in row] for row in self.logits]

    def prob(self, row: int, token: int) -> arb:
        return self.weights[row][token] / sum(self.weights[row], arb(0))

    @classmethod
    def at(cls, policy: IntegerPolicy) -> "BallPolicy":
        """The same policy, its logits enclosed."""
        return cls([[arb(w).log() for w in row] for row in policy.weights])


Policy = IntegerPolicy | BallPolicy


@dataclass(frozen=True)
class Response:
    """Rows and tokens of one response, and its reward as a fraction."""

    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    reward: fmpq

    def prob(self, policy: Policy) -> Number:
        return product(self.token_probs(policy))

    def token_probs(self, policy: Policy) -> list[Number]:
        return [policy.prob(s, a) for s, a in zip(self.rows, self.tokens, strict=True)]


def product(factors: Sequence[Number]) -> Number:
    result: Number = fmpq(1)
    for factor in factors:
        result *= factor
    return result


def fraction(value: float) -> fmpq:
    """The decimal that a float is written as: 0.3 is 3/10, not the nearest binary fraction."""
    exact = Fraction(repr(float(value)))
    return fmpq(exact.numerator, exact.denominator)


def responses(mdp: TokenMDP) -> list[Response]:
    """Every response of a single prompt."""
    graph = mdp.graph
    paths = graph.paths
    lengths = paths.mask.sum(axis=1)
    return [
        Response(tuple(rows[:n]), tuple(tokens[:n]), fraction(float(graph.reward[outcome])))
        for rows, tokens, n, outcome in zip(
            paths.rows.tolist(), paths.tokens.tolist(), lengths.tolist(), paths.outcome, strict=True
        )
    ]
