"""Compiled layers of the sums over (node, bin of the pooled log-ratio).

Bins are 0..B-1; cell B holds what has left them, which never comes back. A token of row s moves `shift[s, a]`
bins up, and with probability `up[s, a]` one more. One function, `place`, says where a token leads from a bin,
and forward, backward and the current token all ask it.
"""

import numpy as np

from ticgrpo_theory.worlds.compiling import kernel, reduction


@kernel
def place(first, last, shift, B):
    """(from, to): the bins of first..last that stay within 0..B-1 after a move by `shift`."""
    return max(first, -shift), min(last, B - 1 - shift)


@reduction
def dot(x, y):
    """sum_i x[i] y[i]."""
    s = 0.0
    for i in range(x.size):
        s += x[i] * y[i]
    return s


@reduction
def total(x):
    """sum_i x[i]."""
    s = 0.0
    for i in range(x.size):
        s += x[i]
    return s


@kernel
def add(q, x, out):
    """out[i] += q x[i]."""
    for i in range(out.size):
        out[i] += q * x[i]


@kernel
def following(j, onward, ended):
    """The values of a successor: of a node of the next depth, or of an outcome that ended here."""
    return onward[j] if j >= 0 else ended[-1 - j]


@kernel
def pull(q, shift, first, last, value, out):
    """out[x] += q value[x moved by shift], x in first..last and the cell of what has left."""
    B = out.size - 1
    a, b = place(first, last, shift, B)
    gone = q * value[B]
    for x in range(first, min(a, last + 1)):
        out[x] += gone
    for x in range(max(b + 1, a), last + 1):
        out[x] += gone
    if b >= a:
        add(q, value[a + shift : b + 1 + shift], out[a : b + 1])
    out[B] += gone


@kernel
def push(q, shift, first, last, mass, out):
    """out[x moved by shift] += q mass[x], x in first..last and the cell of what has left."""
    B = out.size - 1
    a, b = place(first, last, shift, B)
    gone = mass[B]
    for x in range(first, min(a, last + 1)):
        gone += mass[x]
    for x in range(max(b + 1, a), last + 1):
        gone += mass[x]
    if b >= a:
        add(q, mass[a : b + 1], out[a + shift : b + 1 + shift])
    out[B] += q * gone


@kernel
def meet(shift, first, last, mass, value):
    """sum_x mass[x] value[x moved by shift]."""
    B = value.size - 1
    a, b = place(first, last, shift, B)
    gone = mass[B] + total(mass[first : min(a, last + 1)]) + total(mass[max(b + 1, a) : last + 1])
    s = gone * value[B]
    if b >= a:
        s += dot(mass[a : b + 1], value[a + shift : b + 1 + shift])
    return s


@kernel
def backward_layer(rows, successor, edge, shift, up, first, last, onward, ended, out):
    """out[n, w] [B + 1]: sum over tokens of edge times the values [w] of what follows, w = 0, 1."""
    for n in range(rows.size):
        s = rows[n]
        out[n, :, first : last + 1] = 0.0
        out[n, :, -1] = 0.0
        for a in range(successor.shape[1]):
            q = edge[s, a]
            if q == 0.0:
                continue
            value = following(successor[n, a], onward, ended)
            for w in range(2):
                if up[s, a] < 1.0:
                    pull(q * (1.0 - up[s, a]), shift[s, a], first, last, value[w], out[n, w])
                if up[s, a] > 0.0:
                    pull(q * up[s, a], shift[s, a] + 1, first, last, value[w], out[n, w])


@kernel
def forward_layer(rows, successor, edge, token, shift, up, first, last, onward, ended, mass, after, M):
    """M[w, s, a] of this depth, and the mass of the next one."""
    B = mass.shape[1] - 1
    for n in range(rows.size):
        if not mass[n, B] > 0.0 and not total(mass[n, first : last + 1]) > 0.0:
            continue
        s = rows[n]
        for a in range(successor.shape[1]):
            q = edge[s, a]
            if q == 0.0:
                continue
            j = successor[n, a]
            value = following(j, onward, ended)
            for move in range(2):
                share = up[s, a] if move else 1.0 - up[s, a]
                if share == 0.0:
                    continue
                for w in range(2):
                    met = meet(shift[s, a] + move, first, last, mass[n], value[w])
                    M[w, s, a] += share * token[s, a] * met
                if j >= 0:
                    push(q * share, shift[s, a] + move, first, last, mass[n], after[j])


@kernel
def outcome_values(plus, minus, weights, out):
    """out[o, 0], out[o, 1]: middle and half width of plus w+ + minus w-, weights = inf and sup of w+, w-."""
    for o in range(plus.size):
        p, m = plus[o], minus[o]
        for x in range(out.shape[2]):
            a, b = p * weights[0, x], p * weights[1, x]
            c, d = m * weights[2, x], m * weights[3, x]
            out[o, 0, x] = 0.5 * (a + b + c + d)
            out[o, 1, x] = 0.5 * (abs(b - a) + abs(d - c))


def empty(nodes: int, bins: int) -> np.ndarray:
    """Values [n, 2, B + 1] of the nodes of a depth."""
    return np.zeros((nodes, 2, bins + 1))
