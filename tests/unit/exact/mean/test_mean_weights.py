"""exact/mean/mean_weights.py: expected token weights of a coin by hand, by every method."""

import pytest
import torch

from tests.instances.worlds_by_hand import coin, eos_tree, odds
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import raw, standardised
from ticgrpo_theory.estimators.clipping import unclipped, upper_only
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import k1, kl_loss
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.mean.mean_weights import METHODS, conditional
from ticgrpo_theory.exact.problem import CheckedProblem


def of(estimator: Estimator, p: float, p_old: float, G: int, **options):
    return CheckedProblem(coin(), odds(p), odds(p_old), estimator, G, **options).one


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_a_coin_by_hand(method):
    # Reward 1 with token 0. P_old w' r = pi_theta(0) = 3/4 where nothing is clipped.
    free = Estimator(ratios.token, raw(), unclipped(), sequence_sum)
    close(METHODS[method](of(free, 0.75, 0.5, 2)), [[3 / 4, 0.0]])
    # w' = 3/2 is beyond 1.2 and switched off; w' = 1/2 of token 1 stays.
    shut = Estimator(ratios.token, raw(), upper_only(0.2), sequence_sum)
    close(METHODS[method](of(shut, 0.75, 0.5, 2)), [[0.0, 0.0]])
    # In pairs A = +-1 where the rewards differ: f = 1/2 and -1/2, times pi_theta.
    standard = Estimator(ratios.token, standardised(0.0), unclipped(), sequence_sum)
    close(METHODS[method](of(standard, 0.75, 0.5, 2)), [[3 / 8, -1 / 8]])


def test_a_penalty_adds_its_own_weights():
    # k1 without a ratio weighs a token by -beta times log(pi / pi_ref)' = -beta, P_old(a) of it.
    carrying = Estimator(ratios.none, raw(), unclipped(), sequence_sum, penalty=kl_loss(k1, 0.5))
    found = METHODS["enumeration"](of(carrying, 0.5, 0.5, 2, theta_ref=odds(0.75)))
    close(found, [[1 / 2 - 1 / 4, -1 / 4]])


def test_signs_are_added_only_where_the_clip_is_the_same_for_both():
    merged = Estimator(ratios.token, standardised(0.0), upper_only(0.2), sequence_sum)
    plus, minus = conditional(of(merged, 0.75, 0.5, 2), merged)
    close(torch.from_numpy(plus), [1 / 2, -1 / 2])
    assert not minus.any()


def test_the_check_by_hand_rejects_another_ratio():
    old = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
    theta = [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
    M = [
        METHODS["enumeration"](
            CheckedProblem(
                eos_tree([1.0, 0.0, 0.5, 0.0]), theta, old, Estimator(r, raw(), unclipped(), sequence_sum), 2
            ).one
        )
        for r in (ratios.token, ratios.trajectory)
    ]
    assert float((M[0] - M[1]).abs().max()) > VISIBLE


def close(found: torch.Tensor, expected) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **EXACT)
