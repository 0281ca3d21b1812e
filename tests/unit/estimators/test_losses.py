"""losses.py: callables as estimators, their sign, their refusals, and what is not of one-response form."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given

from tests.instances.probe import PROBE
from tests.oracles.test_literal import HORIZON, RESPONSES, group_of
from tests.properties.strategies import groups, padded
from tests.properties.tolerances import EXACT, MOVES, SAME_BITS
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import leave_one_out, standardised
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.estimator import current, old
from ticgrpo_theory.estimators.losses import Objective, differentiate, from_loss
from ticgrpo_theory.estimators.one_group import picked, tensors_of

STD = standardised(1e-6)


def sequence_mean_loss(logp, logp_old, advantages, mask):
    """PPO's clipped loss as trainers write it: masked by a product, mean over tokens, then over responses."""
    ratio = torch.exp(logp - logp_old)
    A = advantages[:, None]
    per_token = -torch.min(ratio * A, ratio.clamp(0.8, 1.2) * A)
    return ((per_token * mask).sum(-1) / mask.sum(-1)).mean()


def token_mean_loss(logp, logp_old, advantages, mask):
    """The same, mean over all tokens of the group, with the higher upper end."""
    ratio = torch.exp(logp - logp_old)
    A = advantages[:, None]
    per_token = -torch.min(ratio * A, ratio.clamp(0.8, 1.28) * A)
    return (per_token * mask).sum() / mask.sum()


def trajectory_loss(logp, logp_old, advantages, mask):
    """Importance-weighted rewards, one ratio a response."""
    w = torch.exp(((logp - logp_old) * mask).sum(-1))
    return -(w * advantages).mean()


EQUALS = [
    ("grpo", from_loss(sequence_mean_loss, STD)),
    ("dapo", from_loss(token_mean_loss, STD)),
    ("trajectory_is", from_loss(trajectory_loss, leave_one_out())),
]


def check_loss_equals(name: str, loss: from_loss) -> None:
    found = loss.token_weights(PROBE)
    torch.testing.assert_close(found, ESTIMATORS[name].token_weights(PROBE), **EXACT)


@pytest.mark.parametrize("name, loss", EQUALS)
def test_a_trainers_loss_has_the_weights_of_the_estimator_it_implements(name, loss):
    check_loss_equals(name, loss)


@given(groups(min_size=2))
def test_a_trainers_loss_has_the_weights_of_the_estimator_for_any_group(case):
    for name, loss in EQUALS:
        expected = ESTIMATORS[name].token_weights(case.batch)
        torch.testing.assert_close(loss.token_weights(case.batch), expected, **EXACT)


def objective_of(name: str) -> Objective:
    """The surrogate of a catalogue entry, as a black box."""
    return Objective(ESTIMATORS[name].objective)


@pytest.mark.parametrize("name", sorted(FIRST))
def test_an_objective_is_maximised_and_gives_back_the_weights_of_its_surrogate(name):
    torch.testing.assert_close(
        objective_of(name).token_weights(PROBE), ESTIMATORS[name].token_weights(PROBE), **SAME_BITS
    )


@pytest.mark.parametrize("estimator", [EQUALS[0][1], objective_of("grpo")])
def test_leading_axes_are_groups_of_their_own(estimator):
    other = dataclasses.replace(PROBE, reward=PROBE.reward.flip(0))
    tables = ("logp", "logp_old", "reward", "mask")
    together = Batch(*(torch.stack([getattr(b, t) for b in (PROBE, other)]) for t in tables), horizon=HORIZON)
    expected = torch.stack([estimator.token_weights(PROBE), estimator.token_weights(other)])
    torch.testing.assert_close(estimator.token_weights(together), expected, **SAME_BITS)


def check_padding_is_blanked() -> None:
    """Trainers multiply by the mask; NaN at padding times 0 would be NaN."""

    def product(batch: Batch) -> torch.Tensor:
        assert batch.logp_ref is not None
        terms = torch.exp(batch.logp - batch.logp_old) * (batch.logp - batch.logp_ref)
        return (terms * batch.mask).sum()

    batch = dataclasses.replace(PROBE, logp_ref=PROBE.logp_old.clone())
    assert bool(torch.isnan(batch.logp_old[~batch.mask]).all())
    found = Objective(product).token_weights(batch)
    log_w = batch.log_ratio
    torch.testing.assert_close(found, (log_w.exp() * (log_w + 1)).where(batch.mask, 0.0), **EXACT)


