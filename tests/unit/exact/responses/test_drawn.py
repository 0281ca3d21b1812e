"""Responses that are drawn token by token, where there are too many to be listed."""

import pytest
import torch

from ticgrpo_theory.estimators.advantages import batch_standardised, centred
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import batch_token_mean, sequence_mean, sequence_sum
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.responses.drawn import drawn_paths
from ticgrpo_theory.exact.sampled import sampled
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.sampled_updates import sampled_update
from ticgrpo_theory.mdp import TokenMDP

LONG = TokenMDP.automaton([[0, 1, 0], [1, 0, 1]], 3, 32, lambda s, n: float((s + n) % 2), eos=2, rows="state")


def policies() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    old = 0.5 * torch.randn(LONG.num_rows, 3, generator=generator, dtype=torch.float64)
    return old + 0.2, old


def test_outcomes_come_as_often_as_they_are_likely():
    _, old = policies()
    graph, n = LONG.graph, 40_000
    paths = drawn_paths(graph, old, n, torch.Generator().manual_seed(0))
    assert (graph.length[paths.outcome] == paths.mask.sum(axis=1)).all()
    reward, length = graph.reward[paths.outcome].mean(), paths.mask.sum(axis=1).mean()
    prob = CheckedProblem(LONG, old, old, "rloo", 2).one.outcome_prob
    assert abs(reward - prob @ graph.reward) < 4 / n**0.5
    assert abs(length - prob @ graph.length) < 4 * 3 / n**0.5


def test_a_masked_token_is_never_drawn():
    logits = torch.tensor([[0.0, -torch.inf, -2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    paths = drawn_paths(LONG.graph, logits, 2_000, torch.Generator().manual_seed(0))
    assert not ((paths.rows == 0) & (paths.tokens == 1) & paths.mask).any()


def check_interval(estimator, **options) -> None:
    """The interval of groups, or updates, that are drawn holds the exact value."""
    theta, old = policies()
    exact = expected_gradient(LONG, theta, old, estimator, 4, **options)
    problem = CheckedProblem(LONG, theta, old, estimator, 4, seed=1, limit=20_000, tolerance=0.05, **options)
    if "prompts" in options:
        found = sampled_update(CoupledUpdate(problem.parts))
    else:
        found = sampled(problem.one)
    assert found.half_width is not None and "sampled" in found.assumed
    assert bool(((found.value - exact).abs() <= found.half_width).all())
    assert float((found.value - exact).norm()) <= found.norm_half_width <= 0.3 * float(exact.norm())


@pytest.mark.parametrize("clip", [unclipped(), two_sided(0.1, 0.1)], ids=["free", "clipped"])
def test_groups_of_long_responses(clip):
    check_interval(Estimator(token, centred(), clip, sequence_mean))


@pytest.mark.parametrize(
    "estimator",
    [
        Estimator(token, batch_standardised(), unclipped(), batch_token_mean),
        Estimator(token, centred(), unclipped(), batch_token_mean, filter=drop_equal("refill")),
    ],
    ids=["statistics", "refilled"],
)
def test_updates_of_long_responses(estimator):
    check_interval(estimator, prompts=3)


def test_an_objective_of_long_responses():
    def objective(batch):
        return (batch.logp.where(batch.mask, 0.0)).sum(-1) @ (batch.reward - batch.reward.mean()) / 4

    _, old = policies()
    wanted = expected_gradient(LONG, old, old, Estimator(token, centred(), unclipped(), sequence_sum), 4)
    found = expected_gradient(
        LONG, old, old, objective, 4, method="sampled", limit=20_000, tolerance=0.1, explain=True
    )
    assert bool(((found.value - wanted).abs() <= found.half_width).all())
