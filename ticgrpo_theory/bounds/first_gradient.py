"""What g_hat_0, the gradient of the first inner step, is on average, and how large: for every policy at once.

g_hat_0 = (1/G) sum_i A_i Phi_i, Phi = kappa sum_t grad log pi(a_t | s_{t-1}), kappa = G scale. With
A_i = (r_i - mean_G) / (s sigma_G + delta), s = 1 or sqrt(G / (G-1)) for ddof = 1:

    sum A_i^2 <= G, so that E||g_hat_0||^2 <= E||Phi||^2 <= Q.

One kappa for all responses: E[g_hat_0] = c grad J + b, where c / kappa = E[sigma_G^2 / (s sigma_G + delta)] /
sigma^2 is the slope of f(r) = E[A_1 | r_1 = r] on r, and b belongs to what is left of f.

    c >= kappa (1 - 1/G) / (s rho + delta)           since sigma_G <= rho, E sigma_G^2 = (1 - 1/G) sigma^2
    c <= kappa min(1 / delta, sqrt(G-1) / (s gap))   since sigma_G is 0 or at least gap sqrt(G-1) / G

Two reward values: every function of r is affine, so that b = 0; and V = 5 B_Phi^2, because given the rewards
the variance is at most B_Phi^2 / G, and sigma_G^2 / (s sigma_G + delta), whose variance is at most
(2 rho)^2 / G, multiplies a difference of means of at most 2 B_Phi / (2 rho).

More values: ||b|| <= kappa sqrt(d_max / 2), as ||E f Phi||^2 <= kappa^2 (d_max / 2) Var f and Var f <= 1. For
delta > 0, G >= 4, ddof = 0, with the slope (1 - 1/G) E[1 / (sqrt a + delta)] in the place of c / kappa, which
has the same range (a is 1 - 1/G times the variance of the other G - 1 rewards),

    ||b|| <= B_Phi (rho / (delta G) + 13 rho^2 / (delta^2 sqrt G (G - 2))).
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.bounds.drift import Field, clip_range
from ticgrpo_theory.bounds.geometry import Geometry
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.estimators.scales import pools_lengths
from ticgrpo_theory.estimators.shapes import Shape
from ticgrpo_theory.exact.dynamic.forward_backward import outcome_distribution
from ticgrpo_theory.exact.groups.conditional import scale_of_group_normalisation
from ticgrpo_theory.worlds.policy import logits

ANY = 8
"""Group size at which kappa = G scale is read: every scale of the catalogue is proportional to 1/G at equal
lengths, and with a power of two 1/G and G cancel."""


@dataclass(frozen=True)
class Known:
    """A value with how it is known, or None with the reason why there is none."""

    value: Any
    note: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """An estimator in its world."""

    world: Geometry
    given: AnyEstimator

    @cached_property
    def unscaled(self) -> str:
        """Why a response has no factor kappa of its own, or ''."""
        if self.formula is None:
            return "a callable has no declared scale, advantage and clip"
        if self.formula.penalty is not None:
            return f"the penalty {self.formula.penalty!r} adds a term of its own"
        if self.formula.correction is not None:
            return f"the correction {self.formula.correction!r} weighs what a sampler draws, not theta_old"
        if not self.formula.properties.known:
            return "it has parts that are not of the catalogue, and a bound would depend on what they do"
        if pools_lengths(self.formula.scale) and len(self.world.lengths) > 1:
            return "the scale reads the lengths of the whole group, so a response has no factor of its own"
        return ""

    @cached_property
    def obstacle(self) -> str:
        """Why no bound on the size of g_hat is known, or ''."""
        if self.unscaled:
            return self.unscaled
        if type(self.estimator.advantage) is not standardised:
            return (
                f"bounds are derived for advantages that a group standardises, sum A^2 <= G, not for "
                f"{self.estimator.advantage!r}"
            )
        return ""

    @cached_property
    def unproportional(self) -> str:
        """Why E[g_hat_0] is no multiple of grad J up to a bounded remainder, or ''."""
        if self.obstacle:
            return self.obstacle
        if len(self.world.prompts) > 1:
            return "several prompts: each has a multiple of its own, and their sum need not follow grad J"
        if self.kappa_range[0] < self.kappa_range[1]:
            return (
                f"responses of different length have factors from {self.kappa_range[0]:.4g} to "
                f"{self.kappa_range[1]:.4g}: E[g_hat_0] follows the gradient of another objective"
            )
        if self.world.rho == 0:
            return "all responses have the same reward, so that g_hat = 0 and grad J = 0"
        return ""

    @property
    def formula(self) -> Estimator | None:
        """The estimator where it is one choice on each axis, and None where it is a callable."""
        return self.given if isinstance(self.given, Estimator) else None

    @property
    def estimator(self) -> Estimator:
        """The axes, to be read where `unscaled` is ''."""
        if self.formula is None:
            raise TypeError(self.unscaled)
        return self.formula

    @property
    def advantage(self) -> standardised:
        if not isinstance(self.estimator.advantage, standardised):
            raise TypeError(self.obstacle)
        return self.estimator.advantage

    def scales(self, group_size: int) -> np.ndarray:
        """kappa of every length; a group whose scale reads other lengths has one length only."""
        length = torch.tensor(self.world.lengths)
        total = length * group_size
        found = self.estimator.scale(length, total, group_size, self.world.mdp.horizon)
        return (group_size * found).double().numpy()

    @cached_property
    def kappas(self) -> np.ndarray:
        return self.scales(ANY)

    @property
    def kappa_range(self) -> tuple[float, float]:
        return float(self.kappas.min()), float(self.kappas.max())

    @cached_property
    def B_Phi(self) -> float:
        """max kappa(length) sqrt(2 sum_s n_s^2)."""
        squares, _ = self.world.squared_visits
        pairs = zip(self.kappas, self.world.lengths, strict=True)
        return max(float(kappa) * math.sqrt(2 * squares[n]) for kappa, n in pairs)

    @cached_property
    def field(self) -> Field:
        return Field(
            self.estimator, self.world.lengths, self.kappa_range[1], self.world.B, self.B_Phi, self.world.nu
        )

    @cached_property
    def gap(self) -> float:
        """Least distance between two rewards."""
        return float(np.diff(self.world.prompts[0].rewards).min())

    @property
    def binary(self) -> bool:
        return self.world.prompts[0].rewards.size == 2

    def constants(self) -> dict[str, Known]:
        """kappa, B_Phi, lambda_eps, Q and V."""
        if self.unscaled:
            return {name: Known(None, self.unscaled) for name in ("kappa", "B_Phi", "lambda_eps", "Q", "V")}
        low, high = self.kappa_range
        several = f"responses of different length have factors from {low:.4g} to {high:.4g}"
        return {
            "kappa": Known(low) if low == high else Known(None, several),
            "B_Phi": Known(self.B_Phi, "" if self.world.squared_visits[1] else "an upper bound, as B"),
            "lambda_eps": self.nearest_clip(),
            "Q": self.Q(),
            "V": self.V(),
        }

    def nearest_clip(self) -> Known:
        """The smallest log-ratio at which a weight is clipped."""
        clip = self.estimator.clip
        if isinstance(clip, Shape):
            return Known(None, f"{clip!r} has no bounds: its weights move with every ratio")
        return Known(clip_range(clip, self.world.lengths).nearest)

    def Q(self) -> Known:
        """kappa^2 T (1 - 1/V) where all responses have one kappa: scores of two tokens are uncorrelated."""
        if self.obstacle:
            return Known(None, self.obstacle)
        low, high = self.kappa_range
        if low < high:
            return Known(self.B_Phi**2, "B_Phi^2: responses have different factors")
        return Known(high**2 * self.world.lengths[-1] * (1 - 1 / self.world.mdp.vocab_size))

    def V(self) -> Known:
        """5 B_Phi^2, for two reward values and one prompt."""
        if self.obstacle:
            return Known(None, self.obstacle)
        if len(self.world.prompts) > 1:
            return Known(None, "several prompts: the variance between them does not fall with G")
        if self.world.rho == 0:
            return Known(None, "all responses have the same reward, so that g_hat = 0")
        if not self.binary:
            return Known(
                None,
                f"{self.world.prompts[0].rewards.size} reward values: a bound on G Var(g_hat_0) for all "
                f"policies is proved for two",
            )
        return Known(5 * self.B_Phi**2)

    def group_constants(self, G: int | float) -> dict[str, Known]:
        """c_min, c_max, b_bar and c_G."""
        if self.unproportional:
            return {name: Known(None, self.unproportional) for name in ("c_min", "c_max", "b_bar", "c_G")}
        kappa, delta, s = self.kappa_range[1], self.advantage.delta, inflation(self.advantage.ddof, G)
        widest = s * self.world.rho + delta
        above = min(1 / delta if delta > 0 else math.inf, math.sqrt(G - 1) / (s * self.gap))
        return {
            "c_min": Known(kappa * (1 - 1 / G) / widest),
            "c_max": Known(kappa * above),
            "b_bar": self.b_bar(G),
            "c_G": Known(partial(self.c_G, G)),
        }

    def c_G(self, G: int | float, theta: Tensor | ArrayLike) -> float:
        """c / kappa = E[sigma_G^2 / (s sigma_G + delta)] / sigma^2 at this policy."""
        (prompt,) = self.world.prompts
        distribution = outcome_distribution(prompt.graph, logits(self.world.mdp, theta).numpy())
        return scale_of_group_normalisation(self.advantage, prompt.graph.reward, distribution, G)

    def b_bar(self, G: int | float) -> Known:
        """Bound on ||E[g_hat_0] - c grad J||."""
        if self.binary:
            return Known(0.0, "two reward values")
        kappa, rho, delta = self.kappa_range[1], self.world.rho, self.advantage.delta
        always = kappa * math.sqrt(self.world.d_max[0] / 2)
        if delta > 0 and G >= 4 and self.advantage.ddof == 0:
            rate = rho / (delta * G) + 13 * rho**2 / (delta**2 * math.sqrt(G) * (G - 2))
            if self.B_Phi * rate < always:
                return Known(self.B_Phi * rate, "falls as 1/G")
        return Known(always, "does not fall with G: no better bound holds for all policies at this delta")


def inflation(ddof: int, G: int | float) -> float:
    """s: the standard deviation with 1/(G - ddof) over that with 1/G."""
    return 1.0 if ddof == 0 or G == math.inf else math.sqrt(G / (G - ddof))
