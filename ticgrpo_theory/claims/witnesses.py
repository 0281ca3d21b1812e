"""The worlds and policies on which claims are decided, small enough that both engines list every group.

All policies have logits that are logarithms of small integers, so that ball arithmetic starts from fractions.
Estimators are taken at delta = 0, as in Eq. 5 to 11; Algorithms 1 and 2 add delta, the catalogue 1e-6.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from flint import arb
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.claims.by_hand.formulas import value
from ticgrpo_theory.claims.by_hand.hand import Hand, short
from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.enclosures import Matrix, precision
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.claims.claim import Witness
from ticgrpo_theory.claims.world_line import WorldLine, parse
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, population, raw, standardised
from ticgrpo_theory.estimators.catalogue import (
    dapo,
    grpo,
    no_is,
    stale,
    tic_grpo,
    tic_grpo_eq11,
)
from ticgrpo_theory.estimators.clipping import by_sign_and_length, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.estimator import Estimator, old
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.worlds.mdp import TokenMDP


@dataclass(frozen=True, eq=False)
class Case:
    """A world, the policy that drew the responses, and the one whose gradient is the target, as one line."""

    line: WorldLine

    @classmethod
    def of(cls, text: str) -> "Case":
        return cls(parse(text))

    @cached_property
    def mdp(self) -> TokenMDP:
        return self.line.mdp()

    @cached_property
    def old(self) -> IntegerPolicy:
        return self.line.policy("old")

    @cached_property
    def now(self) -> IntegerPolicy:
        return self.line.policy("theta")

    @property
    def theta(self) -> Float[Tensor, "S V"]:
        return self.now.logits()

    @property
    def theta_old(self) -> Float[Tensor, "S V"]:
        return self.old.logits()

    def at_old(self) -> "Case":
        """The same before any drift."""
        return Case(self.line.at_old())

    def with_reference(self, rows: str) -> "Case":
        """The same with a reference policy."""
        return Case.of(f"{self.line} ref={rows}")

    def nearer(self, share: float) -> Float[Tensor, "S V"]:
        """theta_old + share (theta - theta_old)."""
        return self.theta_old + share * (self.theta - self.theta_old)

    def stated(
        self,
        estimator: Estimator | None = None,
        group_size: int | float | None = None,
        steps: int | None = None,
        eta: float | None = None,
        group: Sequence[int] | None = None,
    ) -> WorldLine:
        """The line with what a number is taken of."""
        return replace(
            self.line,
            estimator=axes(estimator) if estimator is not None else None,
            G=None if group_size is None else 0 if group_size == math.inf else int(group_size),
            K=steps,
            eta=None if eta is None else Fraction(repr(float(eta))),
            group=None if group is None else tuple(self.line.responses[i] for i in group),
        )

    def witness(
        self,
        quantity: str,
        ball: Callable[[], arb],
        float64: float,
        estimator: Estimator | None = None,
        group_size: int | float | None = None,
        formula: str = "",
        **update: Any,
    ) -> Witness:
        """The number `float64` again as a ball; `update` is what `stated` takes besides."""
        with precision():
            enclosed = ball()
        line = self.stated(estimator, group_size, **update)
        return Witness(quantity, str(line), enclosed, float64, formula)

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


OLD, NOW = "3/5,5/9,2/5", "5/7,3/8,2/3"

ANSWERS = Case.of(f"V=2 T=3 EOS=1 r=1,0,0,1 old={OLD} theta={NOW}")
"""Two rewards, three lengths: token and trajectory ratios inside, above and below the clip."""

GRADED = Case.of(f"V=2 T=3 EOS=1 r=1,0.3,0,1 old={OLD} theta={NOW}")
"""The same with three rewards."""

PAGE = Case.of("V=2 T=2 EOS=1 r=1,0,0 old=1/2 theta=3/4,1/2")
"""Small enough for a page: with G = 2 every term of Eq. 7 and 11 is a fraction."""

MATCH = Case.of(f"V=2 T=2 r=1,0,0,1 old={OLD} theta={NOW}")
"""Two rewards, one length, one prompt: what the theorems need and do not say."""

MARKS = Case.of(f"V=2 T=2 r=1,0.3,0,1 old={OLD} theta={NOW}")
"""Three rewards, one length."""

RARE = Case.of("V=2 T=2 r=1,0,0,0 old=2/5,2/5,1/2 theta=1/2")
"""One right answer, early in training: J = 4/25."""

XOR = Case.of("V=2 T=2 rows=one r=0,1,1,0 old=7/10 theta=3/5")
"""Two tokens that should differ: an optimum inside the simplex, at p = 1/2."""


def length_trap(p: int, q: int) -> Case:
    """Right where the length is 2. J is largest at p/(p+q) = 1/2; 1/|s| moves the fixed point to 0.66."""
    return Case.of(f"V=2 T=3 EOS=1 rows=one r=0,0,1,0 old={p}/{p + q}")


def prompt_trap(p: int, q: int) -> Case:
    """Right where tokens differ, or the first is 0. J is largest at 3/4; each group's own sigma moves it."""
    return Case.of(f"V=2 T=2 rows=one r=0,1,1,0|1,1,0,0 old={p}/{p + q}")


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


def infinite(estimator: Estimator) -> Estimator:
    """The estimator of which one response alone has the mean of an infinite group: A = z under theta_old."""
    return Estimator(estimator.ratio, population(delta=0.0), estimator.clip, estimator.scale, estimator.score)


def by_hand(line: WorldLine, formula: str) -> str:
    """A number or table in fractions, as `ticgrpo claim` prints it."""
    return short(value(Hand(line), formula))


RATIOS: dict[object, str] = {
    ratios.none: "none",
    ratios.token: "token",
    ratios.prefix: "prefix",
    ratios.trajectory: "trajectory",
    ratios.geometric_mean: "geometric",
}
ADVANTAGES: dict[type, str] = {
    standardised: "std",
    population: "z",
    raw: "raw",
    centred: "centred",
    leave_one_out: "loo",
}
CLIPS: dict[type, str] = {unclipped: "none"}
SCALES: dict[object, str] = {
    sequence_mean: "mean",
    token_mean: "tokens",
    sequence_sum: "sum",
    constant: "constant",
}


def axes(estimator: Estimator) -> str:
    """ratio+advantage+clip+scale, as a world line has it. Raises KeyError for parts that no line states."""
    clip = estimator.clip
    if isinstance(clip, two_sided):
        ends = (clip.eps_low, clip.eps_high)
        gate = "two:" + ":".join("inf" if x == math.inf else str(Fraction(repr(x))) for x in ends)
    elif isinstance(clip, upper_only):
        gate = f"upper:{Fraction(repr(clip.eps_high))}"
    elif isinstance(clip, by_sign_and_length):
        gate = "released:" + ":".join(
            str(Fraction(repr(float(x)))) for x in (clip.rate, clip.cap, clip.log_limit)
        )
    else:
        gate = CLIPS[type(clip)]
    parts = [RATIOS[estimator.ratio], ADVANTAGES[type(estimator.advantage)], gate, SCALES[estimator.scale]]
    return "+".join([*parts, "old"] if estimator.score is old else parts)


def size(table: Tensor) -> float:
    """The Euclidean norm over all logits."""
    return float(torch.linalg.vector_norm(table))
