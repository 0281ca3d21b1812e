"""What the paper says of practice: why GRPO works, what group normalisation costs, what DAPO and GSPO are."""

import dataclasses
import math

from flint import arb

from ticgrpo_theory.claims.certified import enclosures, inner_steps
from ticgrpo_theory.claims.certified.enclosures import difference, scaled
from ticgrpo_theory.claims.certified.rational import responses
from ticgrpo_theory.claims.claim import Claim, Finding, holds, judge, near, shown, uncheckable, vanishes
from ticgrpo_theory.claims.decompositions import FAR, NEARER
from ticgrpo_theory.claims.multiples import distance, misses_gradient
from ticgrpo_theory.claims.paper.convergence import optimum_left
from ticgrpo_theory.claims.paper.noise import variance_formula
from ticgrpo_theory.claims.paper.targets import downhill
from ticgrpo_theory.claims.witnesses import (
    ANSWERS,
    DAPO,
    FREE_GRPO,
    GRPO,
    MARKS,
    MATCH,
    Case,
    axes,
    infinite,
    norm,
    size,
)
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.clipping import Clip, dual, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments
from ticgrpo_theory.exact.objective import policy_gradient

PARITY = Case.of("V=2 T=3 r=0,-1,-1,0,-1,0,0,-1 old=1/2 theta=1/4")
"""With A = r every response that counts has A < 0."""


def of_losers(clip: Clip) -> Estimator:
    return Estimator(ratios.trajectory, raw(), clip, sequence_sum)


def lower_bound_alone() -> Finding:
    """Variance of one response with A < 0 under each end of the clip."""
    clips = {"no": unclipped(), "lower": two_sided(0.2, math.inf), "upper": upper_only(0.28)}
    clips["both"] = dual(0.2, 0.28, cap=1.28)
    found = {
        name: gradient_moments(PARITY.mdp, PARITY.theta, PARITY.theta_old, of_losers(clip), 1)
        for name, clip in clips.items()
    }

    def enclosed(clip: Clip) -> arb:
        world = (PARITY.mdp, PARITY.now, PARITY.old, of_losers(clip), 1)
        mean = enclosures.squared_norm(enclosures.expected_gradient(*world))
        return enclosures.second_moment(*world) - mean

    witness = PARITY.witness(
        "variance of one response with A < 0: without clip minus with the lower end alone",
        lambda: enclosed(clips["no"]) - enclosed(clips["lower"]),
        found["no"].variance - found["lower"].variance,
        of_losers(clips["lower"]),
        1,
        variance_formula(of_losers(clips["no"]), of_losers(clips["lower"])),
    )
    large = [found[a].second_moment - found[b].second_moment for a, b in (("no", "upper"), ("lower", "both"))]
    cut = {name: 1 - found[name].variance / found["no"].variance for name in ("lower", "upper")}
    return holds(
        vanishes(large[0] - large[1]) and cut["upper"] > 3 * cut["lower"] > 0,
        "variance of one response with A < 0: "
        + ", ".join(f"{shown(found[name].variance)} ({name} end)" for name in ("no", "lower", "upper"))
        + f"; the lower end takes {witness.shown} away, {shown(100 * cut['lower'])} %, the upper "
        f"{shown(100 * cut['upper'])} %",
        "the lower end switches small weights off and leaves the large ones in full: E||.||^2 of weights "
        "above 1.28 is "
        f"{shown(large[0])} without clip, {shown(large[1])} with the lower end",
        (witness,),
    )


def drifted_by(eta: float, K: int, estimator: Estimator = FREE_GRPO) -> float:
    """||E g_hat - c grad J|| / ||c grad J|| after K steps of an infinite group."""
    old, theta = MATCH.theta_old, MATCH.theta_old
    for _ in range(K):
        theta = theta + eta * expected_gradient(MATCH.mdp, theta, old, estimator, math.inf)
    mean = expected_gradient(MATCH.mdp, theta, old, estimator, math.inf)
    scale, _ = known_scale(MATCH.mdp, old, estimator, math.inf)
    target = scale * policy_gradient(MATCH.mdp, theta)
    return size(mean - target) / size(target)


