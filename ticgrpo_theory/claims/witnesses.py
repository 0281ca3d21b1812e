"""The worlds and policies on which claims are decided, small enough that both engines list every group.

All policies have logits that are logarithms of small integers, so that ball arithmetic starts from fractions.
Estimators are taken at delta = 0, as in Eq. 5 to 11; Algorithms 1 and 2 add delta, the catalogue 1e-6.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from flint import arb
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.enclosures import Matrix, precision
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.claims.claim import Witness
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.estimators.catalogue import (
    dapo,
    grpo,
    name_of,
    no_is,
    stale,
    tic_grpo,
    tic_grpo_eq11,
)
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.worlds.catalogue import WORLDS
from ticgrpo_theory.worlds.mdp import TokenMDP


@dataclass(frozen=True, eq=False)
class Case:
    """A world, the policy that drew the responses, and the one whose gradient is the target."""

    world: str
    """In words, for the certificate."""
    mdp: TokenMDP
    old: IntegerPolicy
    now: IntegerPolicy

    @property
    def theta(self) -> Float[Tensor, "S V"]:
        return self.now.logits()

    @property
    def theta_old(self) -> Float[Tensor, "S V"]:
        return self.old.logits()

    def at_old(self) -> "Case":
        """The same before any drift."""
        return Case(self.world, self.mdp, self.old, self.old)

    def nearer(self, share: float) -> Float[Tensor, "S V"]:
        """theta_old + share (theta - theta_old)."""
        return self.theta_old + share * (self.theta - self.theta_old)

    def witness(
        self,
        quantity: str,
        ball: Callable[[], arb],
        float64: float,
        estimator: Estimator | str = "",
        group_size: int | float | None = None,
        **others: IntegerPolicy,
    ) -> Witness:
        """The number `float64` again as a ball."""
        with precision():
            enclosed = ball()
        roles = {"theta_old": self.old} | ({} if self.now is self.old else {"theta": self.now}) | others
        named = estimator if isinstance(estimator, str) else spelled(estimator)
        size = group_size if group_size is None or group_size != math.inf else "infinite"
        return Witness(quantity, self.world, named, size, roles, enclosed, float64)  # type: ignore[arg-type]

    def expected(self, estimator: Estimator, group_size: int | float) -> Float[Tensor, "S V"]:
        return expected_gradient(self.mdp, self.theta, self.theta_old, estimator, group_size)

    def enclosed(self, estimator: Estimator, group_size: int) -> Matrix:
        return enclosures.expected_gradient(self.mdp, self.now, self.old, estimator, group_size)

    def gradient(self) -> Float[Tensor, "S V"]:
        """grad J(theta)."""
        return policy_gradient(self.mdp, self.theta)

    def gradient_old(self) -> Float[Tensor, "S V"]:
        """grad J(theta_old)."""
        return policy_gradient(self.mdp, self.theta_old)


def norm(matrix: Matrix) -> arb:
    """The Euclidean norm over all logits, as a ball; one around zero where zero cannot be excluded."""
    square = enclosures.squared_norm(matrix)
    return arb(0, square.abs_upper().sqrt()) if square.contains(0) else square.sqrt()


def spelled(estimator: Estimator) -> str:
    """The name it has below, else its catalogue name or axes."""
    return next((name for name, each in NAMED.items() if each == estimator), name_of(estimator))


def tree(horizon: int, reward: Sequence[int | float], eos: int | None = None) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=horizon, reward=reward, eos=eos)


OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))
NOW = IntegerPolicy(((5, 2), (3, 5), (4, 2)))

ANSWERS = Case(
    "prefix tree, V = 2, T = 3, token 1 ends a response; rewards of 000, 001, 01, 1 are 1, 0, 0, 1",
    tree(3, [1, 0, 0, 1], eos=1),
    OLD,
    NOW,
)
"""Two rewards, three lengths: token and trajectory ratios inside, above and below the clip."""

GRADED = Case(
    "prefix tree, V = 2, T = 3, token 1 ends a response; rewards of 000, 001, 01, 1 are 1, 0.3, 0, 1",
    tree(3, [1, 0.3, 0, 1], eos=1),
    OLD,
    NOW,
)
"""The same with three rewards."""

MATCH = Case(
    "prefix tree, V = 2, T = 2, no end token; reward 1 where the two tokens are equal",
    tree(2, [1, 0, 0, 1]),
    OLD,
    NOW,
)
"""Two rewards, one length, one prompt: what the theorems need and do not say."""

MARKS = Case(
    "prefix tree, V = 2, T = 2, no end token; rewards of 00, 01, 10, 11 are 1, 0.3, 0, 1",
    tree(2, [1, 0.3, 0, 1]),
    OLD,
    NOW,
)
"""Three rewards, one length."""

RARE = Case(
    "prefix tree, V = 2, T = 2, no end token; reward 1 for 00 alone",
    tree(2, [1, 0, 0, 0]),
    IntegerPolicy(((2, 3), (2, 3), (1, 1))),
    IntegerPolicy(((1, 1), (1, 1), (1, 1))),
)
"""One right answer, early in training: J = 4/25."""

XOR = Case(
    "two tokens from one shared row, V = 2; reward 1 where they differ: J = 2 p (1 - p)",
    WORLDS["xor"].build(),
    IntegerPolicy(((7, 3),)),
    IntegerPolicy(((3, 2),)),
)
"""An optimum inside the simplex, at p = 1/2."""

TRAP = "one shared row, V = 2, T = 3, token 1 ends a response; reward 1 where the length is 2: J = p (1 - p)"


def length_trap(p: int, q: int) -> Case:
    """At token probabilities p : q. J is largest at 1/2; 1/|s| moves the fixed point to 0.66."""
    policy = IntegerPolicy(((p, q),))
    return Case(TRAP, WORLDS["length-trap"].build(), policy, policy)


def prompt_trap(p: int, q: int) -> Case:
    """At token probabilities p : q. J is largest at 3/4; each group's own sigma moves the fixed point up."""
    policy = IntegerPolicy(((p, q),))
    world = "two equally likely prompts on one shared row, V = 2, T = 2: right where the tokens differ, or "
    return Case(world + "where the first is 0", WORLDS["prompt-trap"].build(), policy, policy)


