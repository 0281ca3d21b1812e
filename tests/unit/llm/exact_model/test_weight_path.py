"""weight_path.py: the path in the weights against autograd by hand, streamed inner products, and refusals."""

import math

import pytest
import torch

from llm.exact_model import inner_products
from llm.exact_model.inner_products import check_memory, gram, weights_digest
from llm.exact_model.weight_path import Start, Step, weight_path
from tests.properties.tolerances import EXACT, VISIBLE
from tests.unit.llm.exact_model import exact_cases as cases
from ticgrpo_theory.exact.answers import Problem

LOST_DIGITS = 1e-7
"""Differences of gradients come from their inner products, which loses half the digits."""


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def test_one_step_by_hand():
    """phi_1 = phi_0 + eta E[g_hat], and at phi_1 every column from whole gradients."""
    model = cases.exact(cases.words())
    start, eta = Start(model), 0.2
    rows = weight_path(start, "grpo", 4, Step("plain", eta), 1)
    for parameter, kept in zip(model.parameters, start.weights, strict=True):
        assert torch.equal(parameter, kept), "the weights were not put back"
    table = model.table()
    first = Problem(model.mdp, start.theta, start.theta, "grpo", 4)
    mean, before = flat(model.pull(table, first.mean, keep=True)), flat(model.pull(table, first.gradient))
    c = float(mean @ before / (before @ before))
    with torch.no_grad():
        at = 0
        for parameter in model.parameters:
            parameter += eta * mean[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
    table = model.table()
    problem = first.at(model.policy_of(table))
    mean1, now = flat(model.pull(table, problem.mean, keep=True)), flat(model.pull(table, problem.gradient))
    start.restore()
    found = rows[1]
    expected = {
        "bias_current": (mean1 - now).norm(),
        "bias_old": (mean1 - before).norm(),
        "bias_current_scaled": (mean1 - c * now).norm(),
        "bias_old_scaled": (mean1 - c * before).norm(),
        "direction_error_current": 1 - torch.cosine_similarity(mean1, now, dim=0),
        "direction_error_old": 1 - torch.cosine_similarity(mean1, before, dim=0),
        "gradient_norm": now.norm(),
        "drift": eta * mean.norm(),
        "scale": c,
    }
    for name, value in expected.items():
        assert abs(found[name] - float(value)) <= LOST_DIGITS * max(1.0, float(value)), name
    assert found["scale_kind"] == "least_squares" and found["bias_current_scaled"] > VISIBLE


def test_trajectory_is_errs_nowhere_on_the_path_and_the_token_ratio_does():
    start = Start(cases.exact(cases.pairs()))
    for optimizer, eta in (("plain", 0.02), ("adamw", 1e-3)):
        step = Step(optimizer, eta)
        exact, token = (weight_path(start, name, 8, step, 3)[-1] for name in ("trajectory_is", "grpo"))
        assert exact["bias_current_scaled"] <= LOST_DIGITS and exact["bias_old_scaled"] > VISIBLE
        assert token["bias_current_scaled"] > VISIBLE
        assert exact["drift"] > 0 and exact["log_ratio_sd"] > 0 > exact["log_ratio_mean"]


def test_a_first_step_of_adamw_moves_every_weight_by_the_learning_rate():
    model = cases.exact(cases.pairs())
    start = Start(model)
    _, moved = weight_path(start, "grpo", 4, Step("adamw", 1e-5), 1)
    gradient = flat(start.gradient)
    sizes = 1e-5 * (gradient.abs() / (gradient.abs() + 1e-8 / moved["scale"])).norm()
    assert abs(moved["drift"] / float(sizes) - 1) < VISIBLE


def test_stale_keeps_its_mean_and_its_error_to_the_old_gradient_is_zero():
    start = Start(cases.exact(cases.pairs()))
    last = weight_path(start, "stale", 4, Step("plain", 0.02), 2)[-1]
    assert last["bias_old_scaled"] <= LOST_DIGITS and last["bias_current_scaled"] > VISIBLE


def test_inner_products_are_streamed_and_a_difference_keeps_its_digits(monkeypatch):
    monkeypatch.setattr(inner_products, "PIECE", 3)
    x = [torch.sin(torch.arange(1.0, 9)).view(2, 4), torch.ones(5)]
    y = [2 * x[0] + 1e-5, 2 * x[1]]
    G = gram([y, x], minus=2.0)
    torch.testing.assert_close(float(G[1, 1]), float(sum(p.double().square().sum() for p in x)), **EXACT)
    exact = sum((a.double() - 2 * b.double()).square().sum() for a, b in zip(y, x, strict=True))
    torch.testing.assert_close(float(G[0, 0]), float(exact), rtol=1e-12, atol=0.0)
    assert 0 < float(G[0, 0]) < 1e-8


def test_the_digest_of_weights_is_another_one_where_a_bit_differs():
    lm = cases.network()
    before = weights_digest(lm.network)
    assert before == weights_digest(cases.network().network) and len(before) == 64
    with torch.no_grad():
        next(lm.network.parameters())[0, 0] += 1e-15
    assert weights_digest(lm.network) != before


def test_memory_that_does_not_suffice_is_named_before_it_is_taken():
    with pytest.raises(ValueError, match=r"8 copies of 1,000,000,000,000 weights .* GiB are free"):
        check_memory(10**12, 4, 8, torch.device("cpu"))
    check_memory(10, 4, 8, torch.device("cpu"))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (("sgd", 0.1), r"optimizer = 'sgd': choose one of plain, adamw"),
        (("plain", 0.0), r"eta = 0\.0: a learning rate is finite and above 0"),
        (("plain", math.inf), r"eta = inf: a learning rate is finite and above 0"),
    ],
)
def test_steps_that_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        Step(*step)
