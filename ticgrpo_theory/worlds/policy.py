"""Softmax policies given as tables of logits: pi_theta(a | s) = exp(theta[s, a]) / sum_b exp(theta[s, b])."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.inputs.numbers import as_number, shown
from ticgrpo_theory.worlds.mdp import TokenMDP, check_mdp


def logits(mdp: TokenMDP, theta: Tensor | ArrayLike, name: str = "theta") -> Float[Tensor, "S V"]:
    """`theta` as a float64 CPU table [S, V], checked. -inf masks a token.

    Raises ValueError for what is no TokenMDP, what is no table of real numbers, a wrong shape, NaN, +inf, and
    rows of which every entry is -inf.
    """
    check_mdp("mdp", mdp)
    expected = (mdp.num_rows, mdp.vocab_size)
    table = real_table(theta, name, f"logits (S, V) = {expected}").contiguous()
    if tuple(table.shape) != expected:
        raise ValueError(
            f"{name} has shape {tuple(table.shape)}; this world needs (S, V) = {expected}, one row of logits "
            f"for each of its {mdp.num_rows} rows"
        )
    # One pass over memory where the checks below take six, and no threads to wait for on a busy machine.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(table.numpy().sum()):
            return table
    bad = torch.isnan(table) | (table == torch.inf)
    if bool(bad.any()):
        row, token = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name}[{row}, {token}] = {table[row, token].item()}: logits must be finite, "
            f"or -inf to mask a token"
        )
    empty = (table == -torch.inf).all(dim=1)
    if bool(empty.any()):
        row = int(empty.nonzero()[0])
        raise ValueError(
            f"{name}[{row}] is -inf for every token: leave at least one token of the row possible"
        )
    return table


def real_table(theta: Tensor | ArrayLike, name: str, wanted: str) -> Tensor:
    """What holds real numbers as a float64 CPU tensor without a graph; ValueError for anything else."""
    if isinstance(theta, Tensor):
        kind = "complex" if theta.is_complex() else str(theta.dtype) if theta.dtype == torch.bool else ""
        table = theta.detach() if theta.layout is torch.strided else theta.detach().to_dense()
    else:
        table = as_array(theta)
        kind = {"c": "complex", "b": "bool"}.get(table.dtype.kind, "")
        if table.dtype.kind not in "biufc":
            raise ValueError(
                f"{name} = {shown(theta)} is no table of numbers: give {wanted} as a tensor, an array or "
                f"lists of rows"
            )
    if kind == "complex":
        raise ValueError(
            f"{name} is complex ({table.dtype}), and its imaginary part would be dropped: give {wanted}, for "
            f"instance {name}.real"
        )
    if kind:
        raise ValueError(f"{name} has dtype {table.dtype}, and bools are no logits: give numbers, {wanted}")
    # The dtype is named: Python floats would be read as float32, an error of 1e-8.
    return torch.as_tensor(table, dtype=torch.float64, device="cpu")


def as_array(theta: ArrayLike) -> np.ndarray:
    """Lists, arrays and data frames as an array; of dtype object where an entry is no number."""
    try:
        table = np.asarray(theta)
    except (ValueError, TypeError, RuntimeError):  # ragged, or tensors with a graph within a list
        return np.asarray(None)
    if table.dtype.kind == "O" and table.size and None not in (found := [as_number(x) for x in table.flat]):
        return np.array(found, dtype=np.float64).reshape(table.shape)
    return table


def check_support(theta: Float[Tensor, "S V"], theta_old: Float[Tensor, "S V"], name: str = "theta") -> None:
    """Raise ValueError where theta allows a token that theta_old never draws: no sample shows its gradient.

    Never means probability 0 in float64: a logit of -inf, or one about 745 below the others of its row.
    """
    if np.ptp(theta_old.numpy()) < 700:
        return
    missing = (torch.softmax(theta_old, dim=-1) == 0) & (torch.softmax(theta, dim=-1) > 0)
    if bool(missing.any()):
        row, token = missing.nonzero()[0].tolist()
        raise ValueError(
            f"row {row}, token {token} has probability zero under theta_old but not under {name} (logits "
            f"{theta_old[row, token].item():g} and {theta[row, token].item():g}): importance ratios are "
            f"undefined there; mask it (-inf) in {name} too, or give it a larger logit in theta_old"
        )


def log_probabilities(theta: Float[Tensor, "*b S V"]) -> Float[Tensor, "*b S V"]:
    """log pi_theta(a | s) = theta[s, a] - logsumexp(theta[s])."""
    return torch.log_softmax(theta, dim=-1)


def pull_back(weights: Float[Tensor, "*b S V"], theta: Float[Tensor, "*b S V"]) -> Float[Tensor, "*b S V"]:
    """sum_a M[s, a] grad_theta[s] log pi(a | s) = M[s, a] - pi_theta(a | s) sum_b M[s, b]."""
    pi = torch.softmax(theta, dim=-1)
    pulled = weights - pi * weights.sum(dim=-1, keepdim=True)
    # A row adds to 0. Where pi is nearly 1 the difference above has no digit left, and the others have all.
    top = pi.argmax(dim=-1, keepdim=True)
    pulled = pulled.scatter(-1, top, 0.0)
    return pulled.scatter(-1, top, -pulled.sum(dim=-1, keepdim=True))
