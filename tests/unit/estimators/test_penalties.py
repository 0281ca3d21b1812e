"""penalties.py: estimates of a divergence, their weights as derivatives, and what they estimate on-policy."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import literal
from tests.properties.strategies import eighths, groups, padded, ragged, tables
from tests.properties.tolerances import DIFFERENCED, EXACT, VISIBLE
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import known_moments, population
from ticgrpo_theory.estimators.penalties import Divergence, k1, k2, k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import Ratio, none, prefix, token, trajectory
from ticgrpo_theory.worlds.policy import pull_back

D = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
VALUES = {
    k1: [-1.0, 0.0, 0.5],
    k2: [0.5, 0.0, 0.125],
    k3: [math.e - 2, 0.0, math.exp(-0.5) - 0.5],
}


def check_values(k: Divergence) -> None:
    torch.testing.assert_close(k(D), torch.tensor(VALUES[k], dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("k", VALUES)
def test_values_by_hand(k):
    check_values(k)


def test_k3_keeps_its_digits_near_the_reference():
    # exp(-d) - 1 + d = d^2/2 - d^3/6 + ...; computed naively, nothing is left of it at d = 1e-9.
    d = torch.tensor([1e-9], dtype=torch.float64)
    assert float(k3(d)) == pytest.approx(5e-19, rel=1e-6)
    assert abs(float(torch.exp(-d) - 1 + d) - 5e-19) > 5e-19


def with_reference(case, reference: list[list[float]]) -> Batch:
    """The batch of a group with these reference log-probabilities, NaN at padding."""
    batch = case.batch
    logp_ref = torch.full_like(batch.logp, math.nan)
    for i, row in enumerate(reference):
        logp_ref[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return dataclasses.replace(batch, logp_ref=logp_ref)


@st.composite
def groups_with_reference(draw):
    case = draw(groups())
    lengths = [len(logp) for logp, _, _ in case.members]
    reference = [draw(st.lists(eighths(-3, 0), min_size=n, max_size=n)) for n in lengths]
    return case, reference


DIVERGENCE = {k1: lambda d: d, k2: lambda d: d * d / 2, k3: lambda d: math.exp(-d) - 1 + d}
POOLED = {
    none: lambda row, old, t: 0.0,
    token: lambda row, old, t: row[t] - old[t],
    prefix: lambda row, old, t: sum(row[: t + 1]) - sum(old[: t + 1]),
    trajectory: lambda row, old, t: sum(row) - sum(old),
}


def penalty_in_words(logp, logp_old, reference, scale, k: Divergence, ratio: Ratio, beta: float) -> float:
    """- beta sum_it scale[i] exp(v[i,t]) k(logp[i,t] - logp_ref[i,t])."""
    total = 0.0
    for row, old, ref, factor in zip(logp, logp_old, reference, scale, strict=True):
        for t in range(len(row)):
            total -= beta * factor * math.exp(POOLED[ratio](row, old, t)) * DIVERGENCE[k](row[t] - ref[t])
    return total


@given(st.sampled_from(list(DIVERGENCE)), st.sampled_from(list(POOLED)), groups_with_reference())
def test_weights_are_the_derivative_of_the_penalty(k, ratio, drawn):
    case, reference = drawn
    batch = with_reference(case, reference)
    scale = torch.linspace(0.25, 1.0, len(case.members), dtype=torch.float64)
    logp, logp_old = ([member[column] for member in case.members] for column in (0, 1))
    expected = literal.central_difference(
        lambda table: penalty_in_words(table, logp_old, reference, scale.tolist(), k, ratio, 0.25), logp
    )
    weights = kl_loss(k, 0.25, ratio).weights(batch, scale)
    assert bool((weights[~batch.mask] == 0).all())
    for found, row in zip(ragged(weights, batch.mask), expected, strict=True):
        assert found == pytest.approx(row, abs=DIFFERENCED["atol"], rel=DIFFERENCED["rtol"])


@given(st.sampled_from(["grpo", "dapo", "tic_grpo", "dr_grpo"]), groups_with_reference())
def test_a_penalty_adds_its_weights_at_the_scale_of_the_estimator(name, drawn):
    case, reference = drawn
    batch, plain = with_reference(case, reference), ESTIMATORS[name]
    penalised = dataclasses.replace(plain, penalty=kl_loss(k3, 0.5))
    scale = plain.scales(batch.mask, batch.horizon)
    expected = plain.token_weights(batch) + kl_loss(k3, 0.5).weights(batch, scale)
    torch.testing.assert_close(penalised.token_weights(batch), expected, **EXACT)


def check_reward() -> None:
    """r - beta sum_t k1: 1 - 0.5 (0.25 - 0.5) and 0 - 0.5 (-0.5); logp itself is not read."""
    members = [([-9.0, -9.0], [-0.5, -1.5], 1.0), ([-9.0], [-2.5], 0.0)]
    batch = padded(members, horizon=2, extra=1)
    reference = torch.tensor([[-0.75, -1.0, math.nan], [-2.0, math.nan, math.nan]], dtype=torch.float64)
    found = kl_reward(k1, 0.5).reward(dataclasses.replace(batch, logp_ref=reference))
    torch.testing.assert_close(found, torch.tensor([1.125, 0.25], dtype=torch.float64), **EXACT)


def test_a_penalised_reward_by_hand():
    check_reward()


@given(drawn=groups_with_reference())
def test_a_penalised_reward_enters_before_the_group_statistics(drawn):
    case, reference = drawn
    batch = with_reference(case, reference)
    penalty = kl_reward(k2, 0.5)
    estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=penalty)
    shaped = dataclasses.replace(batch, reward=penalty.reward(batch))
    torch.testing.assert_close(
        estimator.token_weights(batch), ESTIMATORS["grpo"].token_weights(shaped), **EXACT
    )


@pytest.mark.parametrize("name", ["grpo", "rloo", "dapo"])
def test_a_penalty_keeps_its_digits_beside_a_reward_of_1e12(name):
    logp = torch.tensor([[-0.3, -1.2], [-0.7, -0.1], [-0.4, -0.6]], dtype=torch.float64)
    reward = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    near = Batch(logp, logp, reward, torch.ones(3, 2, dtype=torch.bool), logp.flip(0) / 3)
    far = dataclasses.replace(near, reward=reward + 2.0**40)
    estimator = dataclasses.replace(ESTIMATORS[name], penalty=kl_reward(k1, 0.5))
    torch.testing.assert_close(estimator.token_weights(far), estimator.token_weights(near), **EXACT)
    bare = dataclasses.replace(estimator, penalty=None).token_weights(near)
    assert (estimator.token_weights(far) - bare).abs().max() > VISIBLE


def test_moments_of_the_reward_beside_a_penalty_of_the_reward_are_refused():
    """They would be those of the reward before the penalty, which a constant penalty would leave without."""
    with pytest.raises(
        ValueError, match=r"population.*mu and sigma of the reward of the world.*known_moments"
    ):
        dataclasses.replace(ESTIMATORS["grpo"], advantage=population(), penalty=kl_reward(k1, 0.5))
    dataclasses.replace(ESTIMATORS["grpo"], advantage=known_moments(0.0, 1.0), penalty=kl_reward(k1, 0.5))


def one_state(theta: list[float], reference: list[float]) -> tuple[torch.Tensor, ...]:
    """(theta, pi, d, KL and its gradient by autograd) of one state whose tokens are drawn from pi_theta."""
    logits = torch.tensor([theta], dtype=torch.float64, requires_grad=True)
    log_ref = torch.log_softmax(torch.tensor([reference], dtype=torch.float64), dim=-1)
    logp = torch.log_softmax(logits, dim=-1)
    kl = (logp.exp() * (logp - log_ref)).sum()
    (gradient,) = torch.autograd.grad(kl, logits)
    return logits.detach(), logp.detach().exp(), (logp - log_ref).detach(), kl.detach(), gradient


def expected_loss_gradient(k: Divergence, ratio: Ratio, theta, d, pi) -> torch.Tensor:
    """E_{a ~ pi}[weight(a) grad log pi(a)] of the penalty with beta = -1, T = 1, on-policy."""
    tokens = pi.shape[1]
    logp = pi.log().reshape(tokens, 1)
    batch = Batch(
        logp,
        logp,
        torch.zeros(tokens).double(),
        torch.ones(tokens, 1, dtype=torch.bool),
        logp - d.reshape(-1, 1),
    )
    weights = kl_loss(k, -1.0, ratio).weights(batch, torch.ones(tokens, dtype=torch.float64))
    return pull_back(pi * weights.reshape(1, tokens), theta)


@given(tables(2, 3))
def test_k1_and_k3_have_the_divergence_as_their_mean(rows):
    _, pi, d, kl, _ = one_state(*rows)
    for k in (k1, k3):
        torch.testing.assert_close((pi * k(d)).sum(), kl, **EXACT)


@given(tables(2, 3))
def test_on_policy_the_gradient_of_the_divergence_is_that_of_k2_or_of_a_reweighted_k1_or_k3(rows):
    theta, pi, d, _, gradient = one_state(*rows)
    for k, ratio in ((k2, none), (k1, token), (k3, token)):
        torch.testing.assert_close(expected_loss_gradient(k, ratio, theta, d, pi), gradient, **EXACT)


@given(tables(2, 3))
def test_on_policy_the_gradient_of_k1_is_zero_in_expectation(rows):
    theta, pi, d, _, _ = one_state(*rows)
    found = expected_loss_gradient(k1, none, theta, d, pi)
    torch.testing.assert_close(found, torch.zeros_like(found), **EXACT)


def test_the_value_of_k2_and_the_gradients_of_k1_and_k3_miss():
    theta, pi, d, kl, gradient = one_state([1.0, 0.0, -0.5], [-0.5, 0.5, 0.0])
    assert abs(float((pi * k2(d)).sum() - kl)) > VISIBLE
    for k in (k1, k3):
        assert (expected_loss_gradient(k, none, theta, d, pi) - gradient).abs().max() > VISIBLE
    assert (expected_loss_gradient(k2, token, theta, d, pi) - gradient).abs().max() > VISIBLE


@pytest.mark.parametrize("penalty", [kl_loss(k3, 0.1), kl_reward(k1, 0.1)])
def test_a_penalty_without_a_reference_is_refused(penalty):
    batch = padded([([-1.0], [-1.0], 1.0), ([-2.0], [-1.0], 0.0)], horizon=1)
    estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=penalty)
    with pytest.raises(
        ValueError, match=r"compares with a reference policy: give Batch\(\.\.\., logp_ref=\.\.\.\)"
    ):
        estimator.token_weights(batch)


def test_a_reference_that_forbids_what_was_drawn_is_refused():
    batch = padded([([-1.0], [-1.0], 1.0), ([-2.0], [-1.0], 0.0)], horizon=1)
    reference = torch.tensor([[-1.0], [-math.inf]], dtype=torch.float64)
    estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_reward(k1, 0.1))
    message = r"log-ratio to the reference at index \[1, 0\] is inf .* give the token a finite logit in both"
    with pytest.raises(ValueError, match=message):
        estimator.token_weights(dataclasses.replace(batch, logp_ref=reference))


def test_a_penalised_reward_too_large_for_floats_is_refused():
    batch = padded([([-1.0], [-1.0], 1.0), ([-1.0], [-1000.0], 0.0)], horizon=1)
    reference = torch.full_like(batch.logp, -1.0)
    estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_reward(k3, 0.1))
    with pytest.raises(
        ValueError, match=r"penalised reward\[1\] is -inf; .* lie in \[-999, 0\]: keep theta_old"
    ):
        estimator.token_weights(dataclasses.replace(batch, logp_ref=reference))


def test_a_divergence_too_steep_for_floats_is_refused_and_blames_the_penalty():
    batch = padded([([-1000.0], [-1.0], 1.0), ([-2.0], [-1.0], 0.0)], horizon=1)
    reference = torch.full_like(batch.logp, -1.0)
    estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.1))
    message = r"weights of kl_loss\(k=.*\) are not finite; log-ratios to .* lie in \[-999, -1\] .* keep theta"
    with pytest.raises(ValueError, match=message):
        estimator.token_weights(dataclasses.replace(batch, logp_ref=reference))
