"""Means over replicates and how far to trust them.

    mean +- t sd / sqrt(R),   t the 97.5 % quantile of Student's distribution with R - 1 degrees of freedom

Where two runs share their random numbers, replicate by replicate, the interval of the mean *difference* is
the one to read: what both owe to the same draw cancels.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy import special
from torch import Tensor

CONFIDENCE = 0.95
"""Share of intervals that hold the true mean."""


@dataclass(frozen=True, eq=False)
class Interval:
    """mean - half .. mean + half."""

    mean: Float[Tensor, "*b"]
    half: Float[Tensor, "*b"]

    @property
    def sign(self) -> Float[Tensor, "*b"]:
        """The sign of the mean where the interval excludes 0, else 0."""
        decided: Bool[Tensor, "*b"] = self.mean.abs() > self.half
        return self.mean.sign().where(decided, 0.0)


def interval(samples: Float[Tensor, " R *b"], comparisons: int = 1) -> Interval:
    """mean +- t sd / sqrt(R) over the first axis, sd with 1/(R - 1).

    With several `comparisons`, each interval is widened so that all of them hold together at least 95 % of
    the time (Bonferroni).
    Raises ValueError for fewer than two replicates, fewer than one comparison, and values that are no
    numbers.
    """
    R = len(samples)
    if R < 2:
        raise ValueError(f"{R} replicate: an interval needs the spread of at least 2; raise replicates")
    if comparisons < 1:
        raise ValueError(f"comparisons = {comparisons}: at least the one interval itself; give 1 or more")
    lost = int((~torch.isfinite(samples)).reshape(R, -1).any(dim=1).sum())
    if lost:
        raise ValueError(
            f"{lost} of {R} replicates hold values that are no numbers (frozen replicates do): a mean over "
            f"the others would be of the lucky ones; lower the learning rate"
        )
    t = float(special.stdtrit(R - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons)))
    return Interval(samples.mean(dim=0), t / math.sqrt(R) * samples.std(dim=0))
