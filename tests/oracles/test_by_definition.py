"""The oracle of black boxes: a value by hand, printed numbers, and the estimators of the catalogue."""

import math

import pytest
import torch

from tests.instances.reference_instance import BINARY, OLD, TERNARY, THETA
from tests.oracles.by_definition import Prompt, expected_return, moments, policy_gradient, reuse
from tests.properties.black_box_axes import in_words
from tests.properties.black_box_worlds import prompts_of
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory import exact
from ticgrpo_theory.estimators import ESTIMATORS

ONE = torch.ones(2, 1, dtype=torch.bool)
COIN = Prompt(
    1.0, torch.zeros(2, 1).long(), torch.tensor([[0], [1]]), ONE, torch.tensor([1.0, 0.0]).double(), 1
)
"""One token of two, the first is right."""


def theta_of(table):
    return torch.tensor(table, dtype=torch.float64)


def reinforce(group):
    """mean of r logp."""
    return (group.reward * (group.logp * group.mask).sum(dim=1)).mean()


def test_a_fair_coin_by_hand():
    # r grad log pi = (1/2, -1/2) or 0, each with probability 1/2: mean (1/4, -1/4), mean square 1/4.
    even = torch.zeros(1, 2, dtype=torch.float64)
    for G, square in ((1, 1 / 4), (2, 1 / 8 + 1 / 16), (4, 1 / 16 + 3 / 32)):
        mean, second = moments([COIN], even, even, reinforce, G)
        torch.testing.assert_close(mean, torch.tensor([[0.25, -0.25]]).double(), **EXACT)
        assert second == pytest.approx(square, rel=EXACT["rtol"])
    torch.testing.assert_close(policy_gradient([COIN], even), mean, **EXACT)
    assert float(expected_return([COIN], even)) == 0.5


def test_one_step_on_a_coin_by_hand():
    # G = 1: a right answer moves theta by eta (1/2, -1/2), so that p = 1 / (1 + exp(-eta)); a wrong one not.
    even, eta = torch.zeros(1, 2, dtype=torch.float64), 2.0
    found = reuse([COIN], even, reinforce, 1, 1, eta)
    p = 1 / (1 + math.exp(-eta))
    gap = torch.tensor([[1.0, -1.0]]).double()
    torch.testing.assert_close(found.gradient[1], (1 - p) / 2 * gap, **EXACT)
    torch.testing.assert_close(found.target[1], (p * (1 - p) + 1 / 4) / 2 * gap, **EXACT)
    torch.testing.assert_close(found.expected_return, theta_of([0.5, (p + 0.5) / 2]), **EXACT)
    # Twice, for two logits, the mean of (1 - p - p (1 - p))^2 and (1/4)^2.
    assert float(found.mse[1]) == pytest.approx((1 - p) ** 4 + 1 / 16, rel=EXACT["rtol"])


@pytest.mark.parametrize("mdp", [BINARY, TERNARY])
@pytest.mark.parametrize(
    "name", ["grpo", "dapo", "dr_grpo", "tic_grpo", "gspo", "cispo", "gmpo", "prefix_is"]
)
def test_the_catalogue_in_words(mdp, name):
    tables, estimator = (theta_of(THETA), theta_of(OLD)), ESTIMATORS[name]
    mean, second = moments(prompts_of(mdp), *tables, in_words(estimator), 3)
    torch.testing.assert_close(mean, exact.expected_gradient(mdp, *tables, name, 3), **EXACT)
    assert second == pytest.approx(exact.gradient_moments(mdp, *tables, name, 3).second_moment, rel=1e-12)
    torch.testing.assert_close(
        policy_gradient(prompts_of(mdp), tables[0]), exact.policy_gradient(mdp, tables[0]), **EXACT
    )
    steps = reuse(prompts_of(mdp), tables[1], in_words(estimator), 2, 1, 0.5)
    found = exact.reuse_bias(mdp, tables[1], name, 2, 1, 0.5)
    for field in ("gradient", "target", "mse", "expected_return"):
        torch.testing.assert_close(getattr(steps, field), getattr(found, field), **EXACT)


def test_the_order_of_a_group_its_width_and_its_padding_are_seen():
    tables = (theta_of(THETA), theta_of(OLD))
    prompts = prompts_of(TERNARY)

    def forgotten(group):
        return (group.reward * group.logp.sum(dim=1)).mean()

    def over_the_width(group):
        return reinforce(group) / group.logp.shape[1]

    def of_the_last(group):
        return len(group.reward) * group.reward[-1] * (group.logp[0] * group.mask[0]).sum()

    mean, _ = moments(prompts, *tables, reinforce, 2)
    for objective in (forgotten, over_the_width, of_the_last):
        other, _ = moments(prompts, *tables, objective, 2)
        assert float((other - mean).norm()) > VISIBLE
