"""How far the gradient of a group moves while K steps are taken on it, as a multiple of the distance.

    ||g_hat(theta) - g_hat(theta_0)|| <= Lambda x,   x = ||theta - theta_0||

for advantages that a group standardises, so that (1/G) sum |A_i| <= 1. Scores are derivatives of log pi, so
that |log w| <= sqrt2 x for a token and |log w'| <= B x for a response. With `reach` sqrt2 or B, `bend` 1/2 or
nu/2 (the Lipschitz constant of the score), `factor` = max kappa times nu (tokens on one row) or times 1:

    stale                      Lambda = 0: the field is held
    weight 1, score at theta   Lambda = max kappa nu / 2
    clip provably inactive     eta K W B_Phi reach <= lambda: |log w| stays below every bound of the clip and
                               w <= W; grad(w score) = w (score score^T - H), a difference of positive
                               matrices: Lambda = factor W max(reach^2, bend)
    clip possible              weights are at most W by the clip itself (either sign of A), or W = e because
                               e eta K B_Phi reach <= 1. Unclipped: |w - 1| <= W reach x times a score of at
                               most reach, plus bend x. Clipped: the old term is lost, at most reach times
                               reach x / lambda: Lambda = factor max(W reach^2 + bend, reach^2 / lambda)

Every row bounds ||g_hat_k|| by D = W B_Phi. Discrete Gronwall gives, for each group,

    ||Delta / (eta K) - g_hat_0|| <= min(tau ||g_hat_0||, Lambda eta (K-1) D / 2),
    tau = Lambda eta (K-1) e^{Lambda eta K} / 2.

Objective and clip: arXiv:2508.02833 v2, Eq. 5 and 9.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import Clip, bounds_by_sign
from ticgrpo_theory.estimators.estimator import Estimator, old


@dataclass(frozen=True)
class ClipRange:
    """The bounds of a clip over both signs of A and all lengths, as log-ratios."""

    nearest: float
    """lambda: the smallest log-ratio, up or down, at which any weight is clipped."""
    positive: float
    """Largest log-ratio that is kept where A >= 0."""
    largest: float
    """Largest log-ratio that is kept for either sign."""


def clip_range(clip: Clip, lengths: Sequence[int]) -> ClipRange:
    """Read off `clip.bounds`, the one home of the clip."""
    ends = bounds_by_sign(clip, torch.tensor(list(lengths)))
    lowest, highest = torch.stack([ends.lo_plus, ends.lo_minus]), torch.stack([ends.hi_plus, ends.hi_minus])
    return ClipRange(
        nearest=min(float(-lowest.max()), float(highest.min())),
        positive=float(ends.hi_plus.max()),
        largest=float(highest.max()),
    )


@dataclass(frozen=True)
class Row:
    """A row of the table above, and whether its condition holds."""

    name: str
    holds: bool
    condition: str
    Lambda: float
    D: float


@dataclass(frozen=True)
class Field:
    """What the rows need to know of an estimator in its world."""

    estimator: Estimator
    lengths: Sequence[int]
    kappa: float
    """Largest kappa of a response."""
    B: float
    B_Phi: float
    nu: int

    @property
    def obstacle(self) -> str:
        """Why no row covers the estimator, or ''."""
        estimator = self.estimator
        if estimator.ratio is ratios.none:
            return ""
        if estimator.score is old:
            return "no bound is derived for importance weights with the score at theta_old"
        if estimator.ratio not in (ratios.token, ratios.trajectory):
            return "bounds are derived for the token ratio and the trajectory ratio only"
        if type(estimator.clip).weight is not Clip.weight:
            return (
                f"bounds are derived for clips that switch a weight off outside their range, not for "
                f"{estimator.clip!r}"
            )
        return ""

    def rows(self, learning_rate: float, inner_steps: int) -> list[Row]:
        """Every row that could apply, the sharpest first; empty where `obstacle` says why."""
        if self.obstacle:
            return []
        if self.estimator.ratio is ratios.none:
            if self.estimator.score is old:
                return [Row("stale", True, "none needed", 0.0, self.B_Phi)]
            bend = self.kappa * self.nu / 2
            return [Row("weight 1, score at theta", True, "none needed", bend, self.B_Phi)]
        by_token = self.estimator.ratio is ratios.token
        reach, bend = (math.sqrt(2), 0.5) if by_token else (self.B, self.nu / 2)
        square = 2.0 if by_token else self.B**2
        factor = self.kappa * (self.nu if by_token else 1)
        clip, span, found = clip_range(self.estimator.clip, self.lengths), learning_rate * inner_steps, []

        def possible(W: float) -> float:
            return factor * max(W * square + bend, square / clip.nearest if clip.nearest > 0 else math.inf)

        if math.isfinite(clip.positive):
            W = math.exp(clip.positive)
            drift = span * W * self.B_Phi * reach
            condition = f"eta K (1 + eps) B_Phi {'sqrt 2' if by_token else 'B'} = {drift:.4g}"
            condition += f" <= lambda = {clip.nearest:.4g}"
            sharp = factor * W * max(square, bend)
            inactive = drift <= clip.nearest
            found.append(Row("clip provably inactive", inactive, condition, sharp, W * self.B_Phi))
        if math.isfinite(clip.largest):
            W = math.exp(clip.largest)
            condition = "none needed: the clip bounds every weight"
            found.append(Row("clip possible", True, condition, possible(W), W * self.B_Phi))
        else:
            drift = math.e * span * self.B_Phi * reach
            condition = f"e eta K B_Phi {'sqrt 2' if by_token else 'B'} = {drift:.4g} <= 1"
            found.append(Row("clip possible", drift <= 1, condition, possible(math.e), math.e * self.B_Phi))
        return found


def tau(Lambda: float, learning_rate: float, inner_steps: int) -> float:
    """Lambda eta (K-1) e^{Lambda eta K} / 2; inf where the exponential overflows."""
    if inner_steps == 1 or Lambda == 0:
        return 0.0
    exponent = Lambda * learning_rate * inner_steps
    grown = math.exp(exponent) if exponent < 700 else math.inf
    return Lambda * learning_rate * (inner_steps - 1) / 2 * grown
