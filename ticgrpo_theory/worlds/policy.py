"""Softmax policies given as tables of logits: pi_theta(a | s) = exp(theta[s, a]) / sum_b exp(theta[s, b])."""

import math

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
    check_entries(table, name)
    return table


def checked_table(theta: Tensor | ArrayLike, name: str) -> Float[Tensor, "S V"]:
    """The same with as many rows and tokens as there are, for what is done row by row in any world."""
    table = real_table(theta, name, "logits (S, V)").contiguous()
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{name} has shape {tuple(table.shape)}; logits are a table (S, V), S, V >= 1")
    check_entries(table, name)
    return table


def check_entries(table: Float[Tensor, "S V"], name: str) -> None:
    """Raise ValueError for NaN, +inf, and rows of which every entry is -inf."""
    # One pass over memory where the checks below take six, and no threads to wait for on a busy machine.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(table.numpy().sum()):
            return
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


def check_support(theta: Float[Tensor, "S V"], sampler: Float[Tensor, "S V"]) -> None:
    """Raise ValueError where a token that theta allows is drawn with a probability too small for float64.

    That is a finite logit about 745 below the others of its row. A token that is masked (-inf) is another
    matter: it is never drawn, and what is computed says so.
    """
    if np.ptp(sampler.numpy()) < 700:
        return
    gone = (torch.softmax(sampler, dim=-1) == 0) & (sampler > -torch.inf) & (torch.softmax(theta, dim=-1) > 0)
    if bool(gone.any()):
        row, token = gone.nonzero()[0].tolist()
        raise ValueError(
            f"row {row}, token {token} has the logit {sampler[row, token].item():g} under the policy that "
            f"draws responses, which is probability 0 in float64 beside the others of its row, and "
            f"{theta[row, token].item():g} under theta: its importance ratio has no digits; give it a larger "
            f"logit, or -inf in the policy that draws, where it is never drawn"
        )


def check_sampler(sampler: Float[Tensor, "S V"], theta_old: Float[Tensor, "S V"]) -> None:
    """Raise ValueError where the sampler draws a token that theta_old forbids, or has probability 0 there."""
    if np.ptp(theta_old.numpy()) < 700:
        return
    forbidden = (torch.softmax(theta_old, dim=-1) == 0) & (torch.softmax(sampler, dim=-1) > 0)
    if bool(forbidden.any()):
        row, token = forbidden.nonzero()[0].tolist()
        raise ValueError(
            f"row {row}, token {token} is drawn by theta_sampler (logit {sampler[row, token].item():g}) and "
            f"has probability zero under theta_old: its ratio to theta_old is infinite; mask it (-inf) in "
            f"theta_sampler too, or give it a finite logit in theta_old"
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


def check_reference(sampler: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]) -> None:
    """Raise ValueError where the reference forbids a token that is drawn."""
    forbidden = (theta_ref == -math.inf) & (sampler > -math.inf)
    if bool(forbidden.any()):
        row, token = forbidden.nonzero()[0].tolist()
        raise ValueError(
            f"row {row}, token {token} has probability zero under theta_ref but not under the policy that "
            f"draws responses: the divergence to the reference is infinite; mask the token in theta_old (and "
            f"theta_sampler) too, or give it a finite logit in theta_ref"
        )
