"""J and its derivatives by autograd on sums over responses: no formula of the library, one prompt."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.mdp import TokenMDP


def log_probability(mdp: TokenMDP, theta: Float[Tensor, "S V"]) -> Float[Tensor, " N"]:
    """log P(y) = sum_t log pi(a_t | s_{t-1}) of every response."""
    paths = mdp.graph.paths
    rows, tokens, mask = (torch.from_numpy(np.array(x)) for x in (paths.rows, paths.tokens, paths.mask))
    return torch.log_softmax(theta, dim=-1)[rows, tokens].where(mask, 0.0).sum(dim=1)


def rewards(mdp: TokenMDP) -> Float[Tensor, " N"]:
    """r(y) of every response."""
    return torch.from_numpy(mdp.graph.reward[mdp.graph.paths.outcome])


def expected_return(mdp: TokenMDP, theta: Float[Tensor, "S V"]) -> Float[Tensor, ""]:
    """sum_y P(y) r(y)."""
    return (log_probability(mdp, theta).exp() * rewards(mdp)).sum()


def divergence(
    mdp: TokenMDP, theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]
) -> Float[Tensor, ""]:
    """sum_y P_theta(y) log (P_theta / P_ref)(y)."""
    now, reference = log_probability(mdp, theta), log_probability(mdp, theta_ref)
    return (now.exp() * (now - reference)).sum()


def derivative(f: Callable[[Tensor], Tensor], theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
    """df / dtheta."""
    table = theta.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(f(table), table)[0]


def curvature(mdp: TokenMDP, theta: Float[Tensor, "S V"]) -> float:
    """||d^2 J / dtheta^2||, the spectral norm."""
    with torch.enable_grad():
        hessian = torch.autograd.functional.hessian(
            lambda flat: expected_return(mdp, flat.reshape(theta.shape)), theta.reshape(-1)
        )
    return float(torch.linalg.matrix_norm(hessian, ord=2))  # type: ignore[arg-type]


def score_derivative(theta: Float[Tensor, "S V"]) -> float:
    """max over rows of ||diag(pi) - pi pi^T||: how fast the score of a token turns with its row of logits."""
    pi = torch.softmax(theta, dim=-1)
    H = torch.diag_embed(pi) - pi[:, :, None] * pi[:, None, :]
    return float(torch.linalg.matrix_norm(H, ord=2).max())