def limited_drift() -> Finding:
    K, large = 10, 1.0
    table = {(eta, K): drifted_by(eta, K) for eta in (0.01, large) for K in (4, 10)}

    def enclosed() -> arb:
        """The same ratio at K = 10, eta = 1: c = 1 / (2 sigma)."""
        theta = inner_steps.infinite_path(MATCH.mdp, MATCH.old, FREE_GRPO, K, large)
        _, sigma = enclosures.reward_moments(responses(MATCH.mdp), MATCH.old)
        mean = enclosures.expected_gradient(MATCH.mdp, theta, MATCH.old, infinite(FREE_GRPO), 1)
        target = scaled(1 / (2 * sigma), enclosures.policy_gradient(MATCH.mdp, theta))
        return norm(difference(mean, target)) / norm(target)

    witness = MATCH.at_old().witness(
        "relative error of E[g_hat] against the current gradient after K = 10 steps of eta = 1",
        enclosed,
        table[large, K],
        FREE_GRPO,
        math.inf,
        steps=K,
        eta=large,
    )
    return judge(
        witness,
        "relative error against c grad J(theta_k): "
        + ", ".join(
            f"{witness.shown if (eta, K) == (large, 10) else shown(x)} (K = {K}, eta = {eta:g})"
            for (eta, K), x in table.items()
        ),
        correction="what is limited must be eta K, not K: the error is of order eta K",
        corrected=near(drifted_by(0.005, K) / drifted_by(0.01, K), 0.5),
    )


def one_name_for_two() -> Finding:
    witness = ANSWERS.witness(
        "||E[DAPO] - E[GRPO with the clip of DAPO]||",
        lambda: norm(difference(ANSWERS.enclosed(DAPO, 4), ANSWERS.enclosed(GRPO, 4))),
        size(ANSWERS.expected(DAPO, 4) - ANSWERS.expected(GRPO, 4)),
        DAPO,
        4,
        f"norm(E() - E('{axes(GRPO)}'))",
    )
    repaired = dataclasses.replace(GRPO, scale=token_mean)
    gap = size(ANSWERS.expected(DAPO, 4) - ANSWERS.expected(repaired, 4))
    one_length = size(MATCH.expected(DAPO, 4) - MATCH.expected(GRPO, 4))
    return judge(
        witness,
        f"at one clip {witness.shown} apart where lengths differ, {shown(one_length)} where they do not, "
        f"{shown(gap)} with the normaliser as well",
        correction="where all responses have one length; dynamic sampling and overlong shaping, outside the "
        "loss, "
        "are not mentioned",
        corrected=vanishes(gap, one_length),
        stated=(str(MATCH.stated(DAPO, 4)),),
    )


def normalisation() -> Finding:
    """Three rewards: the part of E[g_hat] that is no multiple of grad J; two rewards: none."""
    three = {G: distance(MARKS.at_old(), GRPO, G) for G in (128, 256)}
    two = max(distance(MATCH.at_old(), GRPO, G) for G in (2, 4, 64))
    biased, moved = misses_gradient(MARKS.at_old(), GRPO, 4, "three rewards"), optimum_left(GRPO)
    down = downhill(GRPO, 4, +1)
    return judge(
        (biased, down, moved),
        f"three rewards: ||bias|| = {biased.shown} at G = 4, G ||bias|| = {shown(128 * three[128])}, "
        f"{shown(256 * three[256])} at G = 128, 256 (1/G^2 in the bound); two rewards: {shown(two)} at G = "
        "2, 4, 64; "
        f"several lengths: E g_hat . grad J = -({down.shown}) at G = 4, downhill at every G; two prompts: "
        f"||E g_hat|| = {moved.shown} where grad J = 0",
        correction="for one length and one prompt; then it is 1/G in norm, and nothing for two rewards",
        corrected=near(three[256] / three[128], 0.5) and vanishes(two),
    )


