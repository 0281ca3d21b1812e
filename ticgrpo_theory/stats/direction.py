"""How a mean points beside the gradient that it is to estimate: its direction, and what is off its line."""

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.stats.rounding import ROUNDING, norm, projection


def cosine(x: Float[Tensor, "..."], y: Float[Tensor, "..."], rounding: float = ROUNDING) -> float | None:
    """<x, y> / (||x|| ||y||); None where ||x|| or ||y|| is not above `rounding`: it has no direction."""
    lengths = norm(x), norm(y)
    if min(lengths) <= rounding:
        return None
    return float((x / lengths[0] * (y / lengths[1])).sum())


def sine(theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
    """x / ||x||, x = sin(1), sin(2), ... in the order of the table: a direction that knows no reward."""
    x = torch.sin(torch.arange(1, theta.numel() + 1, dtype=torch.float64))
    return (x / x.norm()).reshape(theta.shape)


def against(mean: Float[Tensor, "..."], gradient: Float[Tensor, "..."]) -> dict[str, float | None]:
    """A mean beside a gradient other than 0.

        cosine     None for a mean that is 0 up to rounding
        scale      c = <mean, gradient> / ||gradient||^2, the best multiple: what is left of the gradient
        residual   ||mean - c gradient|| / ||gradient||: what no multiple explains
        bias       ||mean - gradient|| / ||gradient||

    bias^2 = (1 - scale)^2 + residual^2.
    """
    c, size = projection(mean, gradient), norm(gradient)
    return {
        "cosine": cosine(mean / size, gradient / size),
        "scale": c,
        "residual": norm(mean - c * gradient) / size,
        "bias": norm(mean - gradient) / size,
    }
