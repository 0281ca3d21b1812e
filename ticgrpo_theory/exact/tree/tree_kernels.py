"""Compiled passes over a prefix tree: probabilities down, sums over subtrees up.

Node n of depth t reads row node_start[t] + n; its j-th continued token leads to node n F + j of depth t + 1,
F the fanout. A response that ends with the EOS token at node n of depth t is the outcome with the number of
that row; those cut at the horizon follow, first_cut + leaf. So every index is computed and no table of them
is read. A subtree of some levels is a block: its nodes of one depth are neighbours in memory, in every
table. Level k of a block holds F^k numbers, kept from offset[k] on in one array.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.worlds.compiling import kernel
from ticgrpo_theory.worlds.kernels import clipped, distribute, row_sums

TILE = 2**13
"""Leaves worked on together: long streams through memory, and their numbers in the second-level cache."""


class Shape(NamedTuple):
    """The numbers that describe a Tree; eos = -1 where there is none."""

    V: int
    F: int
    T: int
    eos: int
    node_start: NDArray[np.int64]
    first_cut: int


class Rule(NamedTuple):
    """What a response of each length weighs: c(w^exponent[length]), c by sign from clip[length, sign]."""

    clip: NDArray[np.float64]
    exponent: NDArray[np.float64]


class Pass(NamedTuple):
    """What every step of `response_pass` reads and writes, numbers of rows and responses one after another.

    tables: logits theta and theta_old [S V]; f_plus, f_minus: of every response, f_minus empty where it adds
    nothing; work: [5, room] for P, P_old and weights of the tokens at hand; M: the result [S V].
    """

    shape: Shape
    rule: Rule
    tables: tuple[NDArray[np.float64], NDArray[np.float64]]
    f_plus: NDArray[np.float64]
    f_minus: NDArray[np.float64]
    work: NDArray[np.float64]
    M: NDArray[np.float64]


@kernel
def tempered(p, p_old, exponent):
    """p_old (p / p_old)^exponent for an exponent > 0; its limit where p_old is 0."""
    if p == p_old or p == 0.0:
        return p
    if p_old == 0.0:
        return 0.0 if exponent < 1.0 else np.inf
    return math.exp(exponent * math.log(p) + (1.0 - exponent) * math.log(p_old))


@kernel
def weigh(rule, length, p, p_old, f_plus, f_minus, out):
    """out[i] = p_old (c+(w) f_plus + c-(w) f_minus), w = (p / p_old)^exponent[length]; overwrites p.

    An empty f_minus adds nothing.
    """
    exponent = rule.exponent[length]
    if exponent != 1.0:
        for i in range(p.size):
            p[i] = tempered(p[i], p_old[i], exponent)
    lowest_plus, highest_plus, below_plus, above_plus = rule.clip[length, 0]
    lowest_minus, highest_minus, below_minus, above_minus = rule.clip[length, 1]
    if f_minus.size == 0:
        for i in range(p.size):
            out[i] = f_plus[i] * clipped(p[i], p_old[i], lowest_plus, highest_plus, below_plus, above_plus)
        return
    for i in range(p.size):
        plus = clipped(p[i], p_old[i], lowest_plus, highest_plus, below_plus, above_plus)
        minus = clipped(p[i], p_old[i], lowest_minus, highest_minus, below_minus, above_minus)
        out[i] = plus * f_plus[i] + minus * f_minus[i]


@kernel
def continued(shape, table, out):
    """out[i, j] = table[i, a], a the j-th token that does not end the response."""
    j = 0
    for i in range(table.size // shape.V):
        for a in range(shape.V):
            if a != shape.eos:
                out[j] = table[i * shape.V + a]
                j += 1


@kernel
def place(shape, child, table):
    """table[i, a] = child[i, j], a the j-th token that does not end the response."""
    if shape.eos < 0:
        for i in range(child.size):
            table[i] = child[i]
        return
    j = 0
    for i in range(table.size // shape.V):
        for a in range(shape.V):
            if a != shape.eos:
                table[i * shape.V + a] = child[j]
                j += 1


@kernel
def end_here(given, length, row, count):
    """M of EOS in `count` rows from `row` on; work[0], work[1] hold P and P_old of all their tokens."""
    shape, rule, _, f_plus, f_minus, work, M = given
    for i in range(count):
        work[2][i] = work[0][i * shape.V + shape.eos]
        work[3][i] = work[1][i * shape.V + shape.eos]
    rows = slice(row, row + count)
    weigh(rule, length, work[2][:count], work[3][:count], f_plus[rows], f_minus[rows], work[4][:count])
    for i in range(count):
        M[(row + i) * shape.V + shape.eos] = work[4][i]


@kernel
def level(shape, t, root, k):
    """(first row, number) of the nodes of depth t, k levels below node `root`."""
    count = shape.F**k
    return shape.node_start[t] + root * count, count


@kernel
def down(given, start, stop, root, offset, reached):
    """reached[0], reached[1]: P and P_old of the nodes of depths start + 1 .. stop below `root`; M of EOS.

    The first numbers of `reached` are given.
    """
    shape, tables, work = given.shape, given.tables, given.work
    V = shape.V
    for k in range(stop - start):
        row, count = level(shape, start + k, root, k)
        logits = slice(row * V, (row + count) * V)
        for policy in range(2):
            parent = reached[policy][offset[k] : offset[k + 1]]
            child = reached[policy][offset[k + 1] : offset[k + 2]]
            every = child if shape.eos < 0 else work[policy][: count * V]
            distribute(tables[policy][logits], V, parent, every)
            if shape.eos >= 0:
                continued(shape, every, child)
        if shape.eos >= 0:
            end_here(given, start + k + 1, row, count)


@kernel
def bottom(given, first_row, parent, total):
    """M of the last tokens of the nodes from `first_row` on, reached with `parent`; total of each node.

    Leaves are most of a tree: tile by tile they are reached, weighed, added up, before they leave the cache.
    """
    shape, rule, tables, f_plus, f_minus, work, M = given
    V, F, T = shape.V, shape.F, shape.T
    step = max(1, TILE // V)
    for first in range(0, total.size, step):
        count = min(step, total.size - first)
        row = first_row + first
        leaf = shape.first_cut + (row - shape.node_start[T - 1]) * F
        logits, leaves = slice(row * V, (row + count) * V), slice(leaf, leaf + count * F)
        nodes = slice(first, first + count)
        for policy in range(2):
            distribute(tables[policy][logits], V, parent[policy][nodes], work[policy][: count * V])
        if shape.eos >= 0:
            end_here(given, T, row, count)
            continued(shape, work[0][: count * V], work[2])
            continued(shape, work[1][: count * V], work[3])
        p, p_old, out = work[0][: count * F], work[1][: count * F], M[logits]
        if shape.eos >= 0:
            p, p_old, out = work[2][: count * F], work[3][: count * F], work[4][: count * F]
        weigh(rule, T, p, p_old, f_plus[leaves], f_minus[leaves], out)
        if shape.eos >= 0:
            place(shape, out, M[logits])
        row_sums(M[logits], V, total[nodes])


@kernel
def up(shape, start, stop, root, offset, total, M):
    """M of tokens that go on, and total[0], from the totals of the nodes of depth `stop` below `root`."""
    V = shape.V
    for k in range(stop - start - 1, -1, -1):
        row, count = level(shape, start + k, root, k)
        table = M[row * V : (row + count) * V]
        place(shape, total[offset[k + 1] : offset[k + 2]], table)
        row_sums(table, V, total[offset[k] : offset[k + 1]])


@kernel
def response_pass(shape, rule, depth, offset, tables, f_plus, f_minus, M):
    """M[s, a] = sum over the responses y through (s, a) of P_old (c+(w^e) f_plus(y) + c-(w^e) f_minus(y)).

    The tree is one block on top, round -1, and below each of its leaves a block of `depth` levels and the
    last tokens.
    """
    V, last = shape.V, shape.T - 1
    top = last - depth
    size_top, size = offset[top + 1], offset[depth + 1]
    reached_top, total_top = (np.empty(size_top), np.empty(size_top)), np.empty(size_top)
    reached_block, total = (np.empty(size), np.empty(size)), np.empty(size)
    room = max(TILE, V)
    if shape.eos >= 0:
        room = max(room, max(size_top, size) * V)
    given = Pass(shape, rule, tables, f_plus, f_minus, np.empty((5, room)), M)
    reached_top[0][0], reached_top[1][0] = 1.0, 1.0
    base = slice(offset[depth], offset[depth + 1])
    for root in range(-1, shape.F**top):
        reached = reached_top if root < 0 else reached_block
        start, stop = (0, top) if root < 0 else (top, last)
        for policy in range(2 if root >= 0 else 0):
            reached[policy][0] = reached_top[policy][offset[top] + root]
        down(given, start, stop, max(root, 0), offset, reached)
        if root >= 0:
            row, _ = level(shape, last, root, depth)
            parent = reached[0][base], reached[1][base]
            bottom(given, row, parent, total[base])
            up(shape, top, last, root, offset, total, M)
            total_top[offset[top] + root] = total[0]
    up(shape, offset[0], top, offset[0], offset, total_top, M)
