"""The KL of responses and what a sampled k3 contributes, written once more.

grad KL(P_theta || P_ref) = E_theta[log(P_theta / P_ref) sum_t psi_t]
    d k3 / d log pi_theta(a_t) = 1 - x,   k3 = x - 1 - log x,   x = (pi_ref / pi_theta)(a_t)
"""

from collections.abc import Callable

from flint import arb

from ticgrpo_theory.claims.certified.enclosures import Matrix, score_sum
from ticgrpo_theory.claims.certified.rational import IntegerPolicy, Response, responses
from ticgrpo_theory.worlds.mdp import TokenMDP


def kl_gradient(mdp: TokenMDP, policy: IntegerPolicy, reference: IntegerPolicy) -> Matrix:
    """grad KL(P_theta || P_ref) of one prompt."""
    weighted = []
    for y in responses(mdp):
        log_ratio = (arb(y.prob(policy)) / arb(y.prob(reference))).log()
        weighted.append((y, arb(y.prob(policy)) * log_ratio, [arb(1)] * len(y.tokens)))
    return score_sum(weighted, policy)


def k3_gradient(
    mdp: TokenMDP,
    policy: IntegerPolicy,
    behaviour: IntegerPolicy,
    reference: IntegerPolicy,
    scale: Callable[[Response], arb],
) -> Matrix:
    """E_old[scale sum_t (1 - pi_ref / pi_theta)(a_t) psi_t] of one prompt."""
    weighted = []
    for y in responses(mdp):
        probs = zip(y.token_probs(policy), y.token_probs(reference), strict=True)
        weighted.append((y, arb(y.prob(behaviour)) * scale(y), [arb(1 - q / p) for p, q in probs]))
    return score_sum(weighted, policy)


def row_gradient(
    mdp: TokenMDP, policy: IntegerPolicy, behaviour: IntegerPolicy, reference: IntegerPolicy
) -> Matrix:
    """E_old[sum_t grad KL(pi_theta(. | s_t) || pi_ref(. | s_t))] of one prompt, the visits held.

    Of one row in the logit a it is pi_a (log(pi_a / ref_a) - KL).
    """
    S, V = len(policy.weights), len(policy.weights[0])
    visits = [arb(0)] * S
    for y in responses(mdp):
        for s in y.rows:
            visits[s] += arb(y.prob(behaviour))
    found = []
    for s in range(S):
        p = [arb(policy.prob(s, a)) for a in range(V)]
        logs = [(p[a] / arb(reference.prob(s, a))).log() for a in range(V)]
        mean = sum((q * x for q, x in zip(p, logs, strict=True)), arb(0))
        found.append([visits[s] * q * (x - mean) for q, x in zip(p, logs, strict=True)])
    return found
