"""What the compiled passes share: how they are compiled, the exponential, the softmax, and the clip.

Kernels take NumPy arrays and numbers only; the Python functions that call them check shape, dtype and
contiguity.
"""

import inspect
from collections.abc import Callable

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic


def kernel(f: Callable) -> Callable:
    """f compiled by numba and kept on disk.

    Unwrapped first: the import hook that checks shapes in tests wraps functions before numba would see them.
    """
    return numba.njit(inspect.unwrap(f), cache=True, error_model="numpy")


def reduction(f: Callable) -> Callable:
    """As `kernel`, for sums and maxima of numbers that are never NaN, which may be taken in vector order.

    The order is the same in every run on one machine; another vector width may change the last bits.
    """
    return numba.njit(inspect.unwrap(f), cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "nnan"})


def _fma(context, a, b, c):
    def generate(context, builder, signature, args):
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), generate


def _bits_of(context, x):
    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), generate


def _float_of(context, bits):
    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), generate


# a * b + c with one rounding; the IEEE 754 pattern of a float64, and back: single vector instructions.
fma, bits_of, float_of = (intrinsic(inspect.unwrap(f)) for f in (_fma, _bits_of, _float_of))

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = (
    0.6931471803691238,
    1.9082149292705877e-10,
)  # sum to ln 2; n * LN2_HIGH is exact for |n| < 2^11
ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, left in the lowest bits
ROUND_BITS = 0x4338000000000000
UNDERFLOW = -746.0  # exp rounds to 0 here; the smallest positive float64 is exp(-744.4)


@kernel
def vexp(x: float) -> float:
    """exp(x) for x <= 0, -inf included, within 1 unit in the last place; LLVM vectorises loops over it.

    exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2, and exp(r) = 1 + r + r^2 p(r) with p the
    polynomial of degree 9 of least relative error (4e-18). 2^n is applied in two factors, as results below
    2^-1022 need. Written out because the exponential that numba calls is not vectorised, and is eight times
    slower.
    """
    x = max(x, UNDERFLOW)
    shifted = fma(x, LOG2_E, ROUND)
    n = shifted - ROUND
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    p = fma(r, 2.5000080054258652e-08, 2.763023511852494e-07)
    p = fma(r, p, 2.755758624829083e-06)
    p = fma(r, p, 2.4801493132610852e-05)
    p = fma(r, p, 0.00019841269506789966)
    p = fma(r, p, 0.001388888894360138)
    p = fma(r, p, 0.008333333333494335)
    p = fma(r, p, 0.04166666666653025)
    p = fma(r, p, 0.16666666666666413)
    p = fma(r, p, 0.5000000000000011)
    p = fma(r * r, p, r)
    power = bits_of(shifted) - ROUND_BITS
    half = power >> 1
    return (1.0 + p) * float_of((half + 1023) << 52) * float_of((power - half + 1023) << 52)


@reduction
def total(x):
    """sum_a x[a]."""
    s = 0.0
    for a in range(x.size):
        s += x[a]
    return s


LEAST_SUM, GREATEST_SUM = 1e-30, 1e30
OVERFLOW = 700.0


@reduction
def _normalise(e, V, parent):
    sound = True
    for i in range(parent.size):
        s = 0.0
        for a in range(V):
            s += e[i * V + a]
        sound &= (s > LEAST_SUM) & (s < GREATEST_SUM)
        factor = parent[i] / s
        for a in range(V):
            e[i * V + a] *= factor
    return sound


@kernel
def normalise(e, V, parent):
    """e[i, a] <- parent[i] e[i, a] / sum_b e[i, b]; whether every sum is far from overflow and underflow."""
    # The commonest short rows get code of their own: their loops are then unrolled, three times as fast.
    if V == 2:
        return _normalise(e, 2, parent)
    if V == 3:
        return _normalise(e, 3, parent)
    if V == 4:
        return _normalise(e, 4, parent)
    return _normalise(e, V, parent)


@kernel
def distribute(logits, V, parent, out):
    """out[i, a] = parent[i] softmax(logits[i])[a], rows of V numbers one after another.

    One constant is subtracted from all rows, because their maxima would take as long as the exponentials;
    where the sums then show that it lies too far from the maximum of some row, every row is given its own.
    """
    if logits.size == 0:
        return
    shift = logits[0] if logits[0] > -np.inf else 0.0
    for i in range(logits.size):
        out[i] = vexp(min(logits[i] - shift, OVERFLOW))
    if normalise(out, V, parent):
        return
    for first in range(0, logits.size, V):
        m = logits[first]
        for a in range(1, V):
            m = max(m, logits[first + a])
        for a in range(V):
            out[first + a] = vexp(logits[first + a] - m)
    normalise(out, V, parent)


BLOCK = 2**14
"""Logits worked on together: their tables stay in the second-level cache, and memory stays bounded."""


@kernel
def softmax(logits, rows, out):
    """out[i, a] = exp(logits[s, a]) / sum_b exp(logits[s, b]), s = rows[i]; 0 where the logit is -inf."""
    n, V = rows.size, logits.shape[1]
    neighbours = True
    for i in range(n):
        neighbours &= rows[i] == rows[0] + i
    if neighbours:
        table = logits[rows[0] : rows[0] + n]
    else:
        table = np.empty((n, V))
        for i in range(n):
            for a in range(V):
                table[i, a] = logits[rows[i], a]
    distribute(table.reshape(-1), V, np.ones(n), out[:n].reshape(-1))


@kernel
def clipped(p, p_old, lowest, highest, below, above):
    """p_old c(w), w = p / p_old: c = below where w < lowest, above where w > highest, else w.

    The ratio itself is never formed: where p_old underflows to 0 it has no value, but the product is p.
    """
    inside = above * p_old if p > highest * p_old else p
    return below * p_old if p < lowest * p_old else inside


@kernel
def pull_back(weights, logits, out):
    """out[s, a] = M[s, a] - pi(a | s) sum_b M[s, b], pi = softmax(logits); `out` may be `weights` itself."""
    S, V = logits.shape
    step = max(1, BLOCK // V)
    pi = np.empty((step, V))
    for first in range(0, S, step):
        rows = np.arange(first, min(first + step, S))
        softmax(logits, rows, pi)
        for i in range(rows.size):
            s, share = rows[i], total(weights[rows[i]])
            for a in range(V):
                out[s, a] = weights[s, a] - pi[i, a] * share
