"""Sec. 6: what longer responses do to the variance of trajectory and token ratios."""

from functools import partial

from flint import arb

from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.claim import Claim, Finding, judge, shown
from ticgrpo_theory.claims.witnesses import (
    FREE_GRPO,
    FREE_TIC,
    GRPO,
    MATCH,
    TIC,
    Case,
    axes,
    infinite,
)
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments


def vanishing(T: int) -> Case:
    """T tokens from one shared row, right where all are 0; the policy drifts away from 0."""
    return Case.of(f"V=2 T={T} rows=one r=#0>={T} old=1/2 theta=3/10")


def counting(T: int) -> Case:
    """T tokens from one shared row, right when at least half are 0; drift from 1/2 to 7/10."""
    return Case.of(f"V=2 T={T} rows=one r=#0>={(T + 1) // 2} old=1/2 theta=7/10")


def variances(case: Case) -> list[float]:
    """Of one response, z of the population, no clip: trajectory ratio, token ratio."""
    return [
        gradient_moments(case.mdp, case.theta, case.theta_old, infinite(each), 1).variance
        for each in (FREE_TIC, FREE_GRPO)
    ]


def length_helps() -> Finding:
    cases = {T: counting(T) for T in (4, 8, 12)}
    found = {T: variances(case) for T, case in cases.items()}

    def enclosed(case: Case) -> arb:
        return enclosed_variance(case, FREE_TIC) - enclosed_variance(case, FREE_GRPO)

    witnesses = tuple(
        cases[T].witness(
            "variance of one response: trajectory ratio minus token ratio, without clip",
            partial(enclosed, cases[T]),
            found[T][0] - found[T][1],
            infinite(FREE_TIC),
            1,
            variance_formula(infinite(FREE_TIC), infinite(FREE_GRPO)),
        )
        for T in (4, 8)
    )
    falling = {T: variances(vanishing(T)) for T in (2, 4, 8)}
    falls = vanishing(4).witness(
        "variance of one response: token ratio minus trajectory ratio, without clip",
        lambda: -enclosed(vanishing(4)),
        falling[4][1] - falling[4][0],
        infinite(FREE_GRPO),
        1,
        variance_formula(infinite(FREE_GRPO), infinite(FREE_TIC)),
    )
    before = MATCH.at_old()
    factor = float((before.expected(TIC, 4) / before.expected(GRPO, 4))[0, 0])
    return judge(
        (*witnesses, falls),
        "variance of one response, trajectory over token ratio, right where at least half of the tokens are "
        "0: "
        + ", ".join(shown(trajectory / token) for trajectory, token in found.values())
        + f" at T = 4, 8, 12 (differences {witnesses[0].shown} and {witnesses[1].shown} at 4 and 8); right "
        "where all "
        "are 0, a drift away from 0: "
        + ", ".join(shown(trajectory / token) for trajectory, token in falling.values())
        + f" at T = 2, 4, 8 (difference -({falls.shown}) at 4); before any drift Eq. 9 is T = "
        f"{shown(factor)} times "
        "Eq. 6, a larger step and not a rate",
        counter_example="neither theorem contains T; at a given drift of each token the variance of TIC-GRPO "
        "can grow "
        "with T against that of token ratios, and can fall",
    )


def variance_formula(one: Estimator, other: Estimator) -> str:
    """Of one response: variance of the one minus that of the other."""

    def variance(estimator: Estimator) -> str:
        name = axes(estimator)
        return f"(square('{name}', 1) - dot(E('{name}', 1), E('{name}', 1)))"

    return f"{variance(one)} - {variance(other)}"


def enclosed_variance(case: Case, estimator: Estimator) -> arb:
    world = (case.mdp, case.now, case.old, infinite(estimator), 1)
    return enclosures.second_moment(*world) - enclosures.squared_norm(enclosures.expected_gradient(*world))


CLAIMS = (
    Claim(
        "T5.length",
        "The theory predicts an improved rate with respect to the length of responses",
        "Sec. 6",
        length_helps,
        "ticgrpo_theory.exact.moments.estimator_moments.gradient_moments",
        "test_variance_vs_T.py::test_the_variances_and_the_crossover_come_out_to_the_printed_digits",
        "variance_vs_T.py",
    ),
)
