"""The terms of Eq. 7 and Eq. 11 on one group and in expectation, written once more, response by response.

With A = (r - mu_G) / sigma_G, z = (r - mu) / sigma_bar, sigma_bar = E[sigma_G], T1 = E_old[1/|s|], w the
ratio of Eq. 7 (token) or Eq. 11 (trajectory), on = 1 inside the clip, every term is (1/G) sum_i sum_t of

    main               T1 z on psi_old (Eq. 7), T1 z w psi_old (Eq. 11)
    gradient_error     T1 z on (w psi - psi_old)
    sampling_error_1   T1 (A - z) on w psi
    sampling_error_2   (T1 - 1/|s|) A on w psi
    clip_error         - T1 z (1 - on) w psi

as printed; as corrected `on` is left out of the first two, psi is taken at theta in the main term of Eq. 11,
and sampling_error_2 has the other sign.

Source: arXiv:2508.02833 v2, Eq. 7 and 11.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flint import arb, fmpq

from ticgrpo_theory.claims.certified.definitions import Weighed, group_deviation, weighed
from ticgrpo_theory.claims.certified.enclosures import (
    Drawn,
    Matrix,
    difference,
    drawn_groups,
    expectation,
    group_gradient,
    reward_moments,
    score_sum,
    total,
)
from ticgrpo_theory.claims.certified.rational import IntegerPolicy, responses
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.worlds.mdp import TokenMDP

TermsOfGroup = dict[str, Matrix]


@dataclass(frozen=True, eq=False)
class Setting:
    """What the terms are taken in."""

    mdp: TokenMDP
    current: IntegerPolicy
    behaviour: IntegerPolicy
    estimator: Estimator
    mean: arb
    sigma_bar: arb
    inverse_length: arb

    @classmethod
    def of(
        cls,
        mdp: TokenMDP,
        current: IntegerPolicy,
        behaviour: IntegerPolicy,
        estimator: Estimator,
        group_size: int,
    ) -> "Setting":
        """With mu, sigma_bar and T1 under theta_old, for a world of one prompt."""
        every = responses(mdp)
        inverse = sum((fmpq(1, len(y.tokens)) * y.prob(behaviour) for y in every), fmpq(0))
        mean, _ = reward_moments(every, behaviour)
        sigma_bar = expected_deviation(mdp, behaviour, group_size)
        return cls(mdp, current, behaviour, estimator, mean, sigma_bar, arb(inverse))


def expected_deviation(mdp: TokenMDP, behaviour: IntegerPolicy, group_size: int) -> arb:
    """E[sigma_G]."""
    found = arb(0)
    for group in drawn_groups(mdp, behaviour, group_size):
        deviation = group_deviation([y.reward for y in group.members])
        found += group.probability * (arb(0) if deviation is None else deviation)
    return found


Coefficient = Callable[[Weighed, arb, int], arb]
"""(a response of the group, its z, t) -> what multiplies the score of its token t."""


def added(here: list[tuple[Weighed, arb]], coefficient: Coefficient, at: IntegerPolicy) -> Matrix:
    """(1/G) sum_i sum_t coefficient psi, psi taken at the policy `at`."""
    share = arb(fmpq(1, len(here)))
    weighted = [
        (each.response, share, [coefficient(each, z, t) for t in range(len(each.ratio))]) for each, z in here
    ]
    return score_sum(weighted, at)


def terms(setting: Setting, group: Drawn) -> tuple[TermsOfGroup, TermsOfGroup]:
    """The terms of one group, (as printed, as corrected)."""
    now, past, T1 = setting.current, setting.behaviour, setting.inverse_length
    at = (setting.estimator, group.members, now, past, group.moments, setting.mdp.horizon)
    here = [(each, (arb(each.response.reward) - setting.mean) / setting.sigma_bar) for each in weighed(*at)]

    def switched(each: Weighed, t: int, value: arb) -> arb:
        return value if each.inside[t] else arb(0)

    def length(each: Weighed) -> arb:
        return arb(fmpq(1, len(each.ratio)))

    z_old = added(here, lambda each, z, t: T1 * z, past)
    z_on_old = added(here, lambda each, z, t: switched(each, t, T1 * z), past)
    w_z = added(here, lambda each, z, t: T1 * z * each.ratio[t], now)
    w_z_on = added(here, lambda each, z, t: switched(each, t, T1 * z * each.ratio[t]), now)
    se1 = added(here, lambda each, z, t: switched(each, t, T1 * (each.advantage - z) * each.ratio[t]), now)
    se2 = added(
        here, lambda each, z, t: switched(each, t, (T1 - length(each)) * each.advantage * each.ratio[t]), now
    )
    clip = added(here, lambda each, z, t: arb(0) if each.inside[t] else -T1 * z * each.ratio[t], now)
    common = {"sampling_error_1": se1, "clip_error": clip}
    minus_se2 = [[-entry for entry in row] for row in se2]
    if setting.estimator.ratio is ratios.token:
        printed = {"main": z_on_old, "gradient_error": difference(w_z_on, z_on_old)}
        corrected = {"main": z_old, "gradient_error": difference(w_z, z_old)}
    else:
        # Eq. 11 prints the ratio of theta with the score of theta_old.
        printed = {"main": added(here, lambda each, z, t: T1 * z * each.ratio[t], past)}
        corrected = {"main": w_z}
    return printed | common | {"sampling_error_2": se2}, corrected | common | {"sampling_error_2": minus_se2}


def residuals(setting: Setting, group: Drawn) -> tuple[Matrix, Matrix]:
    """g_hat - sum of the terms of one group, (as printed, as corrected)."""
    g_hat = group_gradient(setting.mdp, setting.current, setting.behaviour, setting.estimator, group)
    printed, corrected = terms(setting, group)
    return difference(g_hat, total(printed.values())), difference(g_hat, total(corrected.values()))


def expected_term(setting: Setting, group_size: int, name: str, corrected: bool) -> Matrix:
    """E of one term."""
    return expectation(
        setting.mdp, setting.behaviour, group_size, lambda group: terms(setting, group)[corrected][name]
    )
