"""Sec. 3: the decomposition of GRPO, Eq. 7, term by term, and its constants, Eq. 8."""

import math

from flint import arb, fmpq
from torch import Tensor

from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.claims.certified import enclosures, terms
from ticgrpo_theory.claims.certified.enclosures import difference, score_sum
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, judge, near, shown, vanishes
from ticgrpo_theory.claims.decompositions import (
    FAR,
    NEARER,
    PAGE_GROUP,
    G,
    at_drift,
    biased_main,
    closes,
    falls_with_group,
    in_balls,
    in_fractions,
    main_bias,
    misses,
    sign_of_second,
)
from ticgrpo_theory.claims.witnesses import ANSWERS, GRPO, PAGE, by_hand, norm, size
from ticgrpo_theory.exact.objective import expected_return


def sum_of_terms() -> Finding:
    page = misses(GRPO, "all as printed", case=PAGE, members=PAGE_GROUP)
    larger = (
        misses(GRPO, "all as printed"),
        misses(GRPO, "1_B dropped", "main", "gradient_error"),
        misses(GRPO, "sign corrected", "sampling_error_2"),
    )
    both = ("main", "gradient_error", "sampling_error_2")
    return judge(
        (page, *larger),
        f"of the group 00, 1 at G = 2, token 0 of rows (), (0): the printed sum is off by "
        f"{in_fractions(GRPO)}, the corrected one by {in_fractions(GRPO, *both)}; in norm {page.shown}. Of "
        "the "
        f"group 000, 01, 1, 001 at G = 4: {larger[0].shown} (without 1_B {larger[1].shown}, with the sign "
        f"{larger[2].shown}), corrected {shown(closes(GRPO))}",
        correction="no 1_B in main term and gradient error, and minus sampling error 2: both are needed",
        corrected=vanishes(closes(GRPO)),
    )


def changed_by_the_clip(name: str) -> Witness:
    """What 1_B changes in the expectation of a term."""
    found = at_drift(GRPO)
    return ANSWERS.witness(
        f"||E[{name} with 1_B] - E[{name} without]||",
        lambda: norm(
            difference(*(terms.expected_term(in_balls(GRPO), G, name, done) for done in (False, True)))
        ),
        size(found.printed_terms[name] - found.terms[name]),
        GRPO,
        G,
        f"norm(term('{name}', 'printed') - term('{name}', 'corrected'))",
    )


def main_term() -> Finding:
    witness = changed_by_the_clip("main")
    return judge(
        witness,
        f"1_B changes it by {witness.shown}; without it the sum closes, up to {shown(closes(GRPO))}",
        correction="without 1_B: what clips is the clip error",
        corrected=vanishes(closes(GRPO)),
    )


def gradient_error() -> Finding:
    witness = changed_by_the_clip("gradient_error")
    sizes = [size(at_drift(GRPO, math.inf, share).terms["gradient_error"]) for share in (1.0, FAR, NEARER)]
    left = sizes[2] / sizes[1]
    return judge(
        witness,
        f"1_B changes it by {witness.shown}; without it ||E|| = {shown(sizes[0])} at G = infinity, and half "
        f"of a small drift leaves {shown(left)} of it",
        correction="without 1_B; it falls like the drift, eta K, and not with G",
        corrected=near(left, 0.5),
    )


def unbiased() -> Finding:
    target = ANSWERS.at_old()
    witness = biased_main(GRPO, target, "||E[main term with 1_B] - (T1 / sigma_bar) grad J(theta_old)||")
    corrected = main_bias(GRPO, target, True)
    page = PAGE.stated(GRPO, 2)
    in_page = [
        by_hand(page, formula)
        for formula in (
            "term('main', 'printed')",
            "term('main', 'corrected')",
            "T1() / sigmaG() * grad('old')",
        )
    ]
    return judge(
        witness,
        f"at G = 2, token 0 of rows (), (0): {in_page[0]} with 1_B, {in_page[1]} without, (T1 / sigma_bar) "
        f"grad J(theta_old) = {in_page[2]}; at G = {G} on the larger world biased by {witness.shown} with "
        f"1_B, by {shown(corrected)} without",
        correction="without 1_B, which the proof drops on its way: "
        "unbiased for (T1 / sigma_bar) grad J(theta_old)",
        corrected=vanishes(corrected),
        stated=(str(page),),
    )


