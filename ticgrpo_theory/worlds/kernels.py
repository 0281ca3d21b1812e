"""What the compiled passes share: the exponential, the softmax, and the clip.

Kernels take NumPy arrays and numbers only; the Python functions that call them check shape, dtype and
contiguity.
"""

import inspect

import numpy as np
from numba import types
from numba.extending import intrinsic

from ticgrpo_theory.worlds.compiling import kernel, reduction


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
    """exp(x) for x <= 709, -inf included, within 1.1 units in the last place; LLVM vectorises loops over it.

    exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2, and exp(r) = 1 + r + r^2 p(r) with p the
    polynomial of degree 9 of least relative error (4e-18). 2^n is applied in two factors, as results below
    2^-1022 need. Written out because the exponential that numba calls is not vectorised: it takes eight times
    as long.
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


OVERFLOW = 700.0  # exp of it is a float64, with room for a sum of a thousand million
LEAST_SUM, GREATEST_SUM = 1e-30, 1e30


@reduction
def total(x):
    """sum_a x[a]."""
    s = 0.0
    for a in range(x.size):
        s += x[a]
    return s


# Tables are walked as one array, rows of V numbers one after another. Rows of 2, 3 and 4 tokens are written
# out: side by side they fill vector registers, three times as fast as loops over tokens. No row is treated
# unlike its neighbours, so that every result depends on its own row alone, to the last bit.


@kernel
def row_sums(x, V, out):
    """out[i] = sum_a x[i, a]."""
    if V == 2:
        for i in range(out.size):
            out[i] = x[2 * i] + x[2 * i + 1]
    elif V == 3:
        for i in range(out.size):
            out[i] = x[3 * i] + x[3 * i + 1] + x[3 * i + 2]
    elif V == 4:
        for i in range(out.size):
            out[i] = (x[4 * i] + x[4 * i + 1]) + (x[4 * i + 2] + x[4 * i + 3])
    else:
        for i in range(out.size):
            out[i] = total(x[i * V : (i + 1) * V])


@kernel
def sound(s):
    """Whether a sum of exponentials is far from overflow and underflow."""
    return (s > LEAST_SUM) & (s < GREATEST_SUM)


@kernel
def normalise(e, V, parent):
    """e[i, a] <- parent[i] e[i, a] / sum_b e[i, b]; returns the number of rows whose sum is not sound."""
    unsound = 0
    if V == 2:
        for i in range(parent.size):
            s = e[2 * i] + e[2 * i + 1]
            unsound += not sound(s)
            f = parent[i] / s
            e[2 * i] *= f
            e[2 * i + 1] *= f
    elif V == 3:
        for i in range(parent.size):
            s = e[3 * i] + e[3 * i + 1] + e[3 * i + 2]
            unsound += not sound(s)
            f = parent[i] / s
            e[3 * i] *= f
            e[3 * i + 1] *= f
            e[3 * i + 2] *= f
    elif V == 4:
        for i in range(parent.size):
            s = (e[4 * i] + e[4 * i + 1]) + (e[4 * i + 2] + e[4 * i + 3])
            unsound += not sound(s)
            f = parent[i] / s
            e[4 * i] *= f
            e[4 * i + 1] *= f
            e[4 * i + 2] *= f
            e[4 * i + 3] *= f
    else:
        for i in range(parent.size):
            s = total(e[i * V : (i + 1) * V])
            unsound += not sound(s)
            f = parent[i] / s
            for a in range(V):
                e[i * V + a] *= f
    return unsound


@kernel
def exponentials(x, out):
    """out[i] = exp(min(x[i], OVERFLOW))."""
    for i in range(x.size):
        out[i] = vexp(x[i] if x[i] < OVERFLOW else OVERFLOW)


@kernel
def distribute(logits, V, parent, out):
    """out[i, a] = parent[i] softmax(logits[i])[a].

    The exponentials are taken of the logits as they are, because finding the largest of a row takes almost as
    long; rows that turn out to need it are done again with their largest logit subtracted.
    """
    exponentials(logits, out)
    if normalise(out, V, parent) == 0:
        return
    shifted, s = np.empty(V), np.empty(1)
    for i in range(parent.size):
        row, e = logits[i * V : (i + 1) * V], out[i * V : (i + 1) * V]
        exponentials(row, e)
        row_sums(e, V, s)
        if not sound(s[0]):
            m = row[0]
            for a in range(1, V):
                m = max(m, row[a])
            for a in range(V):
                shifted[a] = row[a] - m
            exponentials(shifted, e)
        normalise(e, V, parent[i : i + 1])


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
