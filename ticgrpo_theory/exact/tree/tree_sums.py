"""Sums over all responses of a prefix tree, for weights that depend on a whole response.

Probabilities of prefixes are carried down by multiplication, sums over subtrees up: cost is linear in the
number of responses, and nothing is exponentiated but the two tables. Tables are float64 [S, V] that
`policy.logits` has checked; -inf masks a token, whose weight is then 0. Clips compare p with a bound times
p_old, so no ratio is formed and nothing overflows. A probability below 1e-308 has lost digits, below 5e-324
it is 0: what it would have added is smaller than 1e-308 times f (1e-154 times f for geometric means).
"""

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.estimators.clip_table import ClipTable
from ticgrpo_theory.exact.tree import tree_kernels as kernels
from ticgrpo_theory.worlds.graph import Tree

Floats = NDArray[np.float64]

BLOCK_LEAVES = 2**16
"""Leaves of the subtrees that are done one after another: the numbers above them stay in the cache."""


def response_weights(
    tree: Tree,
    theta: Floats,
    theta_old: Floats,
    f_plus: Floats,
    f_minus: Floats | None,
    table: ClipTable,
    exponent: Floats,
    out: Floats | None = None,
) -> Floats:
    """M[s, a] = sum over y through (s, a) of P_old(y) (c+(w) f_plus(y) + c-(w) f_minus(y)).

    w = (P_theta(y) / P_old(y))^exponent, the exponent given for lengths 0..T; c+ and c- the weights that
    `table` lists, at every length or at each of 0..T. f_plus, f_minus: expected positive and negative part of
    the advantage, times the scale, of each outcome; None for f_minus adds nothing. The result is in units of
    f per logit. Source: arXiv:2508.02833 v2, Eq. 9, for the exponent 1. Raises ValueError for wrong shapes.
    """
    tables = checked(tree, theta, theta_old, f_plus, f_plus if f_minus is None else f_minus)
    with np.errstate(over="ignore"):
        lo_plus, hi_plus, lo_minus, hi_minus, below_plus, above_plus, below_minus, above_minus = (
            np.broadcast_to(np.exp(column), exponent.shape) for column in table
        )
    plus = np.stack([lo_plus, hi_plus, below_plus, above_plus], axis=1)
    minus = np.stack([lo_minus, hi_minus, below_minus, above_minus], axis=1)
    rule = kernels.Rule(np.stack([plus, minus], axis=1), exponent)
    f = (np.ascontiguousarray(x, dtype=np.float64) for x in (f_plus, [] if f_minus is None else f_minus))
    M, numbers = result(theta, tables[0].size, out)
    kernels.response_pass(shape_of(tree), rule, *blocks(tree), tables, *f, numbers)
    return M


def blocks(tree: Tree) -> tuple[int, NDArray[np.int64]]:
    """Levels of a block, without the last one, and where each level starts in its arrays."""
    depth, last = 0, tree.horizon - 1
    while depth < last and tree.fanout ** (depth + 2) <= BLOCK_LEAVES:
        depth += 1
    widths = [tree.fanout**level for level in range(max(depth, last - depth) + 1)]
    return depth, np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)


def shape_of(tree: Tree) -> kernels.Shape:
    eos = -1 if tree.eos is None else tree.eos
    return kernels.Shape(tree.vocab_size, tree.fanout, tree.horizon, eos, tree.node_start, tree.final_start)


def checked(
    tree: Tree, theta: Floats, theta_old: Floats, f_plus: Floats, f_minus: Floats
) -> tuple[Floats, Floats]:
    """theta and theta_old as kernels read them, the rows of the tree one after another.

    Raises ValueError where a shape is wrong. Rows beyond those of the tree belong to other prompts.
    """
    rows = int(tree.node_start[-1])
    for name, table in (("theta", theta), ("theta_old", theta_old)):
        if table.ndim != 2 or table.shape[0] < rows or table.shape[1] != tree.vocab_size:
            raise ValueError(
                f"{name} has shape {table.shape}; this tree reads {rows} rows of {tree.vocab_size} logits: "
                f"give a table [S, V] with S >= {rows}, V = {tree.vocab_size}"
            )
    for name, f in (("f_plus", f_plus), ("f_minus", f_minus)):
        if f.shape != (tree.num_responses,):
            raise ValueError(
                f"{name} has shape {f.shape}; give one number for each of the {tree.num_responses:,} "
                f"responses, in the order of tree.reward"
            )
    now, old = (np.ascontiguousarray(table[:rows], dtype=np.float64) for table in (theta, theta_old))
    return now.reshape(-1), old.reshape(-1)


def result(theta: Floats, size: int, out: Floats | None = None) -> tuple[Floats, Floats]:
    """A table M like theta, and its first `size` numbers, which a kernel will fill; the others are 0."""
    M = np.empty(theta.shape) if out is None else out
    if M.shape != theta.shape or M.dtype != np.float64 or not M.flags.c_contiguous:
        raise ValueError(
            f"out has shape {M.shape} and type {M.dtype}; give a C-contiguous float64 table "
            f"of the shape of theta, {theta.shape}"
        )
    M.reshape(-1)[size:] = 0.0
    return M, M.reshape(-1)[:size]
