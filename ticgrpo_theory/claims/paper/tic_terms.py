"""Sec. 4: the decomposition of TIC-GRPO, Eq. 11, and of what the estimator is unbiased."""

from ticgrpo_theory.claims.certified import terms
from ticgrpo_theory.claims.certified.enclosures import difference
from ticgrpo_theory.claims.claim import Claim, Finding, judge, shown, vanishes
from ticgrpo_theory.claims.decompositions import (
    FAR,
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
from ticgrpo_theory.claims.paper.targets import downhill, fixed_point, turned
from ticgrpo_theory.claims.witnesses import (
    ANSWERS,
    PAGE,
    TIC_EQ11,
    by_hand,
    infinite,
    norm,
    size,
)


def sum_of_terms() -> Finding:
    page = misses(TIC_EQ11, "all as printed", case=PAGE, members=PAGE_GROUP)
    larger = (
        misses(TIC_EQ11, "all as printed"),
        misses(TIC_EQ11, "current score", "main"),
        misses(TIC_EQ11, "sign corrected", "sampling_error_2"),
    )
    return judge(
        (page, *larger),
        f"of the group 00, 1 at G = 2, token 0 of rows (), (0): the printed sum is off by "
        f"{in_fractions(TIC_EQ11)}, the corrected one by "
        f"{in_fractions(TIC_EQ11, 'main', 'sampling_error_2')}; "
        f"in norm {page.shown}. Of the group 000, 01, 1, 001 at G = 4: {larger[0].shown} (with the current "
        f"score {larger[1].shown}, with the sign {larger[2].shown}), corrected {shown(closes(TIC_EQ11))}",
        correction="the score of theta in the main term, and minus sampling error 2: both are needed",
        corrected=vanishes(closes(TIC_EQ11)),
    )


def main_term() -> Finding:
    found, name = at_drift(TIC_EQ11), "main"
    witness = ANSWERS.witness(
        "||E[main term with the score of theta_old] - E[main term with that of theta]||",
        lambda: norm(
            difference(*(terms.expected_term(in_balls(TIC_EQ11), G, name, done) for done in (False, True)))
        ),
        size(found.printed_terms[name] - found.terms[name]),
        TIC_EQ11,
        G,
        f"norm(term('{name}', 'printed') - term('{name}', 'corrected'))",
    )
    return judge(
        witness,
        f"the score changes it by {witness.shown}; with that of theta the sum closes "
        f"up to {shown(closes(TIC_EQ11))}",
        correction="grad log pi_theta beside w', not grad log pi_theta_old",
        corrected=vanishes(closes(TIC_EQ11)),
    )


def main_unbiased() -> Finding:
    witness = biased_main(
        TIC_EQ11, ANSWERS, "||E[main term with the score of theta_old] - (T1 / sigma_bar) grad J(theta)||"
    )
    corrected = main_bias(TIC_EQ11, ANSWERS, True)
    page = PAGE.stated(TIC_EQ11, 2)
    in_page = [
        by_hand(page, formula)
        for formula in (
            "term('main', 'printed')",
            "term('main', 'corrected')",
            "T1() / sigmaG() * grad('theta')",
        )
    ]
    return judge(
        witness,
        f"at G = 2, token 0 of rows (), (0): {in_page[0]} with the score of theta_old, {in_page[1]} with "
        "that of "
        f"theta, (T1 / sigma_bar) grad J(theta) = {in_page[2]}; at G = {G} on the larger world biased by "
        f"{witness.shown} with the score of theta_old, by {shown(corrected)} with that of theta",
        correction="with grad log pi_theta, to which the proof changes "
        "half-way: unbiased for (T1 / sigma_bar) grad J(theta)",
        corrected=vanishes(corrected),
        stated=(str(page),),
    )


def sampling_error_1() -> Finding:
    return falls_with_group(TIC_EQ11)


def sampling_error_2() -> Finding:
    return sign_of_second(TIC_EQ11)


def clip_error() -> Finding:
    """Eq. 11 has no 1_D in its main term, so that nothing is counted twice."""
    found = at_drift(TIC_EQ11)
    whole, small = (size(at_drift(TIC_EQ11, share=share).terms["clip_error"]) for share in (1.0, FAR))
    gap = size(found.terms["clip_error"] - found.printed_terms["clip_error"])
    witness = misses(TIC_EQ11, "clip error as printed, the rest corrected", "main", "sampling_error_2")
    return judge(
        witness,
        f"the sum closes with it ({witness.shown}); ||E|| = {shown(whole)}, at {FAR:g} of "
        f"the drift {shown(small)}",
        reason="as printed, zero while no w' meets the clip" if vanishes(gap, small) else "as printed",
    )


def errors_vanish() -> Finding:
    limit, finite = downhill(infinite(TIC_EQ11), 1, +1), downhill(TIC_EQ11, 2, +1)
    floors = [fixed_point(TIC_EQ11, group)[1] for group in (4, 64)]
    return judge(
        (limit, finite),
        f"E g_hat . grad J = -({limit.shown}) at G = infinity, -({finite.shown}) at G = 2, direction the "
        "same at G = 4, 16, 64 up to "
        f"{shown(turned(TIC_EQ11, (2, 4, 16, 64)))}; ||grad J||^2 at the fixed point {shown(floors[0])}, "
        f"{shown(floors[1])} at G = 4, 64",
        counter_example="they are three; with N alone, at one G, sampling error 1 stays too, and sampling "
        "error 2 stays at every G, before any drift",
    )


CLAIMS = (
    Claim(
        "E11",
        "The gradient of TIC-GRPO is the sum of the four terms",
        "Eq. 11",
        sum_of_terms,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_claims.py::test_the_printed_residuals_of_eq_7_and_11",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.main",
        "The main term pairs the ratio w' with the score of theta_old",
        "Eq. 11, main term",
        main_term,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_claims.py::test_the_printed_residuals_of_eq_7_and_11",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.unbiased",
        "The main term is unbiased (target: grad J(theta), as a multiple)",
        "below Eq. 11, and its proof",
        main_unbiased,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_main_term_of_eq11_is_unbiased_only_with_the_current_score",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.se1",
        "Sampling error 1 is due to the statistics of a finite group",
        "Eq. 11, sampling error 1",
        sampling_error_1,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_1_falls_as_one_over_G",
        "decomposition_terms.py",
    ),
    Claim(
        "E11.se2",
        "Sampling error 2, due to unequal lengths, is added",
        "Eq. 11, sampling error 2",
        sampling_error_2,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_sampling_error_2_vanishes_with_neither_group_size_nor_drift",
        "length_bias.py",
    ),
    Claim(
        "E11.clip",
        "The clip error takes the clipped responses out of the sum",
        "Eq. 11, clip error",
        clip_error,
        "ticgrpo_theory.exact.decomposition.expected_terms.decompose",
        "test_expected_terms.py::test_the_clip_error_is_zero_below_a_drift_and_does_not_fall_with_the_group",
        "clip_effect.py",
    ),
    Claim(
        "E11.vanish",
        "The remaining two error terms vanish as N tends to infinity",
        "below Eq. 11",
        errors_vanish,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_length_bias.py::test_one_over_the_length_rests_at_the_printed_point_for_every_group_size_and_delta",
        "length_bias.py",
    ),
)