def gspo_is_similar() -> Finding:
    """Geometric mean of the token ratios, no clip, one length, two rewards: only w' is left to differ."""
    G = 4
    geometric = Estimator(ratios.geometric_mean, FREE_GRPO.advantage, unclipped(), sequence_mean)
    witnesses = [
        misses_gradient(MATCH, each, G, words)
        for each, words in (
            (geometric, "geometric mean of the token ratios"),
            (FREE_GRPO, "token ratio"),
        )
    ]
    scale, _ = known_scale(MATCH.mdp, MATCH.theta_old, geometric, G)

    def at_share(share: float) -> float:
        theta = MATCH.nearer(share)
        mean = expected_gradient(MATCH.mdp, theta, MATCH.theta_old, geometric, G)
        return size(mean - scale * policy_gradient(MATCH.mdp, theta))

    left = at_share(NEARER) / at_share(FAR)
    return holds(
        near(left, 0.5),
        f"one weight for each response in both; at G = {G} GSPO's is biased by {witnesses[0].shown} for a "
        "multiple of "
        f"grad J(theta), the token ratio by {witnesses[1].shown}; half of a small drift leaves {shown(left)}",
        "as said; not the same weight: w'^(1/|s|), a geometric mean, has a bias of first order in the drift, "
        "w' has none",
        tuple(witnesses),
    )


def memory() -> Finding:
    return uncheckable(
        "a matter of machines and implementations; that no critic occurs is true by definition"
    )


def timeline() -> Finding:
    return uncheckable("about who did what when")


CLAIMS = (
    Claim(
        "P.lower",
        "Retaining only the lower bound of the clip fails to reduce the variance effectively when A < 0",
        "Sec. 4, before Eq. 9",
        lower_bound_alone,
        "ticgrpo_theory.exact.moments.estimator_moments.gradient_moments",
        "test_clip_effect.py::test_for_negative_advantages_an_upper_bound_cuts_noise_that_a_lower_bound_leaves",
        "clip_effect.py",
    ),
    Claim(
        "P.why",
        "GRPO works although biased, because theta_old is refreshed every K = 4 to 10 steps",
        "Sec. 1 and 3",
        limited_drift,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_bias_vs_K.py::test_the_error_of_the_token_ratio_grows_like_eta_K",
        "bias_vs_K.py",
    ),
    Claim(
        "P.group",
        "The O(1/|G|) term arises from group normalisation and is negligible for large groups",
        "below Theorem 5.1",
        normalisation,
        "ticgrpo_theory.exact.known_scale.known_scale",
        "test_bias_vs_G.py::test_the_bias_falls_like_one_over_G_and_the_floor_like_its_square",
        "bias_vs_G.py",
    ),
    Claim(
        "P.dapo",
        "DAPO and GRPO need not be told apart",
        "Sec. 2.2",
        one_name_for_two,
        "ticgrpo_theory.estimators.catalogue.dapo",
        "test_catalogue.py::test_every_entry_is_made_of_the_promised_parts",
        "length_bias.py",
    ),
    Claim(
        "P.gspo",
        "GSPO is a similar idea: a weight for the whole response",
        "Sec. 1, related work",
        gspo_is_similar,
        "ticgrpo_theory.estimators.ratios.geometric_mean",
        "test_expectation.py::test_the_same_check_rejects_every_other_ratio_on_one_fixed_world",
        "bias_vs_K.py",
    ),
    Claim(
        "P.memory",
        "GRPO and TIC-GRPO are memory-efficient and critic-free",
        "Introduction",
        memory,
    ),
    Claim(
        "P.timeline",
        "The main experiments were complete before GSPO was posted",
        "Appendix A",
        timeline,
    ),
)
