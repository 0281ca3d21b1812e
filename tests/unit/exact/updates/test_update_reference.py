"""The table of reference numbers for whole updates: two prompts, G = 2, delta = 0, token ratio, no clip.

Each was found by listing all ordered updates outside this package; here by every method that applies.
"""

import pytest
import torch

from tests.instances.two_prompts import OLD, THETA, two_prompts
from tests.oracles import whole_updates as oracle
from tests.properties.tolerances import EXACT, PRINTED
from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    centred,
    group_centred_batch_std,
    standardised,
    token_whitened,
)
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    micro_batch_token_mean,
    sequence_sum,
    token_mean,
)
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient

METHODS = ("dynamic_programming", "enumeration", "groups")


def of(advantage, scale=sequence_sum, filter=None):
    return Estimator(token, advantage, unclipped(), scale, filter=filter)


STRIDED = micro_batch_token_mean(2, (0, 2, 1, 3))
TABLE = [
    (of(centred(), token_mean), 2, (0.0491671841, 0.0196992374), 0.97577615),
    (of(centred(), token_mean), "each", (0.0491671841, 0.0196992374), 0.97577615),
    (of(centred(), batch_token_mean), 2, (0.0486302408, 0.0208827684), 0.98084934),
    (of(centred(), batch_token_mean), "each", (0.0486302408, 0.0208827684), 0.98084934),
    (of(centred(), batch_token_mean), 3, (0.0481563603, 0.0212468758), 0.98273109),
    (of(centred(), STRIDED), 2, (0.0521720158, 0.0196992374), 0.97119613),
    (of(batch_standardised(0.0)), "each", (0.2382537195, 0.1113076029), 0.98648735),
    (of(token_whitened(0.0)), "each", (0.2543396303, 0.1036731111), 0.97706729),
    (of(token_whitened(0.0, 1)), "each", (0.2322962479, 0.0955928797), 0.97777226),
    (of(group_centred_batch_std(0.0)), "each", (0.1805405689, 0.0836168250), 0.98593858),
    (of(group_centred_batch_std(0.0, of="rewards")), "each", (0.1598409688, 0.0744641020), 0.98630953),
    (of(standardised(0.0)), 2, (0.1475015524, 0.0690079937), 0.98657660),
    (of(standardised(0.0), filter=drop_equal("refill")), 2, (0.3168308893, 0.1482280266), 0.98657660),
    (of(standardised(0.0), filter=drop_equal("same_prompt")), 2, (0.3133223450, 0.1560598597), 0.99028318),
    (
        of(standardised(0.0), filter=drop_equal("divide_by_kept")),
        "each",
        (0.2272647941, 0.1042768322),
        0.98533794,
    ),
    (of(centred(), batch_token_mean, drop_equal("refill")), 2, (0.1029961067, 0.0443072560), None),
]
ON_POLICY = [
    (of(batch_standardised(0.0)), (0.3108455968, 0.1132522443), 0.99999990),
    (of(token_whitened(0.0)), (0.3318326124, 0.1054843713), 0.99911544),
]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / a.norm() / b.norm())


def check_row(row: int, method: str) -> None:
    estimator, prompts, numbers, along = TABLE[row]
    world = two_prompts()
    found = expected_gradient(world, THETA, OLD, estimator, 2, prompts=prompts, method=method)
    expected = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(found[:, 0], expected, **PRINTED(10))
    torch.testing.assert_close(found[:, 0], -found[:, 1], **EXACT)
    if along is not None:
        assert abs(cosine(found, policy_gradient(world, THETA)) - along) <= 0.5001e-8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("row", range(len(TABLE)))
def test_every_row_of_the_table_by_every_method(row, method):
    check_row(row, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator, numbers, along", ON_POLICY, ids=range(len(ON_POLICY)))
def test_on_policy_a_batch_deviation_is_nearly_and_not_quite_along_the_gradient(
    estimator, numbers, along, method
):
    world = two_prompts()
    found = expected_gradient(world, OLD, OLD, estimator, 2, prompts="each", method=method)
    torch.testing.assert_close(found[:, 0], torch.tensor(numbers, dtype=torch.float64), **PRINTED(10))
    assert abs(cosine(found, policy_gradient(world, OLD)) - along) <= 0.5001e-8
    assert 1 - along > 1e-8 / 2


def test_the_world_itself():
    world = two_prompts()
    assert abs(expected_return(world, THETA) - 0.5256743720) <= 0.5001e-10
    assert abs(expected_return(world, OLD) - 0.4522133610) <= 0.5001e-10
    gradient = policy_gradient(world, THETA)[:, 0]
    torch.testing.assert_close(
        gradient, torch.tensor([0.1312818622, 0.0901290262], dtype=torch.float64), **PRINTED(10)
    )


def test_how_likely_a_group_of_unequal_rewards_is():
    found = []
    for prompt in oracle.two_prompts():
        drawn = oracle.updates([prompt], None, 1, 2, oracle.OLD)
        found.append(sum(p for p, (group,) in drawn if oracle.unequal([y.reward for y in group])))
    assert abs(found[0] - 0.4421892590) <= 0.5001e-10 and abs(found[1] - 0.4889166234) <= 0.5001e-10
