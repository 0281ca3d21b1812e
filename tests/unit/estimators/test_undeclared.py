"""properties.py: what declares nothing, and what is claimed from outside, wherever it stands."""

import functools
from dataclasses import dataclass, replace

import pytest
import torch

from tests.unit.estimators import declarations as parts
from tests.unit.estimators.declarations import PLANTED, check_reads_no_more, self_normalised
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantage import reads_of
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.clipping import before_pooling, saturating, two_sided, unclipped
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import held, k3, kl_exact, kl_loss, kl_reward
from ticgrpo_theory.estimators.properties import Reads, declared_call, is_ours, joined, reads
from ticgrpo_theory.estimators.ratios import none, token, trajectory
from ticgrpo_theory.estimators.resolve import properties_of
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum
from ticgrpo_theory.exact.clip_fraction import sign_of


@functools.wraps(token)
def wrapped(log_ratio, mask):
    return token(log_ratio, mask)


def plain_ratio(log_ratio, mask):
    return log_ratio.where(mask, 0.0)


class Callable:
    """An instance that is called."""

    def __call__(self, log_ratio, mask):
        return log_ratio


class Unhashable(Callable):
    __hash__ = None  # type: ignore[assignment]


UNDECLARED = [
    wrapped,
    functools.partial(token),
    plain_ratio,
    lambda log_ratio, mask: log_ratio,
    Callable(),
    Unhashable(),
]


@pytest.mark.parametrize("ratio", UNDECLARED)
def test_wrappers_and_functions_of_a_users_own_declare_nothing(ratio):
    assert declared_call(token) == Reads.OWN_TOKEN
    assert declared_call(ratio) is None and declared_call(held(ratio)) is None
    found = Estimator(ratio, standardised(), unclipped(), sequence_mean).properties
    assert not found.known and found.couples and found.weights == Reads.WHOLE_GROUP
    assert found.undeclared == ("its ratio",) and found.why_unknown().startswith("its ratio declares nothing")


@dataclass(frozen=True)
class coupled(two_sided):
    """Bounds that read the longest response of the group."""

    def bounds(self, positive, length):
        lo, hi = super().bounds(positive, length)
        return lo, hi * length.max()


@dataclass(frozen=True)
class ruled(unclipped):
    """A rule of its own from ratios to weights."""

    def weight(self, ratio, log_ratio, mask, lo, hi):
        return ratio(log_ratio, mask).exp() / ratio(log_ratio, mask).exp().mean()


@dataclass(frozen=True)
class halved(standardised):
    """Another formula under an inherited limit."""

    def of_moments(self, reward, mean, variance, group_size):
        return super().of_moments(reward, mean, variance, group_size) / 2


@dataclass(frozen=True)
class against_first(standardised):
    """An order-dependent advantage."""

    def __call__(self, reward):
        return reward - reward[..., :1]


@dataclass(frozen=True)
class other_weights(Estimator):
    def token_weights(self, batch):
        return super().token_weights(batch)


GRPO = ESTIMATORS["grpo"]


