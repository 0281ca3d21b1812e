"""Products of gates, weights by the sign of A or the place of a token, and advantages by what is right."""

import dataclasses
import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from tests.thinned import one_in
from tests.unit.estimators.test_shapes import of, phi, world
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.catalogue import UNVERIFIED, delta_l, maxrl
from ticgrpo_theory.estimators.clipping import saturating, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.gates import inside, log_two_sided
from ticgrpo_theory.estimators.products import gated, within
from ticgrpo_theory.estimators.ratios import least_before, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import length_power, sequence_sum
from ticgrpo_theory.estimators.shapes import Shape, divergence_gate, sigmoid_gate
from ticgrpo_theory.estimators.tapers import inverse_if_positive, position_band, tapered
from ticgrpo_theory.exact import expected_gradient, expected_return, gradient_moments, policy_gradient

OWN_TOKEN = [
    gated(two_sided(0.2, 0.2), (within("token", inside(0.7, 1.2)), within("token", upper_only(0.1)))),
    gated(sigmoid_gate(), (within("token", inside(0.7, 1.2), "sampler"),)),
    gated(divergence_gate("tv", 0.1, 0.1, 1.2), (within("token", upper_only(0.3)),)),
    inverse_if_positive(0.3, 0.3, 1.5),
    tapered(0.5, 1.2),
]
OTHERS = [
    (gated(two_sided(0.2, 0.2), (within("geometric", inside(0.8, 1.2), "sampler"),)), token),
    (gated(saturating(upper_only(0.2)), (within("largest", upper_only(0.5)),)), token),
    (
        gated(unclipped(), (within("sequence", inside(0.7, 1.4)), within("token", inside(0.5, 2.0)))),
        trajectory,
    ),
    (position_band(0.2, 0.2, 0.3), token),
    (position_band(0.2, 0.2, 0.3), prefix),
    (saturating(inside(0.8, 1.2)), least_before),
]


def check_methods(shape: Shape, ratio, method: str) -> None:
    """By the quickest method and group by group, first and second moments, with a sampler and without."""
    made, theta, old, sampler = world()
    for drawn in (None, sampler):
        given = (made, theta, old, of(shape, ratio), 3)
        found, other = gradient_moments(*given, theta_sampler=drawn), None
        assert found.method == method
        other = gradient_moments(*given, "groups", theta_sampler=drawn)
        torch.testing.assert_close(found.mean, other.mean, rtol=1e-12, atol=1e-15)
        assert abs(found.variance - other.variance) <= 1e-13 * other.second_moment


@pytest.mark.parametrize("shape", OWN_TOKEN)
def test_products_of_gates_of_single_tokens_are_summed_layer_by_layer(shape):
    check_methods(shape, token, "dynamic_programming")


@pytest.mark.parametrize("shape, ratio", one_in(2, OTHERS))
def test_gates_of_whole_responses_and_of_places_are_summed_response_by_response(shape, ratio):
    check_methods(shape, ratio, "enumeration")


def mean(estimator: Estimator, **options) -> torch.Tensor:
    made, theta, old, _ = world()
    return expected_gradient(made, theta, old, estimator, 2, **options)


def test_a_clip_is_a_gate_on_no_clip_and_no_gate_is_the_clip():
    clip = two_sided(0.1, 0.1)
    wanted = mean(of(clip))
    torch.testing.assert_close(mean(of(gated(unclipped(), (within("token", clip),)))), wanted, **EXACT)
    torch.testing.assert_close(mean(of(gated(clip))), wanted, **EXACT)
    twice = gated(clip, (within("token", clip), within("token", clip)))
    torch.testing.assert_close(mean(of(twice)), wanted, **EXACT)
    other = mean(of(gated(clip, (within("sequence", inside(0.8, 1.2)),))))
    assert float((other - wanted).abs().max()) > 1e-3


def test_a_masked_response_needs_a_negative_advantage_and_a_policy_that_has_left():
    far = gated(unclipped(), (within("geometric", log_two_sided(0.5, math.inf), "sampler"),))
    x = torch.tensor([[[-0.4, -0.5], [-0.4, -0.5]]]).double()
    mask, positive = torch.ones(1, 2, 2, dtype=torch.bool), torch.tensor([[True, False]])
    for d, kept in ((None, 4), (torch.full_like(x, -0.2), 2), (torch.full_like(x, 0.2), 4)):
        assert int((far.weights(token, x, mask, positive, None, d) != 0).sum()) == kept


