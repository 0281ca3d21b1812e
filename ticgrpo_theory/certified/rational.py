"""Worlds and policies as fractions: logits that are logarithms of small integers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from flint import fmpq
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.mdp import TokenMDP


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


@dataclass(frozen=True)
class Response:
    """Rows and tokens of one response, and its reward as a fraction."""

    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    reward: fmpq

    def prob(self, policy: IntegerPolicy) -> fmpq:
        return product(self.token_probs(policy))

    def token_probs(self, policy: IntegerPolicy) -> list[fmpq]:
        return [policy.prob(s, a) for s, a in zip(self.rows, self.tokens, strict=True)]


def product(factors: Sequence[fmpq]) -> fmpq:
    result = fmpq(1)
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
