"""What the compiled passes are compared with: the same sums as one would write them in NumPy or in torch.

The formulas are written out a second time, on purpose: a baseline shares nothing with the package.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class LevelByLevel:
    """Clipped trajectory weights on the prefix tree of V^T responses: good NumPy.

    Level by level, probabilities carried by multiplication, sums over children by reshaping, every array
    allocated once and written in place.
    """

    def __init__(self, V: int, T: int) -> None:
        self.V, self.T = V, T
        self.first_row = np.concatenate([[0], np.cumsum([V**t for t in range(T)])])
        self.reached = [[np.ones(V**t) for t in range(T + 1)] for _ in range(2)]
        self.beyond = np.empty(V**T, dtype=np.bool_)
        self.M = np.empty((int(self.first_row[-1]), V))

    def weights(self, theta: Floats, theta_old: Floats, f: Floats, log_highest: float) -> Floats:
        """M[s, a] = sum over responses y through (s, a) of P_old w' 1{log w' <= log_highest} f(y)."""
        V, T, first_row = self.V, self.T, self.first_row
        for logits, reached in zip((theta, theta_old), self.reached, strict=True):
            for t in range(T):
                table = logits[first_row[t] : first_row[t + 1]]
                child = reached[t + 1].reshape(-1, V)
                np.subtract(table, table.max(axis=1, keepdims=True), out=child)
                np.exp(child, out=child)
                child *= (reached[t] / child.sum(axis=1))[:, None]
        p, p_old = self.reached[0][T], self.reached[1][T]
        leaves = self.M[first_row[T - 1] :].reshape(-1)
        np.multiply(p, f, out=leaves)
        p_old *= np.exp(log_highest)
        np.greater(p, p_old, out=self.beyond)
        leaves[self.beyond] = 0.0
        for t in range(T - 1, 0, -1):
            below = self.M[first_row[t] : first_row[t + 1]]
            np.sum(below, axis=1, out=self.M[first_row[t - 1] : first_row[t]].reshape(-1))
        return self.M


def response_by_response(
    V: int,
    T: int,
    theta: Tensor,
    theta_old: Tensor,
    f: Tensor,
    log_highest: float,
    some: list[int],
    out: Tensor,
) -> None:
    """out += sum over some responses y of P_old w' 1{log w' <= log_highest} f(y) grad log P_theta(y).

    By autograd, one response at a time; only the T rows that it reads are differentiated.
    """
    first_row = np.concatenate([[0], np.cumsum([V**t for t in range(T)])])
    at = torch.arange(T)
    for y in some:
        rows = torch.tensor([int(first_row[t]) + y // V ** (T - t) for t in range(T)])
        tokens = torch.tensor([y // V ** (T - 1 - t) % V for t in range(T)])
        logits = theta[rows].requires_grad_()
        logp = torch.log_softmax(logits, dim=-1)[at, tokens].sum()
        logp_old = torch.log_softmax(theta_old[rows], dim=-1)[at, tokens].sum()
        w = torch.where(logp - logp_old <= log_highest, (logp - logp_old).exp(), 0.0)
        (logp_old.exp() * w * f[y]).backward()
        out[rows] += logits.grad
