"""Inner products of scores, psi(s, a) = grad log pi(a | s) = e_a - pi(. | s) in row s, without cancellation.

    <psi(s, a), psi(s, b)> = 1{a = b} - pi(a | s) - pi(b | s) + ||pi(. | s)||^2,    0 between different rows.

Where one token has nearly all the probability of its row, the ones of this formula cancel to its last digit.
With m that token, c = sum_{a != m} pi(a) = 1 - pi(m) and q = sum_{a != m} pi(a)^2,

    ||psi(m)||^2 = c^2 + q,    <psi(m), psi(b)> = q - c pi(m) - pi(b)  for b != m.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.worlds.compiling import kernel


class Rows(NamedTuple):
    """Of every row: the most likely token m, and over the others c = sum pi and q = sum pi^2."""

    top: NDArray[np.int64]
    c: NDArray[np.float64]
    q: NDArray[np.float64]


def rows_of(score: Float[np.ndarray, "S V"]) -> Rows:
    """The parts of every row of a policy."""
    top = score.argmax(axis=1)
    others = score.copy()
    others[np.arange(len(score)), top] = 0.0
    return Rows(top, others.sum(axis=1), (others**2).sum(axis=1))


def norms(score: Float[np.ndarray, "S V"]) -> Float[np.ndarray, "S V"]:
    """||psi(s, a)||^2."""
    top, c, q = rows_of(score)
    at = np.arange(len(score)), top
    found = 1 - 2 * score + (q + score[at] ** 2)[:, None]
    found[at] = c**2 + q
    return found


def products(score: Float[np.ndarray, "S V"]) -> Float[np.ndarray, "S V V"]:
    """<psi(s, a), psi(s, b)> of every pair of tokens of a row."""
    S, V = score.shape
    rows, a = torch.from_numpy(np.arange(S))[:, None, None], torch.arange(V)
    return product(score, rows, a[None, :, None], a[None, None, :]).numpy()


def product(
    score: Float[np.ndarray, "S V"],
    rows: Int64[Tensor, "*#n"],
    a: Int64[Tensor, "*#n"],
    b: Int64[Tensor, "*#n"],
) -> Float[Tensor, "..."]:
    """<psi(s, a), psi(s, b)> for rows s and tokens a and b, broadcast."""
    top, c, q = (torch.from_numpy(each)[rows] for each in rows_of(score))
    table = torch.from_numpy(score)
    p_a, p_b, p_top = table[rows, a], table[rows, b], table[rows, top]
    plain = (a == b).double() - p_a - p_b + (q + p_top**2)
    is_a, is_b = a == top, b == top
    mixed = q - c * p_top - torch.where(is_a, p_b, p_a)
    return torch.where(is_a & is_b, c**2 + q, torch.where(is_a ^ is_b, mixed, plain))


@kernel
def row_norms(pi, top, out):
    """out[a] = ||psi(a)||^2 of one row; `top` as nearly_certain has it."""
    c, q = 0.0, 0.0
    for a in range(pi.size):
        if a != top:
            c += pi[a]
            q += pi[a] * pi[a]
    own = q if top < 0 else q + pi[top] * pi[top]
    for a in range(pi.size):
        out[a] = 1.0 - 2.0 * pi[a] + own
    if top >= 0:
        out[top] = c * c + q
