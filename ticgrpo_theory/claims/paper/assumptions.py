"""The assumptions of Sec. 5, and the constants L, L_0 and R of a given world."""

import math

import torch
from flint import arb, fmpq

from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.claims.certified.rational import fraction, responses
from ticgrpo_theory.claims.claim import Claim, Finding, holds, judge, near, shown, vanishes
from ticgrpo_theory.claims.witnesses import ANSWERS, GRADED, GRPO, MATCH, Case, size
from ticgrpo_theory.estimators.clipping import dual, two_sided
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds.mdp import TokenMDP

COIN = Case.of("V=2 T=1 r=1,0 old=1/4 ref=1/1000")
"""One token; J = p."""


def half_range(mdp: TokenMDP) -> float:
    """rho = (max r - min r) / 2."""
    reward = autograd_reference.rewards(mdp)
    return float(reward.max() - reward.min()) / 2


def bend_of_kl(reference: str) -> float:
    """||grad^2 KL(pi_theta || pi_ref)|| of one token: 2 p q |(1 - 2 p)(x - x_ref) + 1|, x the logit gap."""
    case = Case.of(f"V=2 T=1 r=1,0 old=1/4 ref={reference}")
    ref = case.line.policy("ref").logits()
    H = autograd_reference.hessian(
        lambda theta: autograd_reference.divergence(case.mdp, theta, ref), case.theta_old
    )
    return float(torch.linalg.matrix_norm(H, ord=2))


def bend_in_balls(reference: str) -> arb:
    """The same from the closed form."""
    p, r = COIN.now.prob(0, 0), COIN.of(f"V=2 T=1 r=1,0 old={reference}").now.prob(0, 0)
    gap = (arb(p) / arb(1 - p)).log() - (arb(r) / arb(1 - r)).log()
    return arb(2 * p * (1 - p)) * abs(arb(1 - 2 * p) * gap + 1)


TURN = "2 * J('old') * (1 - J('old'))"
BEND = f"{TURN} * ((1 - 2 * J('old')) * (logit('old') - logit('ref')) + 1)"


def exchanged_bodies() -> Finding:
    """The score of one token turns at 2 p q; the body printed under its name belongs to grad KL."""
    of_score = autograd_reference.score_derivative(COIN.theta_old)
    p = COIN.now.prob(0, 0)
    printed = COIN.witness(
        "Lipschitz constant of grad KL minus that of the score, both at this policy",
        lambda: bend_in_balls("1/1000") - arb(2 * p * (1 - p)),
        bend_of_kl("1/1000") - of_score,
        formula=f"{BEND} - {TURN}",
    )
    bodies = [bend_of_kl(reference) for reference in ("1/4", "1/1000")]
    return judge(
        printed,
        f"one token, p = 1/4: score {shown(of_score)}, grad KL {shown(bodies[0])} at pi_ref = pi and "
        f"{shown(bodies[1])} at p_ref = 1/1000, {printed.shown} more",
        correction="exchange the bodies of 5.1 and 5.2: L for the score, L_0 for grad KL; at beta = 0 the "
        "latter "
        "is idle, and the theorems' 5.2 and 5.3 are then, in body, score and reward: right as printed",
        corrected=near(bodies[0], of_score, ROUNDING),
    )


def ratios_stay_open() -> Finding:
    """A token of probability 1/1000 under theta_old and 999/1000 under theta, in a response with A < 0."""
    case, eps = Case.of("V=2 T=1 r=1,0 old=1/1000 theta=999/1000"), 0.28
    w = float((case.theta.log_softmax(-1) - case.theta_old.log_softmax(-1))[0, 0].exp())
    negative, one = torch.tensor([False]), torch.tensor([1])
    upper, capped = (
        float(clip.bounds(negative, one)[1].exp()) for clip in (two_sided(0.2, eps), dual(0.2, eps))
    )
    printed = case.witness(
        "weight that the clip of Eq. 5 leaves a token with A < 0, minus 1 + eps_high",
        lambda: arb(case.now.prob(0, 0) / case.old.prob(0, 0) - 1 - fraction(eps)),
        (w if w <= upper else 0.0) - (1 + eps),
        GRPO,
        2,
        "ratio('0') - 1 - 7 / 25",
    )
    score = math.sqrt(2)
    found, bound = max(curvatures(), key=lambda pair: pair[0] / pair[1])
    return judge(
        printed,
        f"weight {shown(w)} where A < 0, {printed.shown} above 1 + eps_high; at most {shown(capped)} under a "
        "dual "
        f"clip; smoothness of J is nowhere assumed and follows: ||Hessian of J|| {shown(found)} found, rho "
        "d_max = "
        f"{shown(bound)}",
        correction="for GRPO also a bounded score (softmax: at most sqrt 2) or a dual clip",
        corrected=w > capped and smooth() and score_size(case.theta) <= score,
    )


def score_size(theta: torch.Tensor) -> float:
    """max ||e_a - pi||."""
    pi = torch.softmax(theta, dim=-1)
    return float((torch.eye(pi.shape[1], dtype=pi.dtype) - pi[:, None, :]).norm(dim=-1).max())


