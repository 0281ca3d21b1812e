"""What is said of Eq. 7 as a whole: whose gradient it estimates, which errors vanish, what DAPO changes."""

import math

import torch
from scipy.optimize import brentq

from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.enclosures import inner
from ticgrpo_theory.claims.claim import Claim, Finding, Witness, judge, near, shown
from ticgrpo_theory.claims.decompositions import FAR, NEARER
from ticgrpo_theory.claims.multiples import misses_gradient
from ticgrpo_theory.claims.witnesses import DAPO, FREE_GRPO, GRPO, MATCH, length_trap, size
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.objective import policy_gradient

G = 4


def which_gradient() -> Finding:
    witnesses = (
        misses_gradient(MATCH, FREE_GRPO, G, "gradient at theta_old", MATCH.at_old()),
        misses_gradient(MATCH, FREE_GRPO, G, "gradient at theta"),
    )
    scale, _ = known_scale(MATCH.mdp, MATCH.theta_old, FREE_GRPO, G)

    def at_share(share: float) -> float:
        near_old = expected_gradient(MATCH.mdp, MATCH.nearer(share), MATCH.theta_old, FREE_GRPO, G)
        return size(near_old - scale * MATCH.gradient_old())

    left = at_share(NEARER) / at_share(FAR)
    return judge(
        witnesses,
        f"off by {witnesses[0].shown} from the old and by {witnesses[1].shown} from the current gradient, of "
        f"norm {shown(scale * size(MATCH.gradient()))}; half of a small drift leaves {shown(left)}",
        correction="to order 0 in the drift, as a multiple; to first order it is neither gradient: state "
        "distribution and values are frozen, token ratios move",
        corrected=near(left, 0.5),
    )


def downhill(estimator: Estimator, group_size: int, sign: int) -> Witness:
    """- sign <E[g_hat], grad J> in the length trap at p = 3/5."""
    case = length_trap(3, 2)
    words = "-<E[g_hat], grad J(theta)>" if sign > 0 else "<E[g_hat], grad J(theta)>"
    return case.witness(
        f"{words} at theta = theta_old",
        lambda: (
            -sign
            * inner(case.enclosed(estimator, group_size), enclosures.policy_gradient(case.mdp, case.now))
        ),
        -sign * float((case.expected(estimator, group_size) * case.gradient()).sum()),
        estimator,
        group_size,
    )


def turned(estimator: Estimator, sizes: tuple[int, ...]) -> float:
    """How far the direction of E[g_hat] in the length trap depends on the group size."""
    case = length_trap(3, 2)
    units = [torch.nn.functional.normalize(case.expected(estimator, G).flatten(), dim=0) for G in sizes]
    return max(size(unit - units[0]) for unit in units)


def errors_vanish() -> Finding:
    witness = downhill(GRPO, 2, +1)
    turn = turned(GRPO, (2, 4, 16, 64))
    return judge(
        witness,
        f"E g_hat . grad J = -{witness.shown} at G = 2; the direction at G = 4, 16, 64 is the same "
        f"up to {shown(turn)}",
        counter_example="they are four; before any drift sampling error 2 sends GRPO downhill at every G and "
        "delta: it falls with none of N, G, eta K",
    )


def fixed_point(estimator: Estimator, group_size: int) -> tuple[float, float]:
    """p where E[g_hat] = 0 in the length trap, and ||grad J||^2 there."""
    mdp = length_trap(3, 2).mdp

    def theta(p: float) -> torch.Tensor:
        return torch.tensor([[math.log(p), math.log1p(-p)]], dtype=torch.float64)

    def first(p: float) -> float:
        return float(expected_gradient(mdp, theta(p), theta(p), estimator, group_size)[0, 0])

    root = float(brentq(first, 0.3, 0.9, xtol=1e-14))  # type: ignore[arg-type]
    return root, size(policy_gradient(mdp, theta(root))) ** 2


def dapo_remark() -> Finding:
    witnesses = (downhill(GRPO, 4, +1), downhill(DAPO, 4, -1))
    floors = {
        name: [fixed_point(estimator, group)[1] for group in (4, 16, 64)]
        for name, estimator in (("1/|s|", GRPO), ("1/sum |s|", DAPO))
    }
    shown_floors = "; ".join(f"{name}: " + ", ".join(map(shown, x)) for name, x in floors.items())
    return judge(
        witnesses,
        f"||grad J||^2 at the fixed point, G = 4, 16, 64: {shown_floors}",
        counter_example="the other way round: 1/sum |s| removes sampling error 2; where 1/|s| leads "
        "downhill at every G, it leads uphill",
    )


CLAIMS = (
    Claim(
        "E7.target",
        "GRPO estimates the gradient at the old policy, not the current one (target: grad J(theta_old))",
        "Abstract, Eq. 7",
        which_gradient,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_bias_vs_drift.py::test_both_errors_grow_in_proportion_to_the_drift",
        "bias_vs_drift.py",
    ),
    Claim(
        "E7.vanish",
        "The remaining three error terms vanish",
        "below Eq. 8",
        errors_vanish,
        "ticgrpo_theory.exact.expectation.expected_gradient",
        "test_length_bias.py::test_one_over_the_length_rests_at_the_printed_point_for_every_group_size_and_delta",
        "length_bias.py",
    ),
    Claim(
        "E7.dapo",
        "DAPO's normaliser 1/sum |s_i| for 1/|s_i| only adds one more sampling error",
        "remark on DAPO, at Eq. 7",
        dapo_remark,
        "ticgrpo_theory.estimators.catalogue.dapo",
        "test_length_bias.py::test_the_token_mean_rests_at_the_printed_points_which_close_in_like_one_over_G",
        "length_bias.py",
    ),
)