def score_of_the_proof() -> Finding:
    """The responses of the display under theta_old, its score under theta, with and without the baseline."""
    target = ANSWERS.gradient_old()
    mean = expected_return(ANSWERS.mdp, ANSWERS.theta_old)
    bare, centred, repaired = (
        size(scored(table, baseline) - target)
        for table, baseline in ((ANSWERS.theta, 0.0), (ANSWERS.theta, mean), (ANSWERS.theta_old, 0.0))
    )

    def enclosed(baseline: bool) -> arb:
        every = responses(ANSWERS.mdp)
        mu = sum((y.prob(ANSWERS.old) * y.reward for y in every), fmpq(0)) if baseline else fmpq(0)
        pairs = [(y, arb(y.prob(ANSWERS.old) * (y.reward - mu)), [arb(1)] * len(y.tokens)) for y in every]
        return norm(
            difference(score_sum(pairs, ANSWERS.now), enclosures.policy_gradient(ANSWERS.mdp, ANSWERS.old))
        )

    witnesses = tuple(
        ANSWERS.witness(
            f"||E_old[{weight} grad log P_theta] - grad J(theta_old)||",
            lambda weight=weight: enclosed(weight != "r"),
            found,
            formula=f"norm(drawn('old', 'theta', '{weight}') - grad('old'))",
        )
        for weight, found in (("r", bare), ("r-mu", centred))
    )
    page = [by_hand(PAGE.line, formula) for formula in ("drawn('old', 'theta', 'r')", "grad('old')")]
    return judge(
        witnesses,
        f"E_old[r grad log P_theta] = {page[0]} for token 0 of rows (), (0) where grad J(theta_old) = "
        f"{page[1]}; on the larger world off by {witnesses[0].shown}, with r - mu by {witnesses[1].shown}; "
        "with "
        f"P_theta_old by {shown(repaired)}",
        correction="P_theta_old for P_theta in the display",
        corrected=vanishes(repaired),
        stated=(str(PAGE.line),),
    )


def scored(table: Tensor, baseline: float) -> Tensor:
    """E_old[(r - baseline) grad log P_table] on ANSWERS, by autograd."""
    mdp = ANSWERS.mdp
    weight = autograd_reference.log_probability(mdp, ANSWERS.theta_old).exp() * (
        autograd_reference.rewards(mdp) - baseline
    )
    return autograd_reference.derivative(
        lambda theta: (weight * autograd_reference.log_probability(mdp, theta)).sum(), table
    )


def sampling_error_1() -> Finding:
    return falls_with_group(GRPO)


def sampling_error_2() -> Finding:
    return sign_of_second(GRPO)


def clip_error() -> Finding:
    witness = misses(GRPO, "1_B and clip error both kept, the sign corrected", "sampling_error_2")
    small = size(at_drift(GRPO, share=FAR).terms["clip_error"])
    return judge(
        witness,
        f"counted twice: sum off by {witness.shown}; once: {shown(closes(GRPO))}; at {FAR:g} of the drift "
        f"||E|| = {shown(small)}",
        correction="clip error or 1_B in the other terms, not both; zero while no ratio meets the clip",
        corrected=vanishes(closes(GRPO), small),
    )


CLAIMS = (
    Claim(
        "E7",
        "The gradient of GRPO is the sum of the five terms",
        "Eq. 7",
        sum_of_terms,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_claims.py::test_the_printed_residuals_of_eq_7_and_11",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.main",
        "The main term leaves clipped tokens out",
        "Eq. 7, main term",
        main_term,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_keeping_the_indicator_and_dropping_the_clip_error_closes_eq7_too",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.grad",
        "The gradient error is due to the drift from theta_old",
        "Eq. 7, gradient error",
        gradient_error,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_gradient_error_falls_with_the_drift_and_not_with_the_group",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.se1",
        "Sampling error 1 is due to the statistics of a finite group",
        "Eq. 7, sampling error 1",
        sampling_error_1,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_1_falls_as_one_over_G",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.se2",
        "Sampling error 2, due to unequal lengths, is added",
        "Eq. 7, sampling error 2",
        sampling_error_2,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_2_vanishes_with_neither_group_size_nor_drift",
        "length_bias.py",
    ),
    Claim(
        "E7.clip",
        "The clip error takes the clipped tokens out of the sum",
        "Eq. 7, clip error",
        clip_error,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_clip_error_is_zero_below_a_drift_and_does_not_fall_with_the_group",
        "clip_effect.py",
    ),
    Claim(
        "E7.unbiased",
        "The main term is unbiased (target: grad J(theta_old), as a multiple)",
        "below Eq. 7, and its proof",
        unbiased,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_main_term_of_eq7_is_unbiased_only_without_the_indicator",
        "decomposition_terms.py",
    ),
    Claim(
        "E7.proof",
        "Responses of theta_old, scored by P_theta, give grad J(theta_old)",
        "proof of unbiasedness of the main term",
        score_of_the_proof,
        "ticgrpo_theory.claims.autograd_reference.log_probability",
        "test_objective.py::test_value_and_gradient_are_the_sums_over_all_responses",
    ),
)
