"""The noise of an estimator from groups that are drawn, where no exact method of moments.py is affordable.

With n groups, E||g_hat||^2 is their mean square, within z sd(||g_hat||^2) / sqrt n; with ||mean - E g|| <= h,

    |  ||mean||^2 - ||E g||^2  | <= (2 ||mean|| + h) h,     |  <mean - E g, v>  | <= h ||v||.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.sampled import Expectation, drawn, mixed
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.sampled_updates import drawn_updates
from ticgrpo_theory.exact.updates.update import update_of


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

    Raises ValueError where groups cannot be drawn, see sampled.py.
    """
    update = update_of(parts)
    if update is not None and not update.coupled and update.one.options.scope == "group":
        if not isinstance(update.one.given, Estimator):
            raise ValueError(
                "the second moments of a mean over several groups are not drawn for a callable of one "
                "group: give scope='batch', or prompts=None"
            )
    whole = None if update is None else drawn_updates(CoupledUpdate(parts))
    samples = [(q, drawn(problem)) for q, problem in parts] if whole is None else [(1.0, whole)]
    squares = [(weight, *sample.second_moment) for weight, sample in samples]
    return SampledMoments(
        mixed([(weight, sample.expectation) for weight, sample in samples]),
        sum(q * second for q, second, _ in squares),
        sum(q * half for q, _, half in squares),
    )
