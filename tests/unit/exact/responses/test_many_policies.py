"""responses/many_policies.py: J and grad J at two policies at once, and gradients of groups, by hand."""

import torch

from tests.instances.worlds_by_hand import coin, odds
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.exact.responses.many_policies import returns_and_gradients, unroll
from ticgrpo_theory.mdp import TokenMDP

EVEN = torch.zeros(1, 2, dtype=torch.float64)
BOTH = torch.tensor([odds(0.5), odds(0.75)], dtype=torch.float64)


def close(found: torch.Tensor, expected) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_a_coin_at_two_policies_by_hand():
    # J = p, grad J = p (1 - p) (1, -1).
    J, gradient = returns_and_gradients(unroll(coin(), EVEN, None), BOTH)
    close(J, [1 / 2, 3 / 4])
    close(gradient, [[[1 / 4, -1 / 4]], [[3 / 16, -3 / 16]]])
    assert float((gradient[0] - gradient[1]).abs().max()) > VISIBLE


def test_prompts_count_by_their_weight():
    world = TokenMDP.mixture([coin(), coin((0.0, 2.0))], [0.75, 0.25], share_rows=True)
    J, gradient = returns_and_gradients(unroll(world, EVEN, None), BOTH)
    close(J, [3 / 8 + 1 / 4, 9 / 16 + 1 / 8])
    close(gradient[0], [[3 / 16 - 1 / 8, -3 / 16 + 1 / 8]])


def test_a_group_at_its_own_policy_by_hand():
    (prompt,) = unroll(coin(), EVEN, None)
    members = torch.tensor([[0, 1], [0, 0]])
    batch = prompt.batch(BOTH, members)
    close(batch.logp.exp()[..., 0], [[1 / 2, 1 / 2], [3 / 4, 3 / 4]])
    close(batch.logp_old.exp()[..., 0], [[1 / 2, 1 / 2], [1 / 2, 1 / 2]])
    # c = 1 on token 0 and -1 on token 1: e_0 - e_1; two tokens 0 with weight 1: 2 (e_0 - pi).
    c = torch.tensor([[[1.0], [-1.0]], [[1.0], [1.0]]], dtype=torch.float64)
    close(prompt.gradients(c, BOTH, members), [[[1.0, -1.0]], [[1 / 2, -1 / 2]]])
