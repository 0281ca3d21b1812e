"""How far E[g_hat] is from the multiple of grad J that it estimates: kappa c_G grad J, by both engines.

One prompt, responses of one length T, A = (r - mu_G) / sigma_G at delta = 0: kappa = 1/T with 1/|s|, 1
without, and c_G = E[sigma_G] / sigma^2.
"""

from flint import arb, fmpq

from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.enclosures import difference, scaled
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.certified.terms import expected_deviation
from ticgrpo_theory.claims.claim import Witness
from ticgrpo_theory.claims.witnesses import Case, norm, size
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.objective import policy_gradient


def multiple(case: Case, estimator: Estimator, group_size: int) -> arb:
    """kappa c_G."""
    _, sigma = enclosures.reward_moments(responses(case.mdp), case.old)
    kappa = fmpq(1, case.mdp.horizon) if estimator.scale is sequence_mean else fmpq(1)
    return arb(kappa) * expected_deviation(case.mdp, case.old, group_size) / sigma**2


def kappa(case: Case, estimator: Estimator) -> str:
    """kappa in a formula."""
    return f"1 / {case.mdp.horizon}" if estimator.scale is sequence_mean else "1"


def distance(case: Case, estimator: Estimator, group_size: int | float, target: Case | None = None) -> float:
    """||E[g_hat] - kappa c_G grad J||, the gradient that of `target.now`, by default of `case.now`."""
    scale, _ = known_scale(case.mdp, case.theta_old, estimator, group_size)
    gradient = policy_gradient(case.mdp, (target or case).theta)
    return size(case.expected(estimator, group_size) - scale * gradient)


def misses_gradient(
    case: Case, estimator: Estimator, group_size: int, words: str, target: Case | None = None
) -> Witness:
    """`distance` as a witness; `words` name the gradient and what is special."""

    def enclosed() -> arb:
        gradient = enclosures.policy_gradient(case.mdp, (target or case).now)
        goal = scaled(multiple(case, estimator, group_size), gradient)
        return norm(difference(case.enclosed(estimator, group_size), goal))

    role = "old" if (target or case).line.theta is None else "theta"
    return case.witness(
        f"||E[g_hat] - kappa c_G grad J||, {words}",
        enclosed,
        distance(case, estimator, group_size, target),
        estimator,
        group_size,
        f"norm(E() - {kappa(case, estimator)} * sigmaG() / (sigma() * sigma()) * grad('{role}'))",
    )
