"""Which tokens a clip touches, read off the clip's own weights, with its bounds and without."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.clipping import Clip
from ticgrpo_theory.estimators.ratios import Ratio
from ticgrpo_theory.estimators.shapes import Shape, weights_of


class Clipped(NamedTuple):
    """Tokens whose own weight a clip changes; False on padding."""

    off: Bool[Tensor, "*b G T"]
    """The weight is 0, and is not 0 without the bounds."""
    held: Bool[Tensor, "*b G T"]
    """The weight is another number than without the bounds, and not 0."""


def clipped(
    clip: Clip,
    ratio: Ratio,
    log_ratio: Float[Tensor, "*b G T"],
    mask: Bool[Tensor, "*b G T"],
    positive: Bool[Tensor, "*b G"],
    logp_old: Float[Tensor, "*b G T"] | None = None,
    sampler_log_ratio: Float[Tensor, "*b G T"] | None = None,
) -> Clipped:
    """What the bounds of `clip` do to every token; at infinite bounds a clip of any kind is none.

    A smooth shape changes no token; one with a gate those that it switches off or holds.

    Where ratios are clamped before they are pooled, a token is held as soon as a neighbour is clamped.
    """
    weight = weights_of(clip, ratio, log_ratio, mask, positive, logp_old, sampler_log_ratio)
    if isinstance(clip, Shape):
        free = clip.free(ratio(log_ratio, mask), positive[..., None], logp_old)
    else:
        inf = torch.full_like(log_ratio[..., :1], math.inf)
        free = clip.weight(ratio, log_ratio, mask, -inf, inf)
    off = (weight == 0) & (free != 0)
    return Clipped(off & mask, (weight != 0) & (weight != free) & mask)
