"""The noise of an estimator from groups that are drawn, where no exact method of moments.py is affordable.

With n groups, E||g_hat||^2 is their mean square, within z sd(||g_hat||^2) / sqrt n; with ||mean - E g|| <= h,

    |  ||mean||^2 - ||E g||^2  | <= (2 ||mean|| + h) h,     |  <mean - E g, v>  | <= h ||v||.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import shuffles
from ticgrpo_theory.exact.mean.known_mean import Expectation, mixed
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.sampled import Groups, drawn
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.sampled_updates import drawn_updates
from ticgrpo_theory.exact.updates.update import Update, update_of


@dataclass(frozen=True, eq=False)
class SampledMoments:
    """First and second moments of g_hat, each with its 99 % half width."""

    mean: Expectation
    second_moment: float
    second_moment_half_width: float

    @property
    def variance(self) -> float:
        """E||g_hat - E g_hat||^2."""
        return max(self.second_moment - float(self.mean.value.square().sum()), 0.0)

    @property
    def variance_half_width(self) -> float:
        h, norm = self.mean.norm_half_width, float(self.mean.value.norm())
        return self.second_moment_half_width + (2 * norm + h) * h

    def mse(self, target: Float[Tensor, "S V"]) -> tuple[float, float]:
        """E||g_hat - target||^2 and its half width."""
        norm = float(target.norm())
        value = self.second_moment - 2 * float((self.mean.value * target).sum()) + norm**2
        return max(value, 0.0), self.second_moment_half_width + 2 * norm * self.mean.norm_half_width


def sampled_moments(parts: list[tuple[float, PromptProblem]]) -> SampledMoments:
    """The moments over groups whose prompt is drawn with its weight.

    Raises ValueError where groups cannot be drawn, see sampled.py, and for a random order of the rows.
    """
    update = update_of(parts)
    given = parts[0][1].given
    if update is not None and update.B > 1 and shuffles(given):
        raise ValueError(
            f"the order in which the rows of {name_of(given)} are cut into micro-batches is random, and its "
            f"noise is not drawn: give an order, micro_batch_token_mean(rows, order), or a smaller update "
            f"for the exact moments"
        )
    callable_of_groups = (
        update is not None and not update.coupled and not isinstance(update.one.given, Estimator)
    )
    if update is not None and callable_of_groups:
        return of_independent_groups(update)
    whole = None if update is None else drawn_updates(CoupledUpdate(parts))
    samples = [(q, drawn(Groups(problem))) for q, problem in parts] if whole is None else [(1.0, whole)]
    squares = [(weight, *sample.second_moment) for weight, sample in samples]
    return SampledMoments(
        mixed([(weight, sample.expectation) for weight, sample in samples]),
        sum(q * second for q, second, _ in squares),
        sum(q * half for q, _, half in squares),
    )


def of_independent_groups(update: Update) -> SampledMoments:
    """The moments of a mean over P groups that nothing couples, from those of a group of each prompt.

    V = (1/P) (E||g||^2 - ||E g||^2) where prompts are drawn, and where each is there once (1/P^2) times the
    sum over prompts of the same.
    """
    P, samples = update.P, [(q, drawn(Groups(problem))) for q, problem in update.alike]
    mean = mixed([(q, sample.expectation) for q, sample in samples])
    second = sum(q * sample.second_moment[0] for q, sample in samples)
    half = sum(q * sample.second_moment[1] for q, sample in samples)
    square, h = float(mean.value.square().sum()), mean.norm_half_width
    slack = (2 * math.sqrt(square) + h) * h
    if not update.each:
        return SampledMoments(mean, second / P + (1 - 1 / P) * square, half / P + (1 - 1 / P) * slack)
    own = sum(q * float(sample.mean.square().sum()) for q, sample in samples)
    for q, sample in samples:
        width = sample.norm_half_width()
        half += q * (2 * float(sample.mean.norm()) + width) * width
    return SampledMoments(mean, (second - own) / P + square, half / P + slack)
