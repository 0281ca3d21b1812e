"""E[g_hat] as it is known: exactly, enclosed, or from groups that were drawn, with an interval."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TOLERANCE = 0.02
"""Half width of the norm, relative to the norm of the mean, that is sampled to unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """E[g_hat] and how it is known."""

    value: Float[Tensor, "S V"]
    """E[g_hat]; where it is sampled the mean of the groups that were drawn."""
    method: str
    assumed: str = ""
    """What the number rests on that no declaration of the catalogue says, and on how much it was checked."""
    lower: Float[Tensor, "S V"] | None = None
    upper: Float[Tensor, "S V"] | None = None
    """Bounds that hold with certainty, where the value is the middle of an enclosure."""
    half_width: Float[Tensor, "S V"] | None = None
    """Of the interval of each component, simultaneous at 99 %; None where nothing is sampled."""
    norm_half_width: float = 0.0
    """99 % bound on ||value - E g_hat||; 0 where nothing is sampled."""
    groups: int = 0
    """Groups that were listed or drawn."""
    rounding: float = 0.0
    """Bound on what rounding, or half the width of an enclosure, adds to ||value - E g_hat||: a norm below it
    is no sign of a gradient."""
    lost_mass: float = 0.0
    """Probability under theta of responses that are never drawn: what they would add to grad J is missing."""

    @property
    def exact(self) -> bool:
        """Whether nothing was sampled or enclosed."""
        return self.half_width is None and self.lower is None

    def refuse_wide(self, tolerance: float | None) -> None:
        """Raise ValueError where the interval is wider than the tolerance."""
        wanted = (TOLERANCE if tolerance is None else tolerance) * float(self.value.norm())
        if self.norm_half_width > wanted:
            raise ValueError(
                f"after {self.groups:,} groups E[g_hat] is known to +-{self.norm_half_width:.3g} at 99 %, "
                f"and its norm is {float(self.value.norm()):.3g}: give a larger tolerance or limit, or "
                f"explain=True, which returns the interval as it is"
            )


def mixed(parts: list[tuple[float, Expectation]]) -> Expectation:
    """The expectation over prompts, drawn with their weights.

    Half widths are added as they are, though independent errors would add in squares.
    """
    if len(parts) == 1:
        return parts[0][1]
    bounds = {}
    if any(e.lower is not None for _, e in parts):
        for name in ("lower", "upper"):
            ends = [(q, e.value if getattr(e, name) is None else getattr(e, name)) for q, e in parts]
            bounds[name] = torch.stack([q * end for q, end in ends]).sum(dim=0)
    widths = [(q, e.half_width) for q, e in parts if e.half_width is not None]
    return Expectation(
        value=torch.stack([q * e.value for q, e in parts]).sum(dim=0),
        method=", ".join(sorted({e.method for _, e in parts})),
        assumed="; ".join(sorted({e.assumed for _, e in parts if e.assumed})),
        half_width=torch.stack([q * w for q, w in widths]).sum(dim=0) if widths else None,
        norm_half_width=sum(q * e.norm_half_width for q, e in parts),
        groups=sum(e.groups for _, e in parts),
        lost_mass=sum(q * e.lost_mass for q, e in parts),
        rounding=sum(q * e.rounding for q, e in parts),
        **bounds,
    )
