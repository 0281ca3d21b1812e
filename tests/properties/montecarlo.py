"""The tolerance for sampled means: five standard errors, where these are small enough to tell anything."""

import math

import torch
from torch import Tensor

STANDARD_ERRORS = 5
"""A true mean lies farther off once in two million comparisons."""


def assert_mean_is(samples: Tensor, expected: Tensor | float, visible: float) -> None:
    """The mean of independent samples [n, ...] is `expected`, and an error of size `visible` would be seen.

    Fails where a mean is more than 5 standard errors off, and where 5 standard errors exceed `visible`: a
    check that could not see the error which it is there for is no check. Samples without any spread must be
    equal to what is expected up to rounding.
    """
    n = len(samples)
    assert n >= 100, f"{n} samples: the standard error itself is uncertain; draw at least 100"
    assert math.isfinite(visible) and visible > 0, f"visible = {visible}"
    assert bool(torch.isfinite(samples).all()), "a sample is not a number"
    samples = samples.double()
    expected = torch.as_tensor(expected, dtype=torch.float64).expand(samples.shape[1:])
    margin = STANDARD_ERRORS * samples.std(dim=0) / math.sqrt(n)
    widest = margin.max().item()
    assert widest <= visible, (
        f"5 standard errors are {widest:.3g}, wider than the error of {visible:.3g} that should be seen: "
        f"draw {math.ceil(n * (widest / visible) ** 2):,} samples"
    )
    off = (samples.mean(dim=0) - expected).abs()
    rounding = 1e-12 * expected.abs().clamp(min=1.0)
    beyond = off - margin - rounding
    at = int(beyond.argmax())
    assert beyond.max().item() <= 0, (
        f"the mean of {n:,} samples is {samples.mean(dim=0).flatten()[at]:.6g}, "
        f"{off.flatten()[at] / (margin.flatten()[at] / STANDARD_ERRORS + 1e-300):.1f} standard errors from "
        f"{expected.flatten()[at]:.6g}"
    )
