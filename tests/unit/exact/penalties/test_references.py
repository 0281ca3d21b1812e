"""Penalties to theta_old and to the sampler, and the entropy bonus, against literal objectives."""

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.properties.tolerances import EXACT
from tests.thinned import only
from tests.unit.estimators.test_shapes import world
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.penalties import (
    REFERENCES,
    entropy_bonus,
    k1,
    k2,
    k3,
    kl_exact,
    kl_loss,
)
from ticgrpo_theory.estimators.ratios import none, token
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, gradient_moments

BETA = 0.7
GRPO = ESTIMATORS["grpo"]


def added(penalty, scale, sampler: Tensor, G: int = 2, method: str = "auto") -> Tensor:
    """E[g_hat with the penalty] - E[g_hat without]."""
    made, theta, old, reference = world()
    bare = dataclasses.replace(GRPO, scale=scale)
    given = (made, theta, old, dataclasses.replace(bare, penalty=penalty), G, method)
    found = expected_gradient(*given, theta_ref=reference, theta_sampler=sampler)
    return found - expected_gradient(made, theta, old, bare, G, theta_sampler=sampler)


def literal(penalty, by_length, sampler: Tensor) -> Tensor:
    """The gradient of the expected penalty, response by response, with autograd through theta alone."""
    made, theta, old, reference = world()
    theta = theta.clone().requires_grad_()
    now, before, mu = (x.log_softmax(dim=-1) for x in (theta, old, sampler))
    tables = {"given": reference.log_softmax(dim=-1), "old": before, "sampler": mu, "nothing": 0 * before}
    place = {prefix: row for row, prefix in enumerate(made.prefixes)}
    total = torch.zeros(())
    for y in made.responses:
        steps = [(place[y[:t]], a) for t, a in enumerate(y)]
        prob = torch.stack([mu[s, a] for s, a in steps]).sum().exp()
        for s, a in steps:
            ratio = (now[s, a] - before[s, a]).exp() if penalty.ratio is token else 1.0
            against = tables[penalty.reference]
            if isinstance(penalty, kl_exact):
                value = (now[s].exp() * (now[s] - against[s])).sum()
            else:
                d = now[s, a] - against[s, a]
                value = {k1: d, k2: d**2 / 2, k3: (-d).exp() - 1 + d}[penalty.k]
            total = total - penalty.beta * prob * by_length(len(y)) * ratio * value
    return torch.autograd.grad(total, theta)[0]


CASES = [
    (penalty, scale)
    for reference in REFERENCES
    for penalty in (
        kl_loss(k2, BETA, none, reference),
        kl_loss(k3, BETA, token, reference),
        kl_exact(BETA, none, reference),
        kl_exact(BETA, token, reference),
    )
    for scale in (sequence_sum, sequence_mean)
]
LENGTHS = {sequence_sum: lambda n: 1.0, sequence_mean: lambda n: 1 / n}


def check_literal(penalty, scale) -> None:
    _, _, old, sampler = world()
    for drawn in (old, sampler + 0.5 * old):
        torch.testing.assert_close(
            added(penalty, scale, drawn), literal(penalty, LENGTHS[scale], drawn), **EXACT
        )


@pytest.mark.parametrize("penalty, scale", only([CASES[i] for i in (9, 16, 17, 28)], CASES))
def test_a_penalty_adds_the_gradient_of_its_literal_objective(penalty, scale):
    check_literal(penalty, scale)


def check_entropy() -> None:
    """Visits of the sampler, entropy of theta, the scale of the loss."""
    made, theta, _, sampler = world()
    table = theta.clone().requires_grad_()
    H = -(table.softmax(dim=-1) * table.log_softmax(dim=-1)).sum(dim=-1)
    mu, total = sampler.log_softmax(dim=-1), torch.zeros(())
    place = {prefix: row for row, prefix in enumerate(made.prefixes)}
    for y in made.responses:
        rows = [place[y[:t]] for t in range(len(y))]
        prob = sum(mu[s, a] for s, a in zip(rows, y, strict=True)).exp()
        total = total + BETA * prob / len(y) * H[rows].sum()
    wanted = torch.autograd.grad(total, table)[0]
    torch.testing.assert_close(added(entropy_bonus(BETA), sequence_mean, sampler), wanted, **EXACT)


def test_the_entropy_bonus_moves_the_entropy_of_visited_states_and_not_the_visits():
    check_entropy()


def test_on_policy_tokens_give_the_entropy_bonus_by_k2_and_nothing_by_the_mean_of_log_pi():
    made, theta, _, _ = world()

    def of(penalty) -> Tensor:
        bare = dataclasses.replace(GRPO, scale=sequence_sum)
        found = expected_gradient(made, theta, theta, dataclasses.replace(bare, penalty=penalty), 2)
        return found - expected_gradient(made, theta, theta, bare, 2)

    bonus = of(entropy_bonus(BETA))
    torch.testing.assert_close(of(kl_loss(k2, BETA, none, "nothing")), bonus, **EXACT)
    torch.testing.assert_close(of(kl_loss(k1, BETA, none, "nothing")), torch.zeros_like(bonus), **EXACT)
    assert bonus.norm() > 1e-2


@pytest.mark.parametrize("reference", only(["old"], [name for name in REFERENCES if name != "given"]))
def test_a_term_without_A_is_split_off_and_agrees_with_every_group(reference):
    made, theta, old, sampler = world()
    penalty = kl_loss(k2, BETA, none, reference)
    for scale in (sequence_mean, token_mean):
        found, each = (added(penalty, scale, sampler, 2, method) for method in ("enumeration", "groups"))
        torch.testing.assert_close(found, each, **EXACT)
    carrying = dataclasses.replace(GRPO, penalty=penalty)
    moments = gradient_moments(made, theta, old, carrying, 2, theta_sampler=sampler)
    assert moments.method == "groups" and moments.variance > 0


def test_a_penalty_to_theta_old_is_felt_after_a_drift_alone():
    made, _, old, sampler = world()
    penalty = kl_loss(k2, BETA, none, "old")
    carrying = dataclasses.replace(GRPO, penalty=penalty)
    still = [expected_gradient(made, old, old, estimator, 2) for estimator in (carrying, GRPO)]
    torch.testing.assert_close(*still, **EXACT)
    assert added(penalty, sequence_mean, sampler).norm() > 1e-2


def test_what_a_penalty_cannot_compare_with_is_refused():
    with pytest.raises(ValueError, match="reference = 'theta': choose 'given', 'old', 'sampler', 'nothing'"):
        kl_loss(k2, BETA, none, "theta")
    zeros = torch.zeros(1, 2, 3, dtype=torch.float64)
    batch = Batch(zeros - 1, zeros - 2, zeros[..., 0], zeros == 0, horizon=3)
    estimator: Estimator = dataclasses.replace(GRPO, penalty=kl_loss(k2, BETA, none, "sampler"))
    with pytest.raises(ValueError, match=r"a penalty to the sampler reads .* give Batch\(..., logp_sampler"):
        estimator.token_weights(batch)