def test_values_by_hand():
    half, double = math.log(0.5), math.log(2.0)
    inverse = inverse_if_positive(0.6, 0.2, 3.0)
    assert phi(inverse, half, True) == pytest.approx(2.0) and phi(inverse, half, False) == pytest.approx(0.5)
    assert phi(inverse, double, True) == 0.0 and phi(inverse, double, False) == pytest.approx(2.0)
    assert phi(inverse, 2 * half, True) == 3.0 and phi(inverse, 2 * half, False) == 0.0
    taper = tapered()
    assert [phi(taper, v, True) for v in (half, double, -1000.0)] == [1.0, 1.0, 1.0]
    assert phi(taper, half, False) == pytest.approx(0.5) and phi(taper, double, False) == 1.0
    band = position_band(0.2, 0.2, 0.2)
    x, mask = torch.full((1, 2, 4), 0.3).double(), torch.ones(1, 2, 4, dtype=torch.bool)
    # 0.3 > 0.2 sqrt(2), but not > 0.2 sqrt(3).
    weights = band.weights(token, x, mask, torch.tensor([[True, False]]), None, None)
    assert (weights != 0).tolist() == [[[False, False, True, True]] * 2]
    v = least_before(torch.tensor([[[0.5, -1.0, 2.0, 0.25]]]).double(), mask[:, :1])
    assert v.tolist() == [[[0.5, -0.5, 1.0, -0.75]]]


def check_theorem_5() -> None:
    made, _, old, _ = world()
    reward = {y: float(i == 1) for i, y in enumerate([(0, 0), (0, 1), (1,)])}
    binary = type(made).prefix_tree(vocab_size=2, horizon=2, reward=reward.__getitem__, eos=1)
    P, gradient = expected_return(binary, old), policy_gradient(binary, old)
    for G in (2, 3, 8):
        found = expected_gradient(binary, old, old, maxrl(), G)
        torch.testing.assert_close(found, (1 - (1 - P) ** (G - 1)) / P * gradient, **EXACT)
    whole = expected_gradient(binary, old, old, maxrl(), math.inf)
    torch.testing.assert_close(whole, gradient / P, **EXACT)


def test_rewards_over_their_mean_estimate_a_truncated_gradient_of_log_p():
    check_theorem_5()


def test_no_power_of_lengths_is_a_mean_over_rows():
    plain = dataclasses.replace(delta_l(0.0), scale=sequence_sum)
    torch.testing.assert_close(mean(delta_l(0.0), prompts=2), mean(plain, prompts=2), **EXACT)
    assert float((mean(delta_l(1.0), prompts=2) - mean(plain, prompts=2)).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["verl_gpg", "verl_reinforce_pp_baseline", "delta_l"])
def test_sums_over_all_updates_agree_with_updates_that_are_drawn(name):
    made, theta, old, _ = world()
    given = (made, theta, old, ESTIMATORS[name], 2)
    found = expected_gradient(*given, prompts=2)
    drawn = expected_gradient(*given, "sampled", prompts=2, seed=1, explain=True)
    assert bool(((found - drawn.value).abs() <= drawn.half_width).all())


def test_what_is_no_line_says_what_is_missing():
    assert all(source and missing for source, missing in UNVERIFIED.values()) and "fspo" not in ESTIMATORS


@pytest.mark.parametrize(
    "made, message",
    [
        (lambda: within("word", inside(0.5, 2.0)), r"level = 'word': choose 'token', 'sequence'"),
        (lambda: within("token", inside(0.5, 2.0), "theta"), r"since = 'theta': choose 'old' or 'sampler'"),
        (lambda: within("token", sigmoid_gate()), r"has no bounds: give a clip such as"),
        (lambda: tapered(0.0, 0.5), r"low = 0.0, high = 0.5: a taper keeps the weight 1"),
        (lambda: inverse_if_positive(cap=1.0), r"cap = 1.0: the weight 1 of ratio 1 is kept"),
        (lambda: position_band(low=-1.0), r"low = -1.0: position_band takes numbers > 0"),
        (lambda: length_power(-1.0), r"alpha = -1.0: give a finite power >= 0"),
    ],
)
def test_what_is_no_gate_is_refused_with_value_limit_and_way_out(made, message):
    with pytest.raises(ValueError, match=message):
        made()


def test_centred_is_what_over_mean_is_times_the_mean():
    reward = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).double()
    found = maxrl().advantage(reward)
    torch.testing.assert_close(found, 4 * centred()(reward), **EXACT)
    assert not maxrl().advantage(torch.zeros(1, 4).double()).any()
