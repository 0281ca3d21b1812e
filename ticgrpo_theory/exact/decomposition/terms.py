"""The five terms of Eq. 7 and Eq. 11 of arXiv:2508.02833 v2: as printed, and as they have to read to add up.

With A = (r - mu_G) / sigma_G, z = (r - mu) / sigma_bar, sigma_bar = E[sigma_G], T1 = E_old[1/|s|], on = 1_B
or 1_D (the clip leaves the token on), psi and psi_old = grad log pi at theta and at theta_old, every term is
the mean over the responses of a group of a sum over tokens:

    Eq. 7, ratio w of the token    as printed                       as corrected
    total                          A on w psi / |s|                 the same
    main                           T1 z on psi_old                  T1 z psi_old
    gradient_error                 T1 z on (w psi - psi_old)        T1 z (w psi - psi_old)
    sampling_error_1               T1 (A - z) on w psi              the same
    sampling_error_2               + (T1 - 1/|s|) A on w psi        - (T1 - 1/|s|) A on w psi
    clip_error                     - T1 z (1 - on) w psi            the same

    Eq. 11, ratio w' of the whole response in the place of w
    main                           T1 z w' psi_old                  T1 z w' psi
    gradient_error                 none                             none
    the others                     as in Eq. 7

1/|s| = T1 - (T1 - 1/|s|), so sampling error 2 enters with a minus; with `on` in the first two terms of Eq. 7
the clip error takes the clipped tokens away a second time; Eq. 11 takes the score of the wrong policy in its
main term. mu is the mean of r under theta_old, so that the corrected main terms average to T1/sigma_bar times
grad J(theta_old) and grad J(theta). Every term is linear in the six token weights of `Tables`, which may be
those of one group or expected.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.clipping import bounds_by_sign, two_sided, upper_only
from ticgrpo_theory.estimators.estimator import Estimator, current
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact.groups import conditional
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.worlds.policy import pull_back

TERMS = ("main", "gradient_error", "sampling_error_1", "sampling_error_2", "clip_error")
Terms = dict[str, Tensor]


class Equation(NamedTuple):
    """Which equation of the paper an estimator is decomposed by, and the axes that it is stated for."""

    number: int
    ratio: object
    clip: type


EQUATIONS = (Equation(7, token, two_sided), Equation(11, trajectory, upper_only))


def equation_of(estimator: AnyEstimator) -> Equation:
    """Eq. 7 for grpo and Eq. 11 for tic_grpo_eq11, with any parameters of theirs.

    Raises ValueError for every other estimator.
    """
    if isinstance(estimator, Estimator) and shares_the_setting(estimator):
        for equation in EQUATIONS:
            if estimator.ratio is equation.ratio and type(estimator.clip) is equation.clip:
                return equation
    raise ValueError(
        f"no decomposition is stated for the estimator {name_of(estimator)}: Eq. 7 is that of 'grpo' (token "
        f"ratio, two_sided clip) and Eq. 11 that of 'tic_grpo_eq11' (trajectory ratio, upper_only clip), "
        f"both with standardised advantages (ddof 0), the scale sequence_mean, the current score and no "
        f"penalty; use one of these two names, or their factories with other parameters"
    )


def shares_the_setting(estimator: Estimator) -> bool:
    """Whether everything but ratio and clip is that of Sec. 2.2 of the paper, without KL penalty."""
    A = estimator.advantage
    plain = estimator.scale is sequence_mean and estimator.score is current and estimator.penalty is None
    plain = plain and estimator.correction is None and estimator.filter is None
    return plain and type(estimator) is Estimator and type(A) is standardised and A.ddof == 0


@dataclass(frozen=True)
class Constants:
    """What the terms take from theta_old and the group size, for one prompt."""

    mean: float
    """mu = E_old[r]."""
    sigma_bar: float
    """E[sigma_G], sigma_G with 1/G and without delta; 0 where all responses have the same reward."""
    inverse_length: float
    """T1 = E_old[1/|s|], the paper's T^(-1)."""

    def z(self, reward: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """(r - mu) / sigma_bar; 0 where all rewards are equal, as A is."""
        return (reward - self.mean) / self.sigma_bar if self.sigma_bar > 0 else torch.zeros_like(reward)


def constants(problem: PromptProblem) -> Constants:
    """mu, sigma_bar and T1 of a prompt. Raises ValueError for a group of one, whose sigma_G is always 0."""
    if problem.group_size < 2:
        raise ValueError(
            f"group_size = {problem.group_size}: the decompositions divide by E[sigma_G], which is 0 for a "
            f"group of one; give group_size >= 2"
        )
    graph, sigma_bar = problem.mdp.graph, 0.0
    if problem.reward_std > 0:
        # E[sigma_G] is the slope of A in r, times Var(r), when A is standardised without delta.
        slope = conditional.scale_of_group_normalisation(
            standardised(delta=0.0), graph.reward, problem.outcome_prob, problem.group_size
        )
        sigma_bar = slope * problem.reward_std**2
    return Constants(problem.reward_mean, sigma_bar, float(problem.outcome_prob @ (1.0 / graph.length)))


@dataclass(frozen=True, eq=False)
class Signed:
    """The advantage of responses, sure or expected: its two parts, and how likely it is below zero."""

    plus: Float[Tensor, "*b n"]
    """E[max(A, 0)]."""
    minus: Float[Tensor, "*b n"]
    """E[min(A, 0)]."""
    negative: Float[Tensor, "*b n"]
    """P(A < 0): the clip of a response with A = 0 is that of A > 0."""


class Gates(NamedTuple):
    """Which tokens the clip leaves on, for A >= 0 and for A < 0."""

    plus: Bool[Tensor, "*b n T"]
    minus: Bool[Tensor, "*b n T"]


def gates(estimator: Estimator, v: Float[Tensor, "*b n T"], mask: Bool[Tensor, "*b n T"]) -> Gates:
    """lo <= v <= hi for either sign of A, v the pooled log-ratio; False on padding."""
    ends = bounds_by_sign(estimator.clip, mask.sum(dim=-1))
    lo_plus, hi_plus, lo_minus, hi_minus = (end[..., None] for end in ends)
    return Gates(mask & (v >= lo_plus) & (v <= hi_plus), mask & (v >= lo_minus) & (v <= hi_minus))


@dataclass(frozen=True, eq=False)
class Tables:
    """Six token weights that make all terms: of tokens [*b, n, T], or added up in logits [*b, S, V]."""

    z: Tensor
    """T1 z."""
    z_on: Tensor
    """T1 z on."""
    w_z: Tensor
    """T1 z w."""
    w_z_on: Tensor
    """T1 z on w."""
    w_A_on: Tensor
    """T1 A on w."""
    w_A_on_each: Tensor
    """A on w / |s|."""

    def map(self, f: Callable[[Tensor], Tensor]) -> "Tables":
        """The same linear function of each."""
        return Tables(*(f(getattr(self, field.name)) for field in fields(self)))

    def __add__(self, other: "Tables") -> "Tables":
        return Tables(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def tables_of(
    known: Constants,
    reward: Float[Tensor, "*b n"],
    length: Int64[Tensor, "*b n"],
    signed: Signed,
    on: Gates,
    w: Tensor,
    lift: Callable[[Tensor], Tensor],
) -> Tables:
    """The six weights, `lift` taking a number for each response to a number for each entry of `on` and `w`.

    Raises ValueError where a ratio overflows: the corrected main terms and gradient error are not clipped.
    """
    if not bool(torch.isfinite(w).all()):
        raise ValueError(
            "an importance ratio overflows float64; terms of the corrected decomposition have no clip and "
            "need finite ratios: keep theta closer to theta_old"
        )
    T1, z, negative = known.inverse_length, known.z(reward), signed.negative
    all_z = T1 * lift(z)
    z_on = T1 * (on.plus * lift(z * (1 - negative)) + on.minus * lift(z * negative))
    A_on = on.plus * lift(signed.plus) + on.minus * lift(signed.minus)
    each = on.plus * lift(signed.plus / length) + on.minus * lift(signed.minus / length)
    return Tables(all_z, z_on, w * all_z, w * z_on, T1 * w * A_on, w * each)


class Pair(NamedTuple):
    """A term as token weights on the scores at theta and at theta_old; None where there are none."""

    theta: Tensor | None
    theta_old: Tensor | None


Pairs = dict[str, Pair]


def corrected(tables: Tables, equation: Equation) -> Pairs:
    """The terms that add up to the estimator."""
    if equation.number == 7:
        first: Pairs = {"main": Pair(None, tables.z), "gradient_error": Pair(tables.w_z, -tables.z)}
    else:
        first = {"main": Pair(tables.w_z, None), "gradient_error": Pair(None, None)}
    return first | common(tables, sign_of_second=-1.0)


def printed(tables: Tables, equation: Equation) -> Pairs:
    """The terms as the paper has them."""
    if equation.number == 7:
        first: Pairs = {"main": Pair(None, tables.z_on), "gradient_error": Pair(tables.w_z_on, -tables.z_on)}
    else:
        first = {"main": Pair(None, tables.w_z), "gradient_error": Pair(None, None)}
    return first | common(tables, sign_of_second=1.0)


def common(tables: Tables, sign_of_second: float) -> Pairs:
    """The last three terms, which the two equations share."""
    return {
        "sampling_error_1": Pair(tables.w_A_on - tables.w_z_on, None),
        "sampling_error_2": Pair(sign_of_second * (tables.w_A_on - tables.w_A_on_each), None),
        "clip_error": Pair(tables.w_z_on - tables.w_z, None),
    }


class Versions(NamedTuple):
    """The terms as corrected and as printed, each a vector of logits [*b, S, V], with their signs."""

    corrected: Terms
    printed: Terms

    def map(self, f: Callable[[Tensor], Tensor]) -> "Versions":
        """The same function of every term."""
        return Versions(*({name: f(term) for name, term in terms.items()} for terms in self))


def versions(
    tables: Tables, equation: Equation, theta: Float[Tensor, "S V"], theta_old: Float[Tensor, "S V"]
) -> Versions:
    """Every term pulled back through the policy or policies that it takes its scores at."""
    shape = tables.z.shape

    def vector(pair: Pair) -> Float[Tensor, "*b S V"]:
        parts = zip(pair, (theta, theta_old), strict=True)
        pulled = [
            pull_back(weights, policy.expand(shape)) for weights, policy in parts if weights is not None
        ]
        return torch.stack(pulled).sum(dim=0) if pulled else torch.zeros(shape, dtype=torch.float64)

    both = (corrected(tables, equation), printed(tables, equation))
    return Versions(*({name: vector(pair) for name, pair in pairs.items()} for pairs in both))
