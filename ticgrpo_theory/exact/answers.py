"""One problem and everything that is exact about it: each answer is computed when first read, and kept.

    problem = Problem(mdp, theta, theta_old, "grpo", group_size=8)
    problem.mean - problem.scale[0] * problem.gradient

`expected_gradient`, `known_scale`, `choose_method` and `gradient_moments` are single answers of it.
"""

from functools import cached_property
from typing import TypeVar, cast

from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.exact.expectation import expectation_of, method_of
from ticgrpo_theory.exact.known_scale import scale_of
from ticgrpo_theory.exact.mean.known_mean import Expectation
from ticgrpo_theory.exact.mean.rounding import gradient_rounding
from ticgrpo_theory.exact.moments.estimator_moments import Moments, moments_of
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.exact.problem import CheckedProblem

P = TypeVar("P", bound="Problem")


class Problem(CheckedProblem):
    """Groups drawn from the sampler, an estimator evaluated at theta, and its answers.

    The arguments are those of `expected_gradient`; they are checked here, once. Nothing is sampled unless
    method="sampled", which draws for the mean, and for a scale of the kind "least_squares".

    Raises ValueError for bad logits, a token that the sampler draws and theta_old forbids, an unknown
    estimator, a group size for which its advantage is undefined, and a penalty without theta_ref. An answer
    raises ValueError where no method can give it.
    """

    @cached_property
    def expectation(self) -> Expectation:
        """E[g_hat], with its method, and what was assumed and checked."""
        return expectation_of(self.parts)

    @cached_property
    def mean(self) -> Float[Tensor, "S V"]:
        """E[g_hat]; ValueError where a sample leaves it wider than the tolerance."""
        self.expectation.refuse_wide(self.options.tolerance)
        return self.expectation.value

    @cached_property
    def gradient(self) -> Float[Tensor, "S V"]:
        """grad J(theta)."""
        return policy_gradient(self.mdp, self.theta)

    @cached_property
    def gradient_rounding(self) -> float:
        """Bound on ||error|| of `gradient`: below it there is no direction."""
        return gradient_rounding(self.mdp, self.theta)

    @cached_property
    def scale(self) -> tuple[float, str]:
        """(c, kind), E[g_hat] = c grad J at theta_old; see `known_scale`."""
        return self.old.scale if self.old is not self else scale_of(self, lambda: self.mean)

    @cached_property
    def moments(self) -> Moments:
        """Variance, mean squared errors and effective sample size; see `Moments`.

        Raises ValueError as `gradient_moments` does.
        """
        return moments_of(self, lambda _: self.scale)

    @cached_property
    def method(self) -> str:
        """What computes the mean; several, joined by ', ', where prompts differ."""
        return method_of(self.parts)

    @property
    def drift(self) -> float:
        """||theta - theta_old||."""
        return float((self.theta - self.theta_old).norm())

    @property
    def old(self: P) -> P:
        """The problem before any drift, theta = theta_old."""
        return cast(P, self._old)

    @cached_property
    def _old(self) -> "Problem":
        return self if self.theta.equal(self.theta_old) else super().at(self.theta_old)

    def at(self: P, theta: Tensor | ArrayLike) -> P:
        """The same problem at another theta, with what is known at theta_old."""
        old, other = self.old, super().at(theta)
        if other.theta.equal(self.theta_old):
            return old
        vars(other)["_old"] = old
        return other
