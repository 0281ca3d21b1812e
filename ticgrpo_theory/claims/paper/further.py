"""Sec. 3 to 6: what the upper clip does to noise, what is unbiased in the end, samples, and slips."""

import math
from functools import partial

import torch
from flint import arb

from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.claim import Claim, Finding, judge, shown, uncheckable, vanishes
from ticgrpo_theory.claims.multiples import distance
from ticgrpo_theory.claims.paper.grpo import kl_inside_or_outside
from ticgrpo_theory.claims.paper.noise import counting, enclosed_variance, variance_formula, variances
from ticgrpo_theory.claims.paper.races import gained
from ticgrpo_theory.claims.paper.targets import downhill
from ticgrpo_theory.claims.witnesses import (
    FREE_GRPO,
    FREE_TIC,
    GRPO,
    MATCH,
    RARE,
    STANDARDISED,
    TIC_EQ11,
    XOR,
    Case,
    axes,
    by_hand,
    infinite,
)
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import two_sided
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.stats.rng import stream

PPO_CLIP = Estimator(ratios.trajectory, STANDARDISED, two_sided(0.2, 0.28), sequence_mean)
"""The trajectory ratio under the clip of Eq. 5, which the upper clip of Eq. 9 replaces."""

TOKEN = Case.of("V=2 T=1 r=1,0 old=1/2 theta=7/10")
"""One token, after a step towards the right one: w' = 7/5 is clipped, w' = 3/5 only by the lower end."""

TRIES = 30
"""Random worlds on which the two clips are compared."""