@pytest.mark.parametrize(
    "estimator, part",
    [
        (replace(GRPO, clip=coupled(0.2, 0.2)), "the bounds of its clip"),
        (replace(GRPO, clip=saturating(coupled(0.2, 0.2))), "the bounds of its clip"),
        (replace(GRPO, clip=before_pooling(coupled(0.2, 0.2))), "the bounds of its clip"),
        (replace(GRPO, clip=ruled()), "the weights of its clip"),
        (replace(GRPO, scale=functools.partial(sequence_mean)), "its scale"),
        (replace(GRPO, penalty=kl_loss(lambda d: d, 0.1)), "the divergence of its penalty"),
        (replace(GRPO, penalty=kl_reward(lambda d: d, 0.1)), "the divergence of its penalty"),
        (replace(GRPO, penalty=kl_loss(k3, 0.1, plain_ratio)), "the ratio of its penalty"),
        (replace(GRPO, penalty=kl_exact(0.1, held(plain_ratio))), "the ratio of its penalty"),
        (other_weights(**vars(GRPO)), "the class other_weights"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_method_that_is_overridden_declares_nothing(estimator, part):
    assert not estimator.properties.known and estimator.properties.undeclared == (part,)
    assert estimator.properties.weights == Reads.WHOLE_GROUP or part == "its scale"


@pytest.mark.parametrize(
    "advantage",
    [halved(), against_first(), torch.abs, functools.partial(torch.abs)],
    ids=["halved", "against_first", "builtin", "partial"],
)
def test_an_advantage_of_a_users_own_is_not_known(advantage, unchecked_signatures):
    found = replace(GRPO, advantage=advantage).properties
    assert reads_of(advantage) is None and not found.advantage_known and not found.known
    assert found.advantage == Reads.REWARDS_AND_LENGTHS and found.undeclared == ()


@dataclass(frozen=True)
class narrower(two_sided):
    """Refuses more, and computes the same."""

    def __post_init__(self):
        super().__post_init__()


def test_a_subclass_that_leaves_the_formulas_alone_is_what_it_was():
    assert replace(GRPO, clip=narrower(0.2, 0.2)).properties == GRPO.properties


# Claims


@reads(Reads.OWN_RESPONSE)
def claimed_ratio(log_ratio, mask):
    return self_normalised(log_ratio, mask)


@reads(Reads.OWN_RESPONSE)
@functools.wraps(trajectory)
def disguised(log_ratio, mask):
    """Carries the name and the module of a ratio of the catalogue."""
    return self_normalised(log_ratio, mask)


@dataclass(frozen=True)
class claimed_bounds(two_sided):
    @reads(Reads.NOTHING)
    def bounds(self, positive, length):
        lo, hi = super().bounds(positive, length)
        return lo, hi * length.max()


@reads(Reads.NOTHING)
def claimed_scale(length, total_length, group_size, horizon):
    return (length.double() / length.max()).expand_as(length)


@reads(Reads.OWN_TOKEN)
def claimed_divergence(d):
    return d * d.abs().max()


CLAIMS = [
    (replace(GRPO, ratio=claimed_ratio), "its ratio"),
    (replace(GRPO, ratio=disguised), "its ratio"),
    (replace(GRPO, ratio=held(claimed_ratio)), "its ratio"),
    (replace(GRPO, clip=claimed_bounds(0.2, 0.2)), "the bounds of its clip"),
    (replace(GRPO, clip=saturating(claimed_bounds(0.2, 0.2))), "the bounds of its clip"),
    (replace(GRPO, clip=before_pooling(saturating(claimed_bounds(0.2, 0.2)))), "the bounds of its clip"),
    (replace(GRPO, scale=claimed_scale), "its scale"),
    (replace(GRPO, penalty=kl_loss(claimed_divergence, 0.1)), "the divergence of its penalty"),
    (replace(GRPO, penalty=kl_loss(k3, 0.1, held(claimed_ratio))), "the ratio of its penalty"),
]


@pytest.mark.parametrize("estimator, part", CLAIMS, ids=[part for _, part in CLAIMS])
def test_a_claim_from_outside_is_a_claim_wherever_it_stands(estimator, part):
    """Also inside a part of the catalogue, and under its name."""
    found = estimator.properties
    assert found.claimed == (part,) and not found.known and not found.undeclared


@pytest.mark.parametrize("estimator, part", CLAIMS, ids=[part for _, part in CLAIMS])
def test_these_claims_are_false(estimator, part):
    found = estimator.properties
    numbers = {
        "its scale": (parts.of_scale(estimator.scale), found.scale),
        "the divergence of its penalty": (parts.of_divergence(claimed_divergence), Reads.OWN_TOKEN),
        "the ratio of its penalty": (parts.of_ratio(claimed_ratio), Reads.OWN_RESPONSE),
        "the bounds of its clip": (parts.of_bounds(estimator.clip), Reads.NOTHING),
    }
    number, level = numbers.get(part, (parts.of_ratio(estimator.ratio), found.weights))
    with pytest.raises(AssertionError):
        check_reads_no_more(number, level, PLANTED)


def test_the_sign_of_an_advantage_is_ours_where_the_advantage_is():
    assert is_ours(sign_of(standardised())) and not is_ours(sign_of(halved()))


def test_black_boxes_declare_nothing_and_losses_what_they_claim():
    assert not properties_of(Objective(lambda batch: 0.0)).known
    loss = from_loss(lambda logp, old, A, mask: logp.sum(), standardised())
    assert not loss.properties.known and loss.properties.couples
    claim = replace(loss, reads=Reads.OWN_RESPONSE).properties
    assert claim.claimed == ("the loss",) and not claim.known and not claim.couples

    class Foreign:
        def token_weights(self, batch):
            return batch.logp

    assert not properties_of(Foreign()).known


def test_levels_join_to_the_widest_and_to_nothing_where_one_is_unknown():
    assert joined(Reads.OWN_TOKEN, Reads.NOTHING) == Reads.OWN_TOKEN
    assert joined(Reads.OWN_TOKEN, None) is None
    assert Estimator(none, standardised(), unclipped(), sequence_sum).properties.weights == Reads.NOTHING
