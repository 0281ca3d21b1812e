"""What the claims about Eq. 7 and Eq. 11 share: their terms by both engines, on one group and expected."""

import math
from collections.abc import Sequence

from flint import arb

from ticgrpo_theory.claims.certified import enclosures, terms
from ticgrpo_theory.claims.certified.enclosures import Drawn, difference, scaled, total
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.claim import Finding, Witness, holds, judge, near, shown, vanishes
from ticgrpo_theory.claims.witnesses import ANSWERS, PAGE, Case, by_hand, norm, size
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.decomposition.expected_terms import Decomposition, decompose
from ticgrpo_theory.exact.decomposition.group_terms import decompose_group
from ticgrpo_theory.exact.objective import policy_gradient

G = 4
GROUP = (0, 2, 3, 1)
"""One group of ANSWERS with tokens on both sides of the clip."""

PAGE_GROUP = (0, 2)
"""One group of PAGE, 00 and 1."""

FAR, NEARER = 1 / 32, 1 / 64
"""Shares of the drift at which the first order is all but RATE of the whole."""


def in_balls(estimator: Estimator, case: Case = ANSWERS, group_size: int = G) -> terms.Setting:
    return terms.Setting.of(case.mdp, case.now, case.old, estimator, group_size)


def the_group(case: Case, members: Sequence[int]) -> Drawn:
    every = responses(case.mdp)
    return Drawn(arb(1), [every[i] for i in members], enclosures.reward_moments(every, case.old))


def called(*names: str) -> str:
    """The formula of `misses`."""
    return f"group_miss({', '.join(map(repr, names))})"


def in_fractions(estimator: Estimator, *repaired: str) -> str:
    """g_hat minus its terms on PAGE_GROUP."""
    return by_hand(PAGE.stated(estimator, group=PAGE_GROUP), called(*repaired))


def at_drift(estimator: Estimator, group_size: int | float = G, share: float = 1.0) -> Decomposition:
    """E[g_hat] and its terms on ANSWERS at a share of the drift."""
    return decompose(ANSWERS.mdp, ANSWERS.nearer(share), ANSWERS.theta_old, estimator, group_size)


def misses(
    estimator: Estimator, words: str, *repaired: str, case: Case = ANSWERS, members: Sequence[int] = GROUP
) -> Witness:
    """||g_hat - sum of the terms|| of one group, the named ones as corrected, the others as printed."""
    found = decompose_group(case.mdp, case.theta, case.theta_old, estimator, members)
    chosen = found.printed_terms | {name: found.terms[name] for name in repaired}

    def enclosed() -> arb:
        group = the_group(case, members)
        printed, corrected = terms.terms(in_balls(estimator, case, len(members)), group)
        kept = printed | {name: corrected[name] for name in repaired if name in corrected}
        g_hat = enclosures.group_gradient(case.mdp, case.now, case.old, estimator, group)
        return norm(difference(g_hat, total(kept.values())))

    return case.witness(
        f"||g_hat - sum of terms|| of one group, {words}",
        enclosed,
        size(found.total - sum(chosen.values())),
        estimator,
        formula=f"norm({called(*repaired)})",
        group=members,
    )


def closes(estimator: Estimator) -> float:
    """||g_hat - sum of the corrected terms|| of GROUP and in expectation, the larger."""
    one = decompose_group(ANSWERS.mdp, ANSWERS.theta, ANSWERS.theta_old, estimator, GROUP)
    return max(one.residual_corrected, at_drift(estimator).residual_corrected)


def main_bias(estimator: Estimator, target: Case, corrected: bool) -> float:
    """||E[main term] - (T1 / sigma_bar) grad J|| at the policy `target.now`."""
    found = at_drift(estimator)
    kept, known = (found.terms if corrected else found.printed_terms)["main"], found.constants[0]
    gradient = policy_gradient(target.mdp, target.theta)
    return size(kept - known.inverse_length / known.sigma_bar * gradient)


def biased_main(estimator: Estimator, target: Case, words: str) -> Witness:
    """`main_bias` of the printed term."""

    def enclosed() -> arb:
        setting = in_balls(estimator)
        gradient = enclosures.policy_gradient(target.mdp, target.now)
        goal = scaled(setting.inverse_length / setting.sigma_bar, gradient)
        return norm(difference(terms.expected_term(setting, G, "main", corrected=False), goal))

    role = "old" if target.line.theta is None else "theta"
    formula = f"norm(term('main', 'printed') - T1() / sigmaG() * grad('{role}'))"
    return ANSWERS.witness(words, enclosed, main_bias(estimator, target, False), estimator, G, formula)


def falls_with_group(estimator: Estimator) -> Finding:
    """The verdict on sampling error 1: E falls like 1/G."""
    near_end = {G: size(at_drift(estimator, G).terms["sampling_error_1"]) for G in (128, 256)}
    return holds(
        near(near_end[256] / near_end[128], 0.5),
        "G ||E|| = " + ", ".join(f"{shown(G * x)} at G = {G}" for G, x in near_end.items()),
        "like 1/G in expectation, 1/sqrt G on a single group; not with eta or K",
        stated=tuple(str(ANSWERS.stated(estimator, size)) for size in near_end),
    )


def sign_of_second(estimator: Estimator) -> Finding:
    """The verdict on sampling error 2: its sign, and that it stays."""
    witness = misses(estimator, "the rest corrected", "main", "gradient_error")
    sizes = [size(at_drift(estimator, G, 0.0).terms["sampling_error_2"]) for G in (4, 64, math.inf)]
    return judge(
        witness,
        f"sum off by {witness.shown} with plus, {shown(closes(estimator))} with minus; before any drift "
        f"||E|| = {', '.join(map(shown, sizes))} at G = 4, 64, infinity",
        correction="minus; it vanishes with neither G nor eta K, only where all lengths are equal",
        corrected=vanishes(closes(estimator)) and sizes[2] > sizes[0] / 2,
    )
