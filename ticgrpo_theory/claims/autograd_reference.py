"""J and its derivatives by autograd on sums over responses: no formula of the library, one prompt."""

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.worlds.mdp import TokenMDP


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


def surrogate(
    mdp: TokenMDP, theta: Float[Tensor, "S V"], theta_old: Float[Tensor, "S V"]
) -> Float[Tensor, ""]:
    """sum_y P_old(y) (r - mu) sum_t w_t: what token ratios without clip ascend, up to a factor."""
    old = log_probability(mdp, theta_old).exp()
    centred = rewards(mdp) - old @ rewards(mdp)
    return (old * centred * ratios(mdp, theta, theta_old).sum(dim=1)).sum()


def ratios(
    mdp: TokenMDP, theta: Float[Tensor, "S V"], theta_old: Float[Tensor, "S V"]
) -> Float[Tensor, "N T"]:
    """w_t of every token of every response; 0 on padding."""
    paths = mdp.graph.paths
    rows, tokens, mask = (torch.from_numpy(np.array(x)) for x in (paths.rows, paths.tokens, paths.mask))
    change = torch.log_softmax(theta, dim=-1) - torch.log_softmax(theta_old, dim=-1)
    return change[rows, tokens].exp().where(mask, 0.0)


def derivative(f: Callable[[Tensor], Tensor], theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
    """df / dtheta."""
    table = theta.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(f(table), table)[0]


def hessian(f: Callable[[Tensor], Tensor], theta: Float[Tensor, "S V"]) -> Float[Tensor, "N N"]:
    """d^2 f / dtheta^2, the table of logits as one vector."""
    with torch.enable_grad():
        found = torch.autograd.functional.hessian(
            lambda flat: f(flat.reshape(theta.shape)), theta.reshape(-1)
        )
    return cast(Tensor, found)


def curvature(mdp: TokenMDP, theta: Float[Tensor, "S V"]) -> float:
    """||d^2 J / dtheta^2||, the spectral norm."""
    H = hessian(partial(expected_return, mdp), theta)
    return float(torch.linalg.matrix_norm(H, ord=2))


def between_tokens(mdp: TokenMDP, theta: Float[Tensor, "S V"]) -> float:
    """g^T H_o g at theta = theta_old: g = grad J, H_o = Hessian of J minus that of the surrogate.

    H_o = E[(r - mu) sum over t != t' of psi_t psi_t'^T], which token ratios leave out.
    """
    g = derivative(partial(expected_return, mdp), theta).reshape(-1)
    H = hessian(partial(expected_return, mdp), theta)
    frozen = hessian(lambda now: surrogate(mdp, now, theta), theta)
    return float(g @ (H - frozen) @ g)


def score_derivative(theta: Float[Tensor, "S V"]) -> float:
    """max over rows of ||diag(pi) - pi pi^T||: how fast the score of a token turns with its row of logits."""
    pi = torch.softmax(theta, dim=-1)
    H = torch.diag_embed(pi) - pi[:, :, None] * pi[:, None, :]
    return float(torch.linalg.matrix_norm(H, ord=2).max())
