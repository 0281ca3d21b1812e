"""Worlds that can be done by hand, and the moments of an estimator on a drawn case."""

import math

from hypothesis import settings

from tests.properties.strategies import Case
from ticgrpo_theory.exact import gradient_moments
from ticgrpo_theory.exact.moments.estimator_moments import Moments
from ticgrpo_theory.mdp import TokenMDP

# For V = 2, T = 3, token 1 ends: responses (0,0,0), (0,0,1), (0,1), (1); rows (), (0), (0,0).
OLD, THETA = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]], [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
REFERENCE = [[0.1, -0.6], [-0.5, 0.2], [0.5, -0.1]]

FEWER = settings(max_examples=max(10, settings.default.max_examples // 4))
"""For properties whose examples take long."""


def eos_tree(reward) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=list(reward), eos=1)


def coin(reward=(1.0, 0.0)) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=list(reward))


def odds(p: float) -> list[list[float]]:
    """Logits [1, 2] that give token 0 the probability p."""
    return [[math.log(p / (1 - p)), 0.0]]


def majority(T: int) -> TokenMDP:
    """One row for all tokens; r = 1 where at least half of the tokens are 0."""
    count = [[min(q + 1, T), q] for q in range(T + 1)]
    return TokenMDP.automaton(count, 2, T, lambda q, length: float(q >= T / 2), rows=[0] * (T + 1))


def case_moments(case: Case, estimator, G: int, method: str = "auto") -> Moments:
    return gradient_moments(case.mdp, case.theta, case.theta_old, estimator, group_size=G, method=method)
