"""resolve.py: what becomes an estimator, with which arguments, and what is refused."""

import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import leave_one_out, raw, standardised
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.properties import BLACK_BOX
from ticgrpo_theory.estimators.resolve import (
    as_loss,
    check_group_size,
    loss_arguments,
    needed_arguments,
    properties_of,
    resolve,
)


def pairs() -> Batch:
    """Two responses of two tokens, rewards 1 and 0."""
    logp = torch.tensor([[-0.5, -1.0], [-0.25, -2.0]], dtype=torch.float64)
    return Batch(logp, logp - 0.5, torch.tensor([1.0, 0.0]).double(), torch.ones(2, 2, dtype=torch.bool))


def test_names_estimators_and_callables_become_what_they_are():
    assert resolve("grpo") is ESTIMATORS["grpo"] and resolve(ESTIMATORS["grpo"]) is ESTIMATORS["grpo"]
    own = resolve(lambda batch: batch.logp.sum())
    assert isinstance(own, Objective) and resolve(own) is own
    assert own.token_weights(pairs()).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def trainer(completion_mask, advantages, old_per_token_logps, per_token_logps):
    """Minus the mean of w A over four tokens, its arguments in another order and by other names."""
    w = (per_token_logps - old_per_token_logps).exp()
    return -(w * advantages[:, None] * completion_mask).mean()


def test_a_loss_is_called_by_the_names_of_its_arguments():
    # c = w A / 4 = exp(1/2) A / 4, and A = r without a baseline: 1 and 0.
    c = as_loss(trainer, raw()).token_weights(pairs())
    expected = torch.tensor([[math.exp(0.5) / 4] * 2, [0.0] * 2], dtype=torch.float64)
    torch.testing.assert_close(c, expected, **EXACT)
    by_place = from_loss(lambda logp, old, A, mask: trainer(mask, A, old, logp), raw())
    torch.testing.assert_close(by_place.token_weights(pairs()), expected, **EXACT)
    with pytest.raises(ValueError, match=r"takes \(a, b\); a loss takes logp, logp_old, advantages and mask"):
        as_loss(lambda a, b: a, raw())


def test_the_arguments_that_a_call_must_give_are_read_off_the_signature():
    assert needed_arguments(lambda batch, eps=0.2, *more, **rest: 0) == ["batch"]
    assert needed_arguments(trainer) == [
        "completion_mask",
        "advantages",
        "old_per_token_logps",
        "per_token_logps",
    ]
    assert loss_arguments(["mask", "logp", "advantage", "old_logp"]) == {
        "logp": "logp",
        "logp_old": "old_logp",
        "advantages": "advantage",
        "mask": "mask",
    }
    assert loss_arguments(["logp", "logps", "advantages", "mask"]) is None
    assert loss_arguments(["logp", "advantages", "mask"]) is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (grpo, r"the factory grpo was not called: give grpo\(\), or the name 'grpo'"),
        (trainer, r"is a loss to be minimised, .* give from_loss\(trainer, standardised\(\)\)"),
        (lambda batch, w: w, r"needs 2 arguments \(batch, w\)"),
        (standardised, r"is neither a name, an Estimator, .* give one of these"),
        ("gpro", r"unknown estimator 'gpro'; nearest names: .*grpo"),
    ],
)
def test_what_is_no_estimator_is_refused_with_the_way_out(given, text):
    with pytest.raises(ValueError, match=text):
        resolve(given)


def test_groups_are_whole_or_infinite_and_large_enough_for_the_advantage():
    for G in (1, 7, math.inf):
        check_group_size(G, ESTIMATORS["grpo"])
    pair = from_loss(trainer, leave_one_out())
    check_group_size(2, pair)
    for G, estimator, text in (
        (0, ESTIMATORS["grpo"], "group_size = 0: a group has a whole number >= 1"),
        (2.5, ESTIMATORS["grpo"], "group_size = 2.5"),
        (math.nan, ESTIMATORS["grpo"], "group_size = nan"),
        (1, pair, r"leave_one_out\(\) is undefined for a group of 1; it needs group_size >= 2"),
    ):
        with pytest.raises(ValueError, match=text):
            check_group_size(G, estimator)


def test_what_declares_nothing_is_a_black_box():
    class Own:
        def token_weights(self, batch: Batch) -> torch.Tensor:
            return batch.logp

    assert properties_of(Own()) is BLACK_BOX
    assert properties_of(ESTIMATORS["grpo"]).known and not properties_of(Objective(len)).known