def test_padding_is_blanked_before_a_callable_sees_it():
    check_padding_is_blanked()


def test_gradients_reach_log_probabilities_alone_and_only_where_they_are_read():
    first = Objective(lambda batch: batch.logp[0, 0]).token_weights(PROBE)
    assert float(first[0, 0]) == 1 and float(first.abs().sum()) == 1
    with torch.no_grad():
        again = Objective(lambda batch: batch.logp[0, 0]).token_weights(PROBE)
    torch.testing.assert_close(again, first, **SAME_BITS)


def test_scores_and_names_of_callables():
    assert EQUALS[0][1].score is current and from_loss(token_mean_loss, STD, score=old).score is old
    assert EQUALS[0][1].describe() == f"loss sequence_mean_loss, advantage={STD!r}"
    assert objective_of("grpo").describe() == "callable objective"


@pytest.mark.parametrize(
    "objective, message",
    [
        (
            lambda b: b.logp.sum(-1),
            r"the objective returned shape \(10,\) for one group; it must return a scalar",
        ),
        (
            lambda b: (b.logp.where(b.mask, 0.0) * 1e308 * 10).sum(),
            r"the objective is (-inf|nan); the group has rewards \[.*\] and lengths .*: its log-ratios are",
        ),
        (
            lambda b: (b.logp.where(b.mask, 0.0) - b.logp.detach().where(b.mask, 0.0)).abs().sqrt().sum(),
            r"the gradient of the objective is nan at a token; the group has rewards .* a division by zero",
        ),
    ],
)
def test_an_objective_that_cannot_be_differentiated_is_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        Objective(objective).token_weights(PROBE)


def test_an_overflowing_loss_is_refused_with_the_largest_log_ratio():
    batch = padded([([999.0], [-1.0], 1.0), ([-1.0], [-1.0], 0.0)], horizon=1)
    with pytest.raises(
        ValueError,
        match=r"the objective is inf; .*its largest log-ratio is 1000: bound it before the exponential",
    ):
        from_loss(trajectory_loss, STD).token_weights(batch)


def test_bad_batches_and_groups_are_refused_for_callables_too():
    with pytest.raises(ValueError, match=r"reward\[0\] = nan is not finite"):
        objective_of("grpo").token_weights(dataclasses.replace(PROBE, reward=PROBE.reward * math.nan))
    with pytest.raises(ValueError, match=r"leave_one_out\(\) is undefined for a group of 1"):
        EQUALS[2][1].token_weights(padded(group_of(RESPONSES)[:1], HORIZON))


def clamped_advantage(logp, logp_old, advantages, mask):
    return sequence_mean_loss(logp, logp_old, advantages.clamp(-5, 5), mask)


def squashed_advantage(logp, logp_old, advantages, mask):
    return sequence_mean_loss(logp, logp_old, torch.tanh(advantages), mask)


def rank_in_group(logp, logp_old, advantages, mask):
    return sequence_mean_loss(logp, logp_old, advantages.argsort().argsort().to(logp), mask)


def coupled_ratios(logp, logp_old, advantages, mask):
    """Self-normalised importance weights: the ratio of one response divides that of the others."""
    w = torch.softmax(((logp - logp_old) * mask).sum(-1), dim=0)
    return -(w * advantages).sum()


def shifted_weight(logp, logp_old, advantages, mask):
    """A term that does not scale with A."""
    return sequence_mean_loss(logp, logp_old, advantages, mask) + 0.1 * (logp * mask).sum(-1).mean()


OUTSIDE = [
    squashed_advantage,
    rank_in_group,
    coupled_ratios,
    token_mean_loss,
]
"""Not the weights of single responses, whatever the group."""

INSIDE = [clamped_advantage, shifted_weight]
"""The weights of single responses where no advantage exceeds 5, one of them with a term free of A."""


def test_differentiate_is_the_gradient_of_one_group():
    expected = ESTIMATORS["grpo"].token_weights(PROBE)
    shown = picked(dataclasses.replace(PROBE, **{n: x[None] for n, x in tensors_of(PROBE).items()}), 0)
    found, depends = differentiate(
        lambda b: -sequence_mean_loss(b.logp, b.logp_old, STD(b.reward), b.mask), shown
    )
    assert depends and not differentiate(lambda b: b.reward.sum(), shown)[1]
    torch.testing.assert_close(found, expected, **EXACT)
    assert float(found.abs().max()) > MOVES