GRPO = grpo(0.2, 0.28, delta=0.0)
TIC_EQ11 = tic_grpo_eq11(0.28, delta=0.0)
TIC = tic_grpo(0.28, delta=0.0)
DAPO = dapo(0.2, 0.28, delta=0.0)
STALE, NO_IS = stale(delta=0.0), no_is(delta=0.0)

STANDARDISED = standardised(delta=0.0)
FREE_GRPO = Estimator(ratios.token, STANDARDISED, unclipped(), sequence_mean)
"""Eq. 6 without its clip."""
FREE_TIC = Estimator(ratios.trajectory, STANDARDISED, unclipped(), sequence_mean)
"""Eq. 11 without its clip."""
FREE_TIC_SUM = Estimator(ratios.trajectory, STANDARDISED, unclipped(), sequence_sum)
"""The gradient of Eq. 9 without its clip."""


NAMED = {
    "grpo(0.2, 0.28, delta=0)": GRPO,
    "tic_grpo_eq11(0.28, delta=0)": TIC_EQ11,
    "tic_grpo(0.28, delta=0)": TIC,
    "dapo(0.2, 0.28, delta=0)": DAPO,
    "stale(delta=0)": STALE,
    "no_is(delta=0)": NO_IS,
    "grpo(delta=0) without clip": FREE_GRPO,
    "tic_grpo_eq11(delta=0) without clip": FREE_TIC,
    "tic_grpo(delta=0) without clip": FREE_TIC_SUM,
}
"""How certificates name them."""


def infinite(estimator: Estimator) -> Estimator:
    """The estimator of which one response alone has the mean of an infinite group: A = z under theta_old."""
    return Estimator(estimator.ratio, population(delta=0.0), estimator.clip, estimator.scale, estimator.score)


def size(table: Tensor) -> float:
    """The Euclidean norm over all logits."""
    return float(torch.linalg.vector_norm(table))
