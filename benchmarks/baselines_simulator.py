"""What the simulator is compared with: GRPO and TIC-GRPO as one writes them in PyTorch, plain or batched.

The formulas are written out here a second time, on purpose: a baseline shares nothing with the package that
is measured. All of them simulate the prefix tree of V^T responses of full length, with plain gradient ascent,
and take uniform numbers from `draw`, so that the same numbers give the same responses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Draw = Callable[[tuple[int, ...]], Tensor]
"""Uniform numbers of this shape."""


@dataclass(frozen=True)
class Case:
    """One setting: the tree, its rewards [V^T] in lexicographic order, and the algorithm."""

    vocab_size: int
    horizon: int
    reward: Tensor
    group_size: int
    inner_steps: int
    learning_rate: float
    objective: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(logp, logp_old [..., G, T], A [..., G]) -> scalar, summed over groups."""

    @property
    def first_row(self) -> Tensor:
        """Row of the first prefix of every length."""
        counts = torch.tensor([self.vocab_size**t for t in range(self.horizon)])
        return torch.cumsum(counts, 0) - counts


def grpo(logp: Tensor, logp_old: Tensor, A: Tensor) -> Tensor:
    """sum of min(w A, clip(w) A) / (G T): arXiv:2508.02833 v2, Eq. 5, at fixed length."""
    w, A = (logp - logp_old).exp(), A[..., None]
    clipped = torch.minimum(w * A, w.clamp(0.8, 1.2) * A)
    return clipped.sum() / (logp.shape[-1] * logp.shape[-2])


def tic_grpo(logp: Tensor, logp_old: Tensor, A: Tensor) -> Tensor:
    """sum of min(w', 1 + eps) A / G: Eq. 9, whose sum over tokens of one and the same number is left out."""
    w = (logp - logp_old).sum(dim=-1).exp()
    return (w.clamp(max=1.28) * A).sum() / logp.shape[-2]


def standardised(reward: Tensor) -> Tensor:
    centred = reward - reward.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + 1e-6)


def one_replicate(case: Case, theta: Tensor, outer_steps: int, draw: Draw) -> Tensor:
    """The plain loop: one replicate, responses of a group together, autograd through the table."""
    G, T, V = case.group_size, case.horizon, case.vocab_size
    theta = theta.clone().requires_grad_()
    first_row = case.first_row
    for _ in range(outer_steps):
        with torch.no_grad():
            rows, tokens = torch.empty(G, T, dtype=torch.long), torch.empty(G, T, dtype=torch.long)
            prefix = torch.zeros(G, dtype=torch.long)
            u = draw((1, G, T))[0]
            for t in range(T):
                rows[:, t] = first_row[t] + prefix
                cumulative = torch.softmax(theta[rows[:, t]], dim=-1).cumsum(dim=-1)
                tokens[:, t] = (cumulative <= u[:, t, None]).sum(dim=-1).clamp(max=V - 1)
                prefix = prefix * V + tokens[:, t]
            A = standardised(case.reward[prefix])
            logp_old = torch.log_softmax(theta, dim=-1)[rows, tokens]
        for _ in range(case.inner_steps):
            logp = torch.log_softmax(theta, dim=-1)[rows, tokens]
            case.objective(logp, logp_old, A).backward()
            with torch.no_grad():
                theta += case.learning_rate * theta.grad
            theta.grad = None
    return theta.detach()


def sample(case: Case, theta: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and tokens [R, G, T] and advantages [R, G] of a group for every replicate of theta [R, S, V]."""
    R, G, T, V = len(theta), case.group_size, case.horizon, case.vocab_size
    each, first_row = torch.arange(R)[:, None], case.first_row
    rows, tokens = (torch.empty(R, G, T, dtype=torch.long) for _ in range(2))
    prefix = torch.zeros(R, G, dtype=torch.long)
    u = draw((R, G, T))
    for t in range(T):
        rows[..., t] = first_row[t] + prefix
        cumulative = torch.softmax(theta[each, rows[..., t]], dim=-1).cumsum(dim=-1)
        tokens[..., t] = (cumulative <= u[..., t, None]).sum(dim=-1).clamp(max=V - 1)
        prefix = prefix * V + tokens[..., t]
    return rows, tokens, standardised(case.reward[prefix])


def batched_table(case: Case, theta: Tensor, outer_steps: int, draw: Draw) -> Tensor:
    """All replicates at once, autograd through the table."""
    theta = theta.clone().requires_grad_()
    each = torch.arange(len(theta))[:, None, None]
    for _ in range(outer_steps):
        with torch.no_grad():
            rows, tokens, A = sample(case, theta, draw)
            logp_old = torch.log_softmax(theta, dim=-1)[each, rows, tokens]
        for _ in range(case.inner_steps):
            logp = torch.log_softmax(theta, dim=-1)[each, rows, tokens]
            case.objective(logp, logp_old, A).backward()
            with torch.no_grad():
                theta += case.learning_rate * theta.grad
            theta.grad = None
    return theta.detach()


def batched_by_hand(case: Case, theta: Tensor, outer_steps: int, draw: Draw) -> Tensor:
    """All replicates at once, only visited rows, autograd on the log-probabilities and the rest by hand."""
    R, S, V = theta.shape
    theta = theta.clone()
    flat = theta.view(R * S, V)
    offset = (torch.arange(R) * S)[:, None, None]
    for _ in range(outer_steps):
        rows, tokens, A = sample(case, theta, draw)
        where = (offset + rows).view(-1)
        logp_old = None
        for _ in range(case.inner_steps):
            log_pi = torch.log_softmax(flat[where], dim=-1)
            logp = log_pi.gather(1, tokens.view(-1, 1)).view(tokens.shape)
            logp_old = logp if logp_old is None else logp_old
            leaf = logp.detach().requires_grad_()
            (c,) = torch.autograd.grad(case.objective(leaf, logp_old, A), leaf)
            step = case.learning_rate * c.reshape(-1, 1)
            pulled = -step * log_pi.exp()
            pulled.scatter_add_(1, tokens.view(-1, 1), step)
            flat.index_add_(0, where, pulled)
    return theta
