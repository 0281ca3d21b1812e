"""The assumptions of Sec. 5, and the constants L, L_0 and R of a given world."""

import math

import torch
from flint import arb, fmpq

from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.claims.certified.rational import IntegerPolicy, fraction, responses
from ticgrpo_theory.claims.claim import Claim, Finding, holds, judge, near, shown, vanishes
from ticgrpo_theory.claims.witnesses import ANSWERS, GRADED, GRPO, MATCH, Case, size, tree
from ticgrpo_theory.estimators.clipping import dual, two_sided
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds.mdp import TokenMDP

COIN = Case(
    "one token, V = 2; reward 1 for token 0: J = p",
    tree(1, [1, 0]),
    IntegerPolicy(((3, 2),)),
    IntegerPolicy(((3, 2),)),
)


def half_range(mdp: TokenMDP) -> float:
    """rho = (max r - min r) / 2."""
    reward = autograd_reference.rewards(mdp)
    return float(reward.max() - reward.min()) / 2


def one_name_for_two() -> Finding:
    """Of one token with probabilities p, q the score turns at 2 p q and J = p bends at 2 p q |p - q|."""
    of_score, of_J = (
        autograd_reference.score_derivative(COIN.theta),
        autograd_reference.curvature(COIN.mdp, COIN.theta),
    )
    p, q = COIN.now.prob(0, 0), COIN.now.prob(0, 1)
    printed = COIN.witness(
        "Lipschitz constant of the score minus that of grad J, both at this policy",
        lambda: arb(2 * p * q - 2 * p * q * abs(p - q)),
        of_score - of_J,
    )
    steepest = autograd_reference.score_derivative(torch.zeros(1, 2, dtype=torch.float64))
    return judge(
        printed,
        f"score {shown(of_score)}, grad J {shown(of_J)} at p = 0.6; the score at "
        f"its steepest {shown(steepest)}",
        correction="exchange the bodies of 5.1 and 5.2, and write L_0 for the score, L for grad J",
        corrected=near(steepest, 0.5, ROUNDING),
    )


def ratios_stay_open() -> Finding:
    """A token of probability 1/1000 under theta_old and 999/1000 under theta, in a response with A < 0."""
    rare, common = IntegerPolicy(((1, 999),)), IntegerPolicy(((999, 1),))
    case, eps = Case(COIN.world, COIN.mdp, rare, common), 0.28
    w = float((case.theta.log_softmax(-1) - case.theta_old.log_softmax(-1))[0, 0].exp())
    negative, one = torch.tensor([False]), torch.tensor([1])
    upper, capped = (
        float(clip.bounds(negative, one)[1].exp()) for clip in (two_sided(0.2, eps), dual(0.2, eps))
    )
    printed = case.witness(
        "weight that the clip of Eq. 5 leaves a token with A < 0, minus 1 + eps_high",
        lambda: arb(common.prob(0, 0) / rare.prob(0, 0) - 1 - fraction(eps)),
        (w if w <= upper else 0.0) - (1 + eps),
        GRPO,
        2,
    )
    score = math.sqrt(2)
    return judge(
        printed,
        f"weight {shown(w)} where A < 0; at most {shown(capped)} under a dual clip",
        correction="for GRPO also a bounded score (softmax: at most sqrt 2) or a dual clip; smoothness of J "
        "follows and need not be assumed",
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
    return holds(all(math.isfinite(R) for R in largest), f"R = {shown(max(largest))} in these worlds")


def constant_of_J() -> Finding:
    found, bound = max(curvatures(), key=lambda pair: pair[0] / pair[1])
    return holds(
        smooth(),
        f"largest ||Hessian of J|| found {shown(found)}, bound {shown(bound)}",
        "L <= rho d_max, rho = (max r - min r) / 2, d_max the largest expected number of visits of a row: no "
        "factor T on a tree",
    )


def constant_of_the_score() -> Finding:
    steepest = autograd_reference.score_derivative(torch.zeros(1, 2, dtype=torch.float64))
    found = [autograd_reference.score_derivative(at) for at in (ANSWERS.theta, ANSWERS.theta_old)]
    return holds(
        near(steepest, 0.5, ROUNDING) and max(found) <= 0.5,
        f"{shown(steepest)}, attained at p = 1/2",
        "L_0 = 1/2 for every token of a softmax table",
    )


def constant_of_the_reward() -> Finding:
    lift = 7.0
    raised = tree(3, [1 + lift, lift, lift, 1 + lift], eos=1)
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
        f"r -> r + 7 raises R from {shown(R[0])} to {shown(R[1])} and moves E[g_hat] by {shown(moved)}",
        correction="rho = (max r - min r) / 2 in the place of R: group-relative advantages see nothing else",
        corrected=vanishes(moved) and half_range(raised) == half_range(ANSWERS.mdp),
    )


def max_reward() -> fmpq:
    return max(abs(y.reward) for y in responses(ANSWERS.mdp))


CLAIMS = (
    Claim(
        "A5.1",
        "One Lipschitz constant, declared as L and used as L_0, under the heading of another assumption",
        "Assumption 5.1",
        one_name_for_two,
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
        "grad J is Lipschitz with a constant L of the world",
        "Sec. 5",
        constant_of_J,
        "ticgrpo_theory.claims.autograd_reference.curvature",
        "test_claims.py::test_constants_of_one_token_by_hand",
        "theorem_bounds.py",
    ),
    Claim(
        "C.L0",
        "The score is Lipschitz with a constant L_0 of the world",
        "Sec. 5",
        constant_of_the_score,
        "ticgrpo_theory.claims.autograd_reference.score_derivative",
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