def both_clips(
    case: Case, theta: torch.Tensor, G: int = 4
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(variance, ||E||^2 / variance) of PPO's clip and of the upper clip alone."""
    found = []
    for estimator in (PPO_CLIP, TIC_EQ11):
        moments = gradient_moments(case.mdp, theta, case.theta_old, estimator, G)
        noise = max(moments.variance, 1e-300)
        found.append((moments.variance, float(moments.mean.square().sum()) / noise))
    return found[0], found[1]


def uphill(case: Case, step: float) -> torch.Tensor:
    """theta_old + step grad J / ||grad J||."""
    gradient = policy_gradient(case.mdp, case.theta_old)
    return case.theta_old + step * gradient / gradient.norm()


def uphill_worlds() -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """`both_clips` on random worlds V = 2, T = 2, theta_old random, theta a step of 0.6 along grad J away."""
    generator = stream(0, "claims", "upper clip")
    found = []
    for _ in range(TRIES):
        draws = torch.randint(1, 10, (3,), generator=generator).tolist()
        rewards = torch.randint(0, 2, (4,), generator=generator).tolist()
        if len(set(rewards)) == 1:
            rewards[0] = 1 - rewards[0]
        odds = ",".join(f"{p}/10" for p in draws)
        case = Case.of(f"V=2 T=2 r={','.join(map(str, rewards))} old={odds}")
        found.append(both_clips(case, uphill(case, 0.6)))
    return [pair for pair in found if not vanishes(pair[0][0] - pair[1][0])]


def less_variance() -> Finding:
    """One response with A = z: PPO's clip switches both tokens off, the upper clip one."""
    ppo, upper = infinite(PPO_CLIP), infinite(TIC_EQ11)
    noise = [
        gradient_moments(TOKEN.mdp, TOKEN.theta, TOKEN.theta_old, each, 1).variance for each in (ppo, upper)
    ]

    def enclosed() -> arb:
        return enclosed_variance(TOKEN, upper) - enclosed_variance(TOKEN, ppo)

    formula = variance_formula(upper, ppo)
    witness = TOKEN.witness(
        "variance of one response, upper clip alone minus PPO's clip",
        enclosed,
        noise[1] - noise[0],
        upper,
        1,
        formula,
    )
    worlds = uphill_worlds()
    larger = sum(upper_one[0] > ppo_one[0] for ppo_one, upper_one in worlds)
    exact = by_hand(TOKEN.stated(upper, 1), formula)
    return judge(
        witness,
        f"variance {shown(noise[0])} with PPO's clip, {exact} more with the upper clip alone "
        f"({witness.shown}); after a "
        f"step of 0.6 along grad J, G = 4, larger in {larger} of the {len(worlds)} random worlds of {TRIES} "
        "where the "
        "two differ",
        counter_example="the lower end switches tokens off, and what is off has no variance, nor a gradient; "
        "after a step "
        "uphill leaving the lower end out raises the variance",
    )


def more_signal() -> Finding:
    """||E||^2 over the variance, a reading of `empirical performance` that a small world can decide."""
    worlds = uphill_worlds()
    better = sum(upper[1] > ppo[1] for ppo, upper in worlds)
    case = MATCH.at_old()
    ppo, upper = both_clips(case, uphill(case, 0.5))
    return uncheckable(
        "performance of runs; the signal-to-noise ratio it may rest on is mostly better",
        f"||E||^2 over the variance is higher with the upper clip in {better} of {len(worlds)} random "
        "worlds, a step of "
        f"0.6 along grad J away; {shown(ppo[1])} with PPO's clip and {shown(upper[1])} with the upper one on "
        f"{case.line}, a step of 0.5 away",
    )


def asymptotically_unbiased() -> Finding:
    limit = downhill(infinite(GRPO), 1, +1)
    gap = distance(MATCH.at_old(), GRPO, math.inf, MATCH.at_old())
    return judge(
        limit,
        f"before any drift and at G = infinity E g_hat . grad J(theta_old) = -({limit.shown}) where lengths "
        "differ; of "
        f"one length it is a multiple of grad J(theta_old), up to {shown(gap)}",
        correction="of one length and before any drift, as a multiple T1 / sigma",
        corrected=vanishes(gap),
        stated=(str(MATCH.at_old().stated(GRPO, math.inf)),),
    )


def fewer_samples() -> Finding:
    """MSE of a group of G responses, A = z: V / G + ||bias||^2; the ratio of trajectories has no bias."""
    G, case = 4, counting(8)
    noisy, quiet = variances(case)
    bias = distance(case, infinite(FREE_GRPO), 1) ** 2
    crossing = (noisy - quiet) / bias
    estimators = (infinite(FREE_TIC), infinite(FREE_GRPO))
    c = "1 / 8 / sigma()"
    gap = f"(E('{axes(estimators[1])}', 1) - {c} * grad('theta'))"

    def enclosed() -> arb:
        every = enclosures.responses(case.mdp)
        _, sigma = enclosures.reward_moments(every, case.old)
        mean = enclosures.expected_gradient(case.mdp, case.now, case.old, estimators[1], 1)
        goal = enclosures.scaled(1 / (8 * sigma), enclosures.policy_gradient(case.mdp, case.now))
        square = enclosures.squared_norm(enclosures.difference(mean, goal))
        return (enclosed_variance(case, estimators[0]) - enclosed_variance(case, estimators[1])) / G - square

    witness = case.witness(
        f"MSE of a group of {G} with A = z: trajectory ratio minus token ratio",
        enclosed,
        (noisy - quiet) / G - bias,
        estimators[0],
        1,
        f"({variance_formula(*estimators)}) / {G} - dot({gap}, {gap})",
    )
    return judge(
        witness,
        f"eight tokens: at G = {G} the squared error of the trajectory ratio is {witness.shown} larger; it "
        "is smaller "
        f"from G = {shown(crossing)} on",
        correction="from a group size on that grows with the drift and the length; at T = 1 both are one",
        corrected=crossing > G,
    )


def further_improved() -> Finding:
    worse = gained(XOR, FREE_GRPO, FREE_TIC, "Eq. 6 minus that of Eq. 11, both without clip", 0.25)
    better = gained(RARE, FREE_TIC, FREE_GRPO, "Eq. 11 minus that of Eq. 6, both without clip", 0.25)
    return judge(
        (worse, better),
        f"E J after four steps of eta = 1/4 on one group, G = 4: unbiased weights are {worse.shown} behind "
        "on two tokens "
        f"that should differ, {better.shown} ahead where one answer of four is right",
        correction="can be improved, and can be made worse: unbiasedness at each step does not order the "
        "gains",
        corrected=True,
    )


def accuracy() -> Finding:
    return uncheckable("no log holds an evaluation on AIME, and Figure 2 shows training reward")


def first() -> Finding:
    return uncheckable("about who did what first")


def slips() -> Finding:
    return uncheckable(
        "notation, nothing to compute: theta is of R^{T x d} in Eq. 1 and of R^d in the theorems; the proof "
        "below Eq. 11 "
        "starts from grad~ J(theta_old) for grad J(theta); line 9 of Algorithm 2 uses j for a response and "
        "in its product; "
        "Eq. 12 has a tilde for the hat; mu_bar is mu exactly; Sec. 2.2 takes sum |s_T| to |G| E|s_T|, which "
        "needs a "
        "division by |G|"
    )


EXACT, TESTED = "ticgrpo_theory.exact.moments.estimator_moments.gradient_moments", "test_claims_further.py"

CLAIMS = (
    Claim(
        "E9.variance",
        "The upper clip alone has less variance than the clip of Eq. 5",
        "Sec. 4, after the upper clip",
        less_variance,
        EXACT,
        f"{TESTED}::test_the_upper_clip_has_the_larger_variance_of_one_token_by_hand",
        "clip_effect.py",
    ),
    Claim("E9.noise", "So the results are better", "Sec. 4, after the upper clip", more_signal),
    Claim(
        "E7.asymptotic",
        "The gradient of GRPO is asymptotically unbiased (target: grad J(theta_old))",
        "below Eq. 8",
        asymptotically_unbiased,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_length_bias.py::test_one_over_the_length_rests_at_the_printed_point_for_every_group_size_and_delta",
        "length_bias.py",
    ),
    Claim(
        "Alg2.kl",
        "Algorithm 2 ascends Eq. 9 also for beta > 0 (Eq. 9 has the KL outside 1/|s|, line 11 inside)",
        "Eq. 9 against Algorithm 2 line 11",
        partial(kl_inside_or_outside),
        "ticgrpo_theory.exact.penalties.penalised.penalty_gradient",
        "test_penalised.py::test_one_over_length_turns_k1_into_a_pull_on_the_length",
        "kl_estimators.py",
    ),
    Claim(
        "TIC.efficient",
        "TIC-GRPO needs fewer samples than GRPO for the same error (target: a multiple of grad J(theta))",
        "end of Sec. 4",
        fewer_samples,
        EXACT,
        "test_variance_vs_T.py::test_the_variances_and_the_crossover_come_out_to_the_printed_digits",
        "variance_vs_T.py",
    ),
    Claim(
        "TIC.further",
        "An unbiased estimator of the current gradient improves performance",
        "end of Sec. 3",
        further_improved,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_reuse_bias.py::test_who_gains_more_depends_on_world_group_size_and_clip",
        "tic_vs_grpo.py",
    ),
    Claim(
        "F2.accuracy", "TIC-GRPO is more accurate on AIME", "Sec. 1", accuracy, experiment="authors_logs.py"
    ),
    Claim("P.first", "The convergence analysis is the first", "end of Sec. 4", first),
    Claim("P.slips", "Slips of notation", "Sec. 2 to 5", slips),
)
