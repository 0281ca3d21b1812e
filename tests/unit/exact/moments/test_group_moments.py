"""Moments of what no formula for one response covers: penalties, losses, callables."""

import dataclasses

import pytest
import torch

from tests.instances.worlds_by_hand import OLD, REFERENCE, THETA, eos_tree
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators import ESTIMATORS, catalogue, ratios
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.penalties import k1, k3, kl_exact, kl_loss, kl_reward
from ticgrpo_theory.exact import expected_gradient, gradient_moments

PENALTIES = [kl_exact(0.5), kl_exact(0.5, ratios.token), kl_loss(k3, 0.5), kl_reward(k1, 0.5)]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_penalties_take_part_in_the_noise(penalty):
    mdp, plain = eos_tree((1.0, 0.3, 0.0, 1.0)), ESTIMATORS["grpo"]
    estimator = dataclasses.replace(plain, penalty=penalty)
    found = gradient_moments(mdp, THETA, OLD, estimator, group_size=3, theta_ref=REFERENCE)
    assert found.method == "groups" and found.effective_sample_size is None
    mean = expected_gradient(mdp, THETA, OLD, estimator, group_size=3, theta_ref=REFERENCE)
    torch.testing.assert_close(found.mean, mean, **EXACT)
    assert abs(found.variance - gradient_moments(mdp, THETA, OLD, plain, group_size=3).variance) > 1e-4


def token_loss(logp, logp_old, A, mask):
    """PPO's clipped loss, token by token, with 1/(G length)."""
    w = (logp - logp_old).exp()
    kept = torch.minimum(w * A[:, None], w.clamp(0.8, 1.2) * A[:, None]).where(mask, 0.0)
    return -(kept.sum(dim=1) / mask.sum(dim=1)).mean()


def test_a_loss_and_a_callable_have_the_moments_of_the_formula():
    mdp, G = eos_tree((1.0, 0.3, 0.0, 1.0)), 3
    formula = gradient_moments(mdp, THETA, OLD, catalogue.grpo(delta=1e-6), group_size=G)
    loss = from_loss(token_loss, standardised(1e-6))

    def objective(batch):
        return -token_loss(batch.logp, batch.logp_old, standardised(1e-6)(batch.reward), batch.mask)

    for estimator, method in ((loss, "groups"), (objective, "groups")):
        found = gradient_moments(mdp, THETA, OLD, estimator, group_size=G)
        assert (found.method, found.scale_kind) == (method, "least_squares")
        assert found.variance == pytest.approx(formula.variance, rel=1e-12)