def curvatures() -> list[tuple[float, float]]:
    """(||Hessian of J||, rho d_max) on worlds where a row is read once: d_max <= 1."""
    cases = ((case, at) for case in (ANSWERS, GRADED, MATCH) for at in (case.theta, case.theta_old))
    return [(autograd_reference.curvature(case.mdp, at), half_range(case.mdp)) for case, at in cases]


def smooth() -> bool:
    return all(found <= bound for found, bound in curvatures())


def reward_is_bounded() -> Finding:
    largest = [float(autograd_reference.rewards(case.mdp).abs().max()) for case in (ANSWERS, GRADED, MATCH)]
    return holds(
        all(math.isfinite(R) for R in largest),
        f"R = {shown(max(largest))} in these worlds",
        stated=tuple(str(case.line) for case in (ANSWERS, GRADED, MATCH)),
    )


def constant_of_the_score() -> Finding:
    steepest = autograd_reference.score_derivative(torch.zeros(1, 2, dtype=torch.float64))
    found = [autograd_reference.score_derivative(at) for at in (ANSWERS.theta, ANSWERS.theta_old)]
    return holds(
        near(steepest, 0.5, ROUNDING) and max(found) <= 0.5,
        f"{shown(steepest)}, attained at p = 1/2",
        "L = 1/2 for every token of a softmax table",
        stated=(str(Case.of("V=2 T=1 r=1,0 old=1/2").line),),
    )


def constant_of_kl() -> Finding:
    """Bounded for a reference that leaves no token out, and not beyond."""
    references = ("1/4", "1/1000", "1/1000000")
    found = [bend_of_kl(reference) for reference in references]
    grown = Case.of("V=2 T=1 r=1,0 old=1/4 ref=1/1000000").witness(
        "Lipschitz constant of grad KL at p_ref = 10^-6 minus the score's 1/2",
        lambda: bend_in_balls("1/1000000") - arb(fmpq(1, 2)),
        found[-1] - 0.5,
        formula=f"{BEND} - 1 / 2",
    )
    return judge(
        grown,
        f"one token, p = 1/4: {', '.join(map(shown, found))} at p_ref = 1/4, 10^-3, 10^-6, the last "
        f"{grown.shown} above 1/2",
        correction="for a reference that gives every token a probability above 0: L_0 depends on it, and "
        "grows "
        "without bound as the reference becomes deterministic",
        corrected=found[0] < found[1] < found[2],
    )


def constant_of_the_reward() -> Finding:
    raised = Case.of("V=2 T=3 EOS=1 r=8,7,7,8 old=1/2").mdp
    before, after = (
        expected_gradient(mdp, ANSWERS.theta, ANSWERS.theta_old, GRPO, 4) for mdp in (ANSWERS.mdp, raised)
    )
    R = [float(autograd_reference.rewards(mdp).abs().max()) for mdp in (ANSWERS.mdp, raised)]
    printed = ANSWERS.witness(
        "R = max |r| after r -> r + 7, minus R before",
        lambda: arb(max(abs(y.reward) for y in responses(raised)) - max_reward()),
        R[1] - R[0],
        GRPO,
        4,
    )
    moved = size(after - before)
    return judge(
        printed,
        f"r -> r + 7 raises R from {shown(R[0])} to {shown(R[1])}, by {printed.shown}, and moves E[g_hat] by "
        f"{shown(moved)}",
        correction="rho = (max r - min r) / 2 in the place of R: group-relative advantages see nothing else",
        corrected=vanishes(moved) and half_range(raised) == half_range(ANSWERS.mdp),
    )


def max_reward() -> fmpq:
    return max(abs(y.reward) for y in responses(ANSWERS.mdp))


CLAIMS = (
    Claim(
        "A5.1",
        "The score is Lipschitz: the heading of 5.1, whose body is about grad KL",
        "Assumption 5.1",
        exchanged_bodies,
        "ticgrpo_theory.claims.autograd_reference.score_derivative",
        "test_claims.py::test_constants_of_one_token_by_hand",
    ),
    Claim(
        "A5.2",
        "A Lipschitz score and a bounded reward are all that the convergence proofs need",
        "Assumption 5.2",
        ratios_stay_open,
        "ticgrpo_theory.estimators.clipping.two_sided",
        "test_clipping.py::test_bounds_by_hand",
        "theorem_bounds.py",
    ),
    Claim(
        "A5.3",
        "Rewards are bounded",
        "Assumption 5.3",
        reward_is_bounded,
        "ticgrpo_theory.claims.autograd_reference.rewards",
        "test_claims.py::test_constants_of_one_token_by_hand",
    ),
    Claim(
        "C.L",
        "There is a Lipschitz constant L of the score",
        "Assumption 5.1",
        constant_of_the_score,
        "ticgrpo_theory.claims.autograd_reference.score_derivative",
        "test_claims.py::test_constants_of_one_token_by_hand",
        "theorem_bounds.py",
    ),
    Claim(
        "C.L0",
        "There is a Lipschitz constant L_0 of grad KL",
        "Assumption 5.2",
        constant_of_kl,
        "ticgrpo_theory.claims.autograd_reference.divergence",
        "test_claims.py::test_constants_of_one_token_by_hand",
    ),
    Claim(
        "C.R",
        "The bounds depend on the rewards through R = max |r|",
        "Sec. 5",
        constant_of_the_reward,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_claims.py::test_only_the_range_of_the_reward_matters",
    ),
)
