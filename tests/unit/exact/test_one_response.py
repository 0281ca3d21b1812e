"""one_response.py: what reduces to one response by claim or by name, checked on groups of the problem."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.properties import Reads, reads
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP

# V = 2, T = 2, token 1 ends: three responses of unequal length.
WORLD = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.25], eos=1)
OLD, THETA, REFERENCE = [[0.2, -0.1], [0.3, 0.0]], [[0.9, -0.6], [-0.5, 0.6]], [[0.1, -0.6], [-0.5, 0.2]]
G = 3


def found(estimator, method: str = "auto", group_size: float = G, **options):
    return expected_gradient(WORLD, THETA, OLD, estimator, group_size, method, **options)


def explained(estimator, method: str = "auto"):
    return found(estimator, method, explain=True)


# Claims of a loss


def dro(logp, logp_old, advantages, mask):
    """Affine in A: -(A log pi - (log-ratio)^2 / 4), a mean over responses."""
    log_w = ((logp - logp_old) * mask).sum(-1)
    return -(advantages * (logp * mask).sum(-1) - 0.25 * log_w**2).mean(), {"kl": 0.0}


def self_normalised(logp, logp_old, advantages, mask):
    log_w = ((logp - logp_old) * mask).sum(-1)
    return -(log_w.softmax(-1).detach() * advantages * (logp * mask).sum(-1)).sum()


def batch_token_mean(logp, logp_old, advantages, mask):
    return -((logp - logp_old).exp() * advantages[:, None] * mask).sum() / mask.sum()


def forgotten_mask(logp, logp_old, advantages, mask):
    return -((logp - logp_old).exp() * advantages[:, None]).mean()


def squared_advantage(logp, logp_old, advantages, mask):
    return -(advantages**2 * (logp * mask).sum(-1)).mean()


def claimed(loss):
    return from_loss(loss, centred(), reads=Reads.OWN_RESPONSE)


def test_a_loss_affine_in_the_advantage_is_that_of_groups():
    answer = explained(claimed(dro))
    assert answer.method == "enumeration" and answer.exact
    assert answer.assumed.startswith("weights of single responses assumed, checked on ")
    torch.testing.assert_close(answer.value, found(from_loss(dro, centred()), "groups"), **EXACT)
    torch.testing.assert_close(answer.value, found(claimed(dro), "groups"), **EXACT)


def affine_part(*given):
    """The same loss without what no advantage multiplies."""
    logp, logp_old, advantages, mask = given
    return dro(*given)[0] - dro(logp, logp_old, 0 * advantages, mask)[0]


def test_what_no_advantage_multiplies_counts():
    plain = from_loss(affine_part, centred())
    assert (found(claimed(dro)) - found(plain, "groups")).abs().max() > MOVES


FALSE = [self_normalised, batch_token_mean, forgotten_mask, squared_advantage]


@pytest.mark.parametrize("loss", FALSE)
def test_a_false_claim_is_caught_and_groups_are_listed(loss):
    answer = explained(claimed(loss))
    assert answer.method == "groups"
    torch.testing.assert_close(answer.value, found(from_loss(loss, centred())), **EXACT)
    with pytest.raises(ValueError, match=r"its weights are not those of single responses: in a group"):
        found(claimed(loss), "enumeration")


@pytest.mark.parametrize("loss", FALSE)
def test_taken_at_its_word_it_would_be_wrong(loss, monkeypatch):
    expected = found(from_loss(loss, centred()))
    monkeypatch.setattr("ticgrpo_theory.exact.one_response.OneResponse.why", "")
    assert (found(claimed(loss), "enumeration") - expected).abs().max() > MOVES


# Parts of a user's own


def own_ratio(log_ratio, mask):
    return trajectory(log_ratio, mask) / 2


def coupled_ratio(log_ratio, mask):
    log_w = trajectory(log_ratio, mask)
    return log_w - log_w.amax(dim=-1, keepdim=True).exp().mean(dim=-2, keepdim=True).log()


def estimator_of(ratio) -> Estimator:
    return Estimator(ratio, standardised(), unclipped(), sequence_mean)


def test_an_own_ratio_is_a_black_box_unless_enumeration_is_asked_for_by_name():
    box = estimator_of(own_ratio)
    answer = explained(box)
    assert answer.method == "groups"
    by_name = explained(box, "enumeration")
    assert by_name.method == "enumeration" and "assumed, checked on" in by_name.assumed
    torch.testing.assert_close(by_name.value, answer.value, **EXACT)
    claim = estimator_of(reads(Reads.OWN_RESPONSE)(lambda log_ratio, mask: own_ratio(log_ratio, mask)))
    assert explained(claim).method == "enumeration" and "assumed" in explained(claim).assumed
    torch.testing.assert_close(found(claim), answer.value, **EXACT)


def test_a_coupled_ratio_is_refused_by_name_and_as_a_claim():
    box = estimator_of(coupled_ratio)
    with pytest.raises(ValueError, match=r"its weights are not those of single responses"):
        found(box, "enumeration")
    claim = estimator_of(reads(Reads.OWN_RESPONSE)(lambda log_ratio, mask: coupled_ratio(log_ratio, mask)))
    assert explained(claim).method == "groups"
    torch.testing.assert_close(found(claim), found(box), **EXACT)
    assert (found(box) - found(estimator_of(trajectory))).abs().max() > MOVES


def test_an_own_ratio_with_a_penalty_reduces_too():
    box = replace(estimator_of(own_ratio), penalty=kl_loss(k3, 0.3, token))
    by_name = found(box, "enumeration", theta_ref=REFERENCE)
    torch.testing.assert_close(by_name, found(box, "groups", theta_ref=REFERENCE), **EXACT)
    assert (by_name - found(estimator_of(own_ratio))).abs().max() > MOVES


def test_the_catalogue_assumes_nothing():
    for name, method in (("grpo", "dynamic_programming"), ("tic_grpo", "enumeration")):
        answer = explained(name)
        assert answer.method == method and answer.assumed == ""
    assert explained("grpo", "groups").assumed == ""


# Advantages of a user's own


def median_baseline(reward):
    return reward - reward.median()


def against_first(reward):
    return reward - reward[0]


@pytest.mark.parametrize("ratio, method", [(token, "dynamic_programming"), (own_ratio, "groups")])
def test_a_plain_function_as_advantage_is_exact(ratio, method, unchecked_signatures):
    estimator = Estimator(ratio, median_baseline, unclipped(), sequence_sum)
    answer = explained(estimator)
    assert answer.method == method
    if ratio is token:
        assert answer.assumed == "order of the rewards checked on every group of them"
    for other in ("enumeration", "groups"):
        torch.testing.assert_close(answer.value, found(estimator, other), **EXACT)
    assert (answer.value - found(replace(estimator, advantage=centred()))).abs().max() > MOVES


@pytest.mark.parametrize("ratio", [token, own_ratio])
def test_an_order_dependent_advantage_falls_back_to_groups(ratio, unchecked_signatures):
    estimator = Estimator(ratio, against_first, unclipped(), sequence_sum)
    answer = explained(estimator)
    assert answer.method == "groups"
    torch.testing.assert_close(answer.value, found(estimator, symmetric=False), **EXACT)
    with pytest.raises(ValueError, match=r"depends on the order of the responses in a group"):
        found(estimator, "enumeration")


@dataclass(frozen=True)
class doubled(standardised):
    """Another formula under the limit of its parent."""

    def of_moments(self, reward, mean, variance, group_size):
        return 2 * super().of_moments(reward, mean, variance, group_size)


@dataclass(frozen=True)
class doubled_with_limit(doubled):
    def limit(self, mean, std):
        return centred().limit(mean, std)


def test_a_formula_of_its_own_does_not_inherit_a_limit():
    grpo = ESTIMATORS["grpo"]
    with pytest.raises(ValueError, match=r"has no known limit for group_size = inf: give it a method limit"):
        found(replace(grpo, advantage=doubled()), group_size=math.inf)
    stated = found(replace(grpo, advantage=doubled_with_limit()), group_size=math.inf)
    torch.testing.assert_close(
        stated, found(replace(grpo, advantage=centred()), group_size=math.inf), **EXACT
    )
    torch.testing.assert_close(found(replace(grpo, advantage=doubled())), 2 * found(grpo), **EXACT)
