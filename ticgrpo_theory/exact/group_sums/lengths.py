"""Scales that divide by the total length of a group, as sums of exponentials of that total.

    1/x = int_0^inf exp(-u x) du,   1/x^2 = int_0^inf u exp(-u x) du,   u = exp(s - exp(-s))

in s both are the trapezoidal rule, whose error falls exponentially with the number of nodes. exp(-u x) is a
product over the responses of the group, so that at every node u the lengths only tilt the probabilities of
the rewards,

    p_v -> p_v phi_v(u) / Phi(u),   phi_v(u) = E[exp(-u length) | reward v],   Phi(u) = E[exp(-u length)],

and expectations that involve lengths become expectations over rewards alone. All weights are positive.
"""

import numpy as np
from jaxtyping import Float64

QUADRATURE_TOLERANCE = 4e-15
"""Largest relative error of the sums for 1/x and 1/x^2 over the range of totals."""


def exponential_sum(
    smallest: float, largest: float
) -> tuple[Float64[np.ndarray, " Q"], Float64[np.ndarray, " Q"]]:
    """(u, weight) with 1/x = sum_q weight_q exp(-u_q x) and 1/x^2 = sum_q weight_q u_q exp(-u_q x).

    The step is refined until both hold to QUADRATURE_TOLERANCE at 2048 points of [smallest, largest].
    """
    x = np.geomspace(1.0, largest / smallest, 2048)
    step = 0.25
    while True:
        s = step * np.arange(np.floor(-4.2 / step), np.ceil(3.75 / step) + 1)
        u = np.exp(s - np.exp(-s))
        weight = step * u * (1 + np.exp(-s))
        decay = np.exp(-np.outer(x, u))
        error = max(np.abs(decay @ weight * x - 1).max(), np.abs(decay @ (weight * u) * x**2 - 1).max())
        if error <= QUADRATURE_TOLERANCE:
            return u / smallest, weight / smallest
        step *= 0.85
