"""(1/N) sum_n E||grad J(theta_n)||^2 over N outer steps with K = 1, every sequence of groups followed.

    theta_{n+1} = theta_n + eta g_hat(theta_n),   the group of step n drawn from theta_n

and what Theorems 5.1 and 5.2 should have bounded it by: for one prompt, responses of one length T, kappa =
1/T (or 1 without 1/|s|), two reward values, c = kappa (1 - 1/G) / (rho + delta), Q = kappa^2 T (1 - 1/V),

    2 (J* - J(theta_1)) / (c N eta) + (L / c) eta Q,   L = rho d_max.

Proof. J is L-smooth, L = rho d_max. E[g_hat | theta_n] = c_n grad J(theta_n) with c_n = kappa E[sigma_G^2 /
(sigma_G + delta)] / sigma^2 >= c, as sigma_G <= rho, and E||g_hat||^2 <= kappa^2 E||sum_t psi_t||^2 <= Q, as
(1/G) sum A_i^2 <= 1. Sum the inequalities of ascent over n.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.responses.many_policies import returns_and_gradients, unroll
from ticgrpo_theory.worlds.mdp import TokenMDP


def outcomes(
    mdp: TokenMDP, theta: Float[Tensor, "S V"], estimator: Estimator, group_size: int, eta: float
) -> Iterator[tuple[Float[Tensor, " M"], Float[Tensor, "M S V"]]]:
    """(probability, theta after the step) of every group of a world of one prompt."""
    (prompt,) = unroll(mdp, theta, None)
    for members, probability in multisets.groups(prompt.prob.numpy(), group_size, multisets.CHUNK):
        start, chosen = theta.expand(len(members), -1, -1), torch.from_numpy(members)
        c = estimator.token_weights(prompt.batch(start, chosen))
        g_hat = prompt.gradients(c, estimator.score(start, start), chosen)
        yield torch.from_numpy(probability), start + eta * g_hat


def mean_square(
    mdp: TokenMDP,
    theta: Float[Tensor, "S V"],
    estimator: Estimator,
    group_size: int,
    eta: float,
    outer_steps: int,
) -> float:
    """(1/N) sum_{n=1..N} E||grad J(theta_n)||^2."""
    nodes, chances = theta[None], torch.ones(1, dtype=torch.float64)
    found = 0.0
    for n in range(outer_steps):
        _, gradients = returns_and_gradients(unroll(mdp, theta, None), nodes)
        found += float(chances @ gradients.square().sum(dim=(1, 2))) / outer_steps
        if n + 1 < outer_steps:
            after = [
                (chance * probability, moved)
                for node, chance in zip(nodes, chances, strict=True)
                for probability, moved in outcomes(mdp, node, estimator, group_size, eta)
            ]
            chances, nodes = (torch.cat([pair[k] for pair in after]) for k in (0, 1))
    return found


def gap_term(gain: float, c: float, outer_steps: int, eta: float) -> float:
    """2 (J* - J(theta_1)) / (c N eta), which Theorems 5.1 and 5.2 leave out."""
    return 2 * gain / (c * outer_steps * eta)


def noise_term(L: float, c: float, eta: float, Q: float) -> float:
    """(L / c) eta Q."""
    return L / c * eta * Q
