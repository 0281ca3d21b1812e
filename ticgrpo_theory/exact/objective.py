"""J, its gradient, exactly."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import logits, pull_back

ValueMethod = Literal["dynamic_programming", "enumeration"]


def check_value_method(method: str) -> None:
    if method not in ("dynamic_programming", "enumeration"):
        raise ValueError(f"method = {method!r}: choose 'dynamic_programming' or 'enumeration'")


def expected_return(
    mdp: TokenMDP, theta: Tensor | ArrayLike, method: ValueMethod = "dynamic_programming"
) -> float:
    """J(theta) = sum_q weight_q E_theta[r(s_T)], theta [S, V]: one number, in the units of the reward.

    Source: arXiv:2508.02833 v2, Sec. 2.1. Raises ValueError for bad logits or an unknown method.
    """
    check_value_method(method)
    table = logits(mdp, theta)
    total = 0.0
    for weight, prompt in mdp.prompts:
        graph = prompt.graph
        if method == "dynamic_programming":
            total += weight * float(
                forward_backward.outcome_distribution(graph, table.numpy()) @ graph.reward
            )
        else:
            every = enumeration.responses(graph, enumeration.Policies(table, table))
            total += weight * float(every.prob @ every.reward)
    return total


def policy_gradient(
    mdp: TokenMDP, theta: Tensor | ArrayLike, method: ValueMethod = "dynamic_programming"
) -> Float[Tensor, "S V"]:
    """grad J(theta) = sum_q weight_q E_theta[r sum_t grad log pi_theta(a_t | s_{t-1})].

    Source: arXiv:2508.02833 v2, Eq. 4. Raises ValueError for bad logits or an unknown method.
    """
    check_value_method(method)
    table = logits(mdp, theta)
    total = torch.zeros_like(table)
    for weight, prompt in mdp.prompts:
        total += weight * expected_value_gradient(prompt, table, prompt.graph.reward, method)
    return total


def expected_value_gradient(
    prompt: TokenMDP,
    theta: Float[Tensor, "S V"],
    value: np.ndarray,
    method: ValueMethod = "dynamic_programming",
) -> Float[Tensor, "S V"]:
    """grad_theta E_theta[value(outcome)] for one prompt, any number for each outcome.

    A number added to every value leaves it as it is, so that it is taken off first: no digit is lost to it.
    """
    value = value - least_possible(prompt, theta, value)
    if method == "dynamic_programming":
        return torch.from_numpy(forward_backward.value_gradient(prompt.graph, theta.numpy(), value))
    return pull_back(enumeration.value_weights(prompt.graph, theta, value), theta)


def least_possible(prompt: TokenMDP, theta: Float[Tensor, "S V"], value: np.ndarray) -> float:
    """The least value of an outcome that theta can reach: one that it cannot may be as small as it likes."""
    if not value.any():
        return 0.0
    possible = forward_backward.outcome_distribution(prompt.graph, theta.numpy()) > 0
    return float(value[possible].min())
