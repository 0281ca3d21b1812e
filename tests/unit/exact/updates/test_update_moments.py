"""The variance of whole updates, against every ordered update and between methods."""

import pytest
import torch

from tests.instances.two_prompts import OLD, THETA, two_prompts
from tests.oracles import whole_updates as oracle
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators.advantages import batch_standardised, centred, raw, standardised
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import batch_token_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, gradient_moments
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS


def of(advantage, scale=sequence_sum, filter=None):
    return Estimator(token, advantage, unclipped(), scale, filter=filter)


def mean_of(estimator, prompts, **options):
    return expected_gradient(two_prompts(), THETA, OLD, estimator, 2, prompts=prompts, **options)


def brute_moments(
    update: oracle.Update, P: int, weights, allowed=lambda groups: True
) -> tuple[torch.Tensor, float]:
    mean, second, mass = torch.zeros(2, 2, dtype=torch.float64), 0.0, 0.0
    for chance, groups in oracle.updates(oracle.two_prompts(), weights, P, 2, oracle.OLD):
        if allowed(groups):
            g = torch.tensor(update.gradient(groups, oracle.THETA, oracle.OLD), dtype=torch.float64)
            mean, second, mass = mean + chance * g, second + chance * float(g.square().sum()), mass + chance
    return mean / mass, second / mass - float((mean / mass).square().sum())


KEPT = oracle.Update(oracle.group_centred, oracle.mean_of_kept_groups, oracle.unequal)
TOKENS = oracle.Update(oracle.group_centred, oracle.token_mean_of_update)
MOMENTS = [
    (of(centred()), oracle.Update(oracle.group_centred), False),
    (of(centred(), batch_token_mean), TOKENS, False),
    (of(centred(), filter=drop_equal("refill")), oracle.Update(oracle.group_centred), True),
    (of(centred(), filter=drop_equal("same_prompt")), oracle.Update(oracle.group_centred), True),
    (of(centred(), filter=drop_equal("divide_by_kept")), KEPT, False),
    (of(centred(), filter=drop_equal("divide_by_all")), oracle.Update(oracle.group_centred), False),
]


@pytest.mark.parametrize("estimator, update, again", MOMENTS, ids=range(len(MOMENTS)))
@pytest.mark.parametrize("prompts", [2, "each"])
def test_the_variance_of_whole_updates(estimator, update, again, prompts):
    drop = estimator.filter
    if prompts == "each" and drop == drop_equal("refill"):
        return
    weights = None if prompts == "each" else oracle.HALVES
    allowed = oracle.all_unequal if again else (lambda groups: True)
    found = gradient_moments(two_prompts(), THETA, OLD, estimator, 2, prompts=prompts)
    if drop == drop_equal("same_prompt") and prompts == 2:
        mean = expected_gradient(two_prompts(), THETA, OLD, estimator, 2, prompts=2)
        torch.testing.assert_close(found.mean, mean, **EXACT)
        listed = gradient_moments(two_prompts(), THETA, OLD, estimator, 2, "groups", prompts=2)
        assert abs(found.variance - listed.variance) < 1e-12
        return
    mean, variance = brute_moments(update, 2, weights, allowed)
    torch.testing.assert_close(found.mean, mean, **EXACT)
    assert abs(found.variance - variance) < 1e-12


@pytest.mark.parametrize("prompts", [2, 3, "each"])
@pytest.mark.parametrize("advantage", [standardised(0.25), raw()])
def test_one_normaliser_for_all_tokens_by_pairs_of_groups_and_by_every_update(prompts, advantage):
    """Under a clip that tells the signs of A apart, and weights of prompts that differ."""
    estimator = Estimator(token, advantage, two_sided(0.1, 0.2), batch_token_mean)
    given = (two_prompts((0.25, 0.75)), THETA, OLD, estimator, 2)
    pairs = gradient_moments(*given, "enumeration", prompts=prompts)
    listed = gradient_moments(*given, "groups", prompts=prompts)
    assert (pairs.method, listed.method) == ("enumeration", "groups")
    torch.testing.assert_close(pairs.mean, listed.mean, **EXACT)
    assert abs(pairs.variance - listed.variance) < 1e-13 * max(1, pairs.second_moment)


def test_a_group_alone_has_the_moments_of_a_group():
    for whole, group in ((of(batch_standardised()), of(standardised())),):
        found, wanted = (gradient_moments(two_prompts(), THETA, OLD, e, 2) for e in (whole, group))
        assert found.method == wanted.method and abs(found.variance - wanted.variance) < 1e-14


def test_moments_of_many_coupled_updates_are_refused():
    world = WORLDS["right-answer"].build()
    logits = torch.zeros(world.num_rows, world.vocab_size, dtype=torch.float64)
    with pytest.raises(
        NotAffordable, match=r"second moments of coupled updates .* are summed over all updates"
    ):
        gradient_moments(world, logits, logits, of(batch_standardised(), token_mean), 8, prompts=8)


def test_the_second_moment_of_ratios_weighs_prompts_as_the_update_does():
    """One prompt in four is the easy one, but where each is there once it is one in two."""
    world = WORLDS["right-answer"].build()
    uneven = TokenMDP.mixture([world, world], [0.25, 0.75], share_rows=False)
    generator = torch.Generator().manual_seed(0)
    theta, old = (
        0.5 * torch.randn(uneven.num_rows, uneven.vocab_size, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    drawn, each = (
        gradient_moments(uneven, theta, old, "rloo", 2, prompts=prompts).ratio_second_moment
        for prompts in (2, "each")
    )
    rows = world.num_rows
    own = [
        gradient_moments(world, theta[part], old[part], "rloo", 2).ratio_second_moment
        for part in (slice(0, rows), slice(rows, None))
    ]
    assert drawn == pytest.approx(0.25 * own[0] + 0.75 * own[1])
    assert each == pytest.approx(0.5 * own[0] + 0.5 * own[1]) and each != pytest.approx(drawn)
