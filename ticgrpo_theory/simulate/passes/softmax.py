"""Compiled: log-softmax of many short rows at once, a row in each column, so that loops run across rows."""

import numpy as np

from ticgrpo_theory.worlds.compiling import kernel
from ticgrpo_theory.worlds.kernels import bits_of, float_of, vexp

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # sum to ln 2
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD


@kernel
def vlog(x: float) -> float:
    """log(x) of a normal number x > 0, within 1 unit in the last place; LLVM vectorises loops over it.

    x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), and log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)) with
    s = f / (2 + f). Source: fdlibm 5.3, e_log.c, Sun Microsystems 1993 (coefficients of R).
    """
    bits = bits_of(x)
    k = (bits - SQRT_HALF_BITS) >> 52
    f = float_of(bits - (k << 52)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    R = 1.531383769920937332e-01 + z * 1.479819860511658591e-01
    R = 1.818357216161805012e-01 + z * R
    R = 2.222219843214978396e-01 + z * R
    R = 2.857142874366239149e-01 + z * R
    R = 3.999999999940941908e-01 + z * R
    R = z * (6.666666666666735130e-01 + z * R)
    half = 0.5 * f * f
    return k * LN2_HIGH - ((half - (s * (half + R) + k * LN2_LOW)) - f)


@kernel
def log_softmax(theta, pi, log_total, scratch, first, last):
    """pi[:, u] = softmax(theta[:, u]), log_total[u] = logsumexp(theta[:, u]) for first <= u < last."""
    # Unsigned, or every index would be looked at for being negative, and the loops would not be vectorised.
    V, begin, end = theta.shape[0], np.uintp(first), np.uintp(last)
    for u in range(begin, end):
        log_total[u] = theta[0, u]
        scratch[u] = 0.0
    for a in range(1, V):
        for u in range(begin, end):
            log_total[u] = max(log_total[u], theta[a, u])
    for a in range(V):
        for u in range(begin, end):
            e = vexp(theta[a, u] - log_total[u])
            pi[a, u] = e
            scratch[u] += e
    for u in range(begin, end):
        log_total[u] += vlog(scratch[u])
        scratch[u] = 1.0 / scratch[u]
    for a in range(V):
        for u in range(begin, end):
            pi[a, u] *= scratch[u]
