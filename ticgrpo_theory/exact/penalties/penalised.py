"""The penalised objective J - beta KL, and what each sampled penalty really contributes to a gradient.

Notation: d_t = log(pi_theta / pi_ref)(a_t); KL(s) that of a row, RKL(s) = KL(pi_ref || pi_theta)(s), H(s) =
E_pi[d^2 / 2](s); E sums over the tokens of a response drawn from the policy that it names. For the scale 1/G
(`sequence_sum`) the expectation of a penalty's contribution, divided by -beta, is

    in the loss
    ratio                k           on-policy                  off-policy
    none                 k1          0                          - E_old[grad KL(pi_old || pi_theta)(s)]
    none                 k2          E_theta[grad KL(s)]        none of these: grad E_old[k2]
    none                 k3          E_theta[grad RKL(s)]       none of these: grad E_old[k3]
    token                k1, k3      E_theta[grad KL(s)]        E_old[grad KL(s)]
    token                k2          E_theta[grad H(s)]         E_old[grad H(s)]
    none, token          kl_exact    E_theta[grad KL(s)]        E_old[grad KL(s)]
    held(token)          k2          E_theta[grad KL(s)]        E_old[grad KL(s)]
    held(token)          k3          E_theta[grad RKL(s)]       E_old[grad RKL(s)]
    prefix, trajectory   k1, k3      grad KL(P_theta || P_ref)  grad KL(P_theta || P_ref)
    prefix, trajectory   kl_exact    grad KL(P_theta || P_ref)  grad KL(P_theta || P_ref)
    prefix, trajectory   k2          grad E_theta[H(s)]         grad E_theta[H(s)]
    held(trajectory)     k2          E_theta[grad KL(s)]        E_theta[grad KL(s)]
    held(trajectory)     k2_of_response
                                     grad KL(P_theta || P_ref)  grad KL(P_theta || P_ref)
    none                 k2_of_response
                                     grad KL(P_theta || P_ref)  none of these: grad E_old[(sum d)^2 / 2]

    in the reward (raw or leave-one-out advantage, no clip)
    ratio                k           on-policy
    any                  k1          grad KL(P_theta || P_ref)
    any                  k2          grad E_theta[H(s)] - E_theta[grad KL(s)]
    any                  k3          grad KL(P_theta || P_ref) - E_theta[grad RKL(s)]
                                     off-policy
    trajectory           k1          grad (KL(P_theta || P_ref) - KL(P_theta || P_old))
    others                           none of these

Proofs. E_pi[psi] = 0 for the score psi = grad log pi, and E_pi[f(a) psi] = grad E_pi[f] for f that theta does
not enter. The derivatives of k1, k2, k3 are psi, d psi and (1 - e^-d) psi; under pi_theta they average to 0,
to grad KL(s) and, as pi_theta e^-d = pi_ref, to -E_ref[psi] = grad RKL(s); psi averages to -grad KL(pi_old ||
pi_theta) under pi_old. A token ratio times k has the mean sum_a pi_theta k at every state that theta_old
visits, and sum_a pi_theta k3 = sum_a pi_theta k1 = KL(s): equal for all theta, so are their gradients. The
ratio of the prefix up to t, or of the whole response, turns the visits into those of theta too: E_theta[k1] =
E_theta[k3] = KL(P_theta || P_ref). In the reward, k multiplies the score of the whole response, and
E_theta[(sum k) sum psi] = grad E_theta[sum k] - E_theta[sum grad k], where the last term is the loss of the
first rows. With the trajectory ratio the reward k1 is log(P_old / P_ref), whose mean under theta is
KL(P_theta || P_ref) - KL(P_theta || P_old).

At T = 1, and wherever every response visits the same rows, theta does not decide which states are visited,
and the divergences of responses and the frozen ones are one. k2 and k3 in the reward are of second order in
the distance to the reference, k1 is of first: near it they hold nothing back. With 1/|y| and unequal lengths
most lines fail, because |y| depends on the tokens drawn: k1 in the loss is then, on-policy, grad
E_theta[1/|y|], a pull on the length that knows nothing of the reference; what remains is kl_exact, with the
trajectory ratio for the divergence per token, and with ratio none for the frozen one.
"""

import dataclasses

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import reinforce
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import Penalty
from ticgrpo_theory.estimators.scales import Scale, sequence_sum
from ticgrpo_theory.exact.expectation import Method, expected_gradient
from ticgrpo_theory.exact.objective import ValueMethod, expected_return, policy_gradient
from ticgrpo_theory.exact.penalties.divergence import Table, expected_divergence, kl_to_reference
from ticgrpo_theory.worlds.mdp import TokenMDP


def penalised_objective(
    mdp: TokenMDP,
    theta: Table,
    theta_ref: Table,
    beta: float,
    scale: Scale = sequence_sum,
    method: ValueMethod = "dynamic_programming",
) -> float:
    """J(theta) - beta KL(pi_theta || pi_ref), of responses by default, per token with scale = sequence_mean.

    Source: arXiv:2508.02833 v2, Eq. 3. Raises ValueError for bad logits, and where the KL is infinite.
    """
    divergence = expected_divergence(mdp, theta, theta_ref, kl_to_reference, scale, method)
    return expected_return(mdp, theta, method) - beta * divergence.value


def penalised_gradient(
    mdp: TokenMDP,
    theta: Table,
    theta_ref: Table,
    beta: float,
    scale: Scale = sequence_sum,
    method: ValueMethod = "dynamic_programming",
) -> Float[Tensor, "S V"]:
    """grad (J(theta) - beta KL(pi_theta || pi_ref)).

    Source: arXiv:2508.02833 v2, Eq. 3. Raises ValueError for bad logits, and where the KL is infinite.
    """
    divergence = expected_divergence(mdp, theta, theta_ref, kl_to_reference, scale, method)
    return policy_gradient(mdp, theta, method) - beta * divergence.gradient


def penalty_gradient(
    mdp: TokenMDP,
    theta: Table,
    theta_old: Table,
    theta_ref: Table,
    penalty: Penalty,
    estimator: Estimator | None = None,
    group_size: int | float = 1,
    method: Method = "auto",
) -> Float[Tensor, "S V"]:
    """E[g_hat with the penalty] - E[g_hat without], both for `estimator`: what the penalty adds.

    `estimator` is REINFORCE unless another is given. A penalty in the loss reads its scale alone; one in the
    reward passes through its ratio, clip and advantage, and groups are enumerated. `method` is that of the
    estimator with the penalty. Raises ValueError as `expected_gradient` does, and for an estimator that
    carries a penalty already.
    """
    bare = reinforce() if estimator is None else estimator
    if bare.penalty is not None:
        raise ValueError(
            f"the estimator carries {bare.penalty!r} already: give it without one, and {penalty!r} alone"
        )
    carrying = dataclasses.replace(bare, penalty=penalty)
    with_penalty = expected_gradient(mdp, theta, theta_old, carrying, group_size, method, theta_ref)
    return with_penalty - expected_gradient(mdp, theta, theta_old, bare, group_size)
