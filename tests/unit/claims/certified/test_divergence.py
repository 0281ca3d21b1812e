"""certified/divergence.py: the KL of responses, and a sampled k3."""

import torch
from flint import arb

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.claims.certified import divergence
from ticgrpo_theory.claims.certified.enclosures import difference, precision, squared_norm
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.exact.penalties.divergence import expected_divergence
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient
from ticgrpo_theory.mdp import TokenMDP

OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))


NOW = IntegerPolicy(((5, 2), (3, 5), (4, 2)))


REFERENCE = IntegerPolicy(((1, 1), (2, 1), (1, 3)))


MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[1, 0.3, 0, 1])


def floats(matrix) -> torch.Tensor:
    return torch.tensor([[float(x) for x in row] for row in matrix], dtype=torch.float64)


def test_kl_and_its_sampled_gradient_lie_in_the_ball():
    theta, reference = NOW.logits(), REFERENCE.logits()
    exact = expected_divergence(MDP, theta, reference).gradient
    sampled = -penalty_gradient(MDP, theta, OLD.logits(), reference, kl_loss(k3, 1.0))
    with precision():
        torch.testing.assert_close(floats(divergence.kl_gradient(MDP, NOW, REFERENCE)), exact, **EXACT)
        ball = divergence.k3_gradient(MDP, NOW, OLD, REFERENCE, lambda y: arb(1))
        torch.testing.assert_close(floats(ball), sampled, **EXACT)
        gap = squared_norm(difference(ball, divergence.kl_gradient(MDP, NOW, REFERENCE)))
        assert bool(gap > VISIBLE**2)
