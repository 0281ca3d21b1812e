"""E[g_hat], E||g_hat||^2 and reused groups of any objective: sums over all ordered groups, by definition.

    E[h(g_hat)] = sum_q weight_q sum over (i_1, ..., i_G) of prod_j P(i_j) h(g_hat(i_1, ..., i_G)),
    g_hat = grad_theta objective(group),   P that of theta_sampler, or of theta_old without one

torch and nothing else; slow on purpose. No symmetry, no reduction to one response, no token weights: autograd
goes from the value that the objective returns to the logits, once for each of the N^G groups.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Value = Tensor | float | tuple[Tensor | float, object]


@dataclass(frozen=True, eq=False)
class Prompt:
    """All responses of one prompt, [N, T]; rows and tokens hold some row and some token at padding, too."""

    weight: float
    rows: Tensor
    tokens: Tensor
    mask: Tensor
    reward: Tensor
    horizon: int

    def probability(self, theta: Tensor) -> Tensor:
        """P_theta of every response [N]."""
        logp = torch.log_softmax(theta, dim=-1)[self.rows, self.tokens]
        return logp.where(self.mask, 0.0).sum(dim=1).exp()


@dataclass(frozen=True, eq=False)
class Group:
    """One group as an objective sees it: [G, T'], T' the length of its longest response; reward [G]."""

    logp: Tensor
    logp_old: Tensor
    reward: Tensor
    mask: Tensor
    logp_ref: Tensor | None
    horizon: int
    logp_sampler: Tensor | None = None


Objective = Callable[[Group], Value]


def gather(
    prompt: Prompt,
    members: tuple[int, ...],
    theta: Tensor,
    theta_old: Tensor,
    theta_ref: Tensor | None,
    theta_sampler: Tensor | None = None,
) -> Group:
    """The group of these responses, padding cut behind the longest of them."""
    index = torch.tensor(members)
    mask = prompt.mask[index]
    width = int(mask.sum(dim=1).max())
    rows, tokens = prompt.rows[index, :width], prompt.tokens[index, :width]

    def logp(table: Tensor) -> Tensor:
        return torch.log_softmax(table, dim=-1)[rows, tokens]

    reference = None if theta_ref is None else logp(theta_ref)
    return Group(
        logp(theta),
        logp(theta_old),
        prompt.reward[index],
        mask[:, :width],
        reference,
        prompt.horizon,
        logp(theta_old if theta_sampler is None else theta_sampler),
    )


def gradient(value: Value, theta: Tensor) -> Tensor:
    """d value / d theta; metrics that come with it are dropped, and a value without a graph gives 0."""
    scalar = value[0] if isinstance(value, tuple) else value
    if not isinstance(scalar, Tensor) or not scalar.requires_grad:
        return torch.zeros_like(theta)
    assert scalar.ndim == 0
    (found,) = torch.autograd.grad(scalar, theta, allow_unused=True)
    return torch.zeros_like(theta) if found is None else found


def ordered_groups(prompts: list[Prompt], theta_old: Tensor, G: int) -> Iterator[tuple]:
    """(prompt, members, probability) of every ordered group that this policy can draw."""
    for prompt in prompts:
        P = prompt.probability(theta_old).tolist()
        for members in itertools.product([n for n in range(len(P)) if P[n] > 0], repeat=G):
            probability = prompt.weight
            for n in members:
                probability *= P[n]
            yield prompt, members, probability


def moments(
    prompts: list[Prompt],
    theta: Tensor,
    theta_old: Tensor,
    objective: Objective,
    G: int,
    theta_ref: Tensor | None = None,
    theta_sampler: Tensor | None = None,
) -> tuple[Tensor, float]:
    """(E[g_hat] [S, V], E||g_hat||^2)."""
    leaf = theta.clone().requires_grad_()
    mean, second = torch.zeros_like(theta), 0.0
    for prompt, members, probability in ordered_groups(
        prompts, theta_old if theta_sampler is None else theta_sampler, G
    ):
        group = gather(prompt, members, leaf, theta_old, theta_ref, theta_sampler)
        g_hat = gradient(objective(group), leaf)
        mean += probability * g_hat
        second += probability * float(g_hat.square().sum())
    return mean, second


def expected_return(prompts: list[Prompt], theta: Tensor) -> Tensor:
    """J(theta) = sum_q weight_q sum_y P_theta(y) r(y)."""
    every = [prompt.weight * (prompt.probability(theta) * prompt.reward).sum() for prompt in prompts]
    return torch.stack(every).sum()


def policy_gradient(prompts: list[Prompt], theta: Tensor) -> Tensor:
    """grad J(theta)."""
    leaf = theta.clone().requires_grad_()
    return gradient(expected_return(prompts, leaf), leaf)


@dataclass(frozen=True, eq=False)
class Reuse:
    """Index k = 0..K is the number of steps already taken on the group."""

    gradient: Tensor
    target: Tensor
    mse: Tensor
    expected_return: Tensor


def reuse(
    prompts: list[Prompt],
    theta_old: Tensor,
    objective: Objective,
    G: int,
    K: int,
    eta: float,
    theta_ref: Tensor | None = None,
    theta_sampler: Tensor | None = None,
) -> Reuse:
    """E[g_hat_k], E[grad J(theta_k)], E||g_hat_k - grad J(theta_k)||^2 and E[J(theta_k)], k = 0..K.

    theta_0 = theta_old and theta_{k+1} = theta_k + eta g_hat_k, g_hat_k the gradient of the same group.
    """
    mean, target = (torch.zeros(K + 1, *theta_old.shape, dtype=theta_old.dtype) for _ in range(2))
    mse, J = (torch.zeros(K + 1, dtype=theta_old.dtype) for _ in range(2))
    drawn_from = theta_old if theta_sampler is None else theta_sampler
    for prompt, members, probability in ordered_groups(prompts, drawn_from, G):
        theta = theta_old
        for k in range(K + 1):
            leaf = theta.clone().requires_grad_()
            group = gather(prompt, members, leaf, theta_old, theta_ref, theta_sampler)
            g_hat = gradient(objective(group), leaf)
            value = expected_return(prompts, leaf)
            grad_J = gradient(value, leaf)
            mean[k] += probability * g_hat
            target[k] += probability * grad_J
            mse[k] += probability * (g_hat - grad_J).square().sum()
            J[k] += probability * value.detach()
            theta = theta + eta * g_hat
    return Reuse(mean, target, mse, J)
