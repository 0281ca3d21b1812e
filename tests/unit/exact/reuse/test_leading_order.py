"""The constant of eta k / G: a printed instance, the limit of the exact gap, and what has none."""

import pytest
import torch

from tests.instances.reuse_world import MATCH, START, Z, close
from tests.properties.tolerances import DIFFERENCED, EXACT, VISIBLE
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators import ratios as pooling
from ticgrpo_theory.estimators.advantages import known_moments, leave_one_out, population
from ticgrpo_theory.estimators.clipping import unclipped, upper_only
from ticgrpo_theory.estimators.corrections import masked
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.penalties import k1, kl_reward
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, reuse_bias
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.responses.many_policies import unroll
from ticgrpo_theory.exact.reuse.leading_order import leading_order
from ticgrpo_theory.mdp import TokenMDP


def test_the_constant_of_the_leading_order():
    vector = leading_order(MATCH, START, Z)
    close(vector[:, 0], [-0.02840668, 0.00961453, 0.01320721], 8)
    torch.testing.assert_close(vector[:, 1], -vector[:, 0], **EXACT)
    close(vector.norm(), 0.0463423963, 10)


POOLINGS = (pooling.none, pooling.token, pooling.prefix, pooling.trajectory, pooling.geometric_mean)


def mean_field_gap(mdp, theta_old, estimator, G, eta):
    """E[g_hat_1] - E[g(theta_1)], g(theta) = E_old[g_hat(theta)], both over all groups reused once."""
    start = torch.tensor(theta_old, dtype=torch.float64)
    problem = CheckedProblem(mdp, start, start, estimator, G).one
    (responses,) = unroll(mdp, start, None)
    gap = reuse_bias(mdp, start, estimator, G, 1, eta).gradient[1]
    for members, prob in multisets.groups(responses.prob.numpy(), G, 1000):
        at_start = start.expand(len(members), -1, -1)
        chosen = torch.from_numpy(members)
        c = problem.estimator.token_weights(responses.batch(at_start, chosen))
        moves = responses.gradients(c, at_start, chosen)
        for chance, g_hat in zip(prob.tolist(), moves, strict=True):
            gap = gap - chance * expected_gradient(mdp, start + eta * g_hat, start, estimator, G)
    return gap


UNEVEN = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[1.0, 0.25, 0.0, 0.75], eos=1)
UNEVEN_START = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
LOOPED = TokenMDP.automaton([[0, 1], [1, 0]], 2, 2, reward=[0.0, 1.0], rows=[0, 0])


@pytest.mark.parametrize("ratio", POOLINGS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mdp, theta_old, G", [(UNEVEN, UNEVEN_START, 2), (LOOPED, [[0.4, -0.3]], 3)])
def test_the_leading_order_is_the_limit_of_the_exact_gap(mdp, theta_old, G, ratio):
    """Two step sizes, extrapolated to 0: what is left is of order eta squared."""
    estimator = Estimator(ratio, population(), upper_only(0.2), sequence_mean)
    slopes = [G / eta * mean_field_gap(mdp, theta_old, estimator, G, eta) for eta in (2e-4, 1e-4)]
    found = 2 * slopes[1] - slopes[0]
    torch.testing.assert_close(found, leading_order(mdp, theta_old, estimator), **DIFFERENCED)


def test_the_leading_order_depends_on_the_ratio_and_not_on_a_held_score():
    vectors = [
        leading_order(UNEVEN, UNEVEN_START, Estimator(r, population(), unclipped(), sequence_sum))
        for r in POOLINGS
    ]
    for i, vector in enumerate(vectors):
        for other in vectors[:i]:
            assert (vector - other).norm() > VISIBLE
    held = Estimator(pooling.none, population(), unclipped(), sequence_sum, score=old)
    assert leading_order(UNEVEN, UNEVEN_START, held).norm() == 0.0


@pytest.mark.parametrize(
    "estimator, words",
    [
        ("grpo", "reads the other rewards of the group; use an advantage population"),
        (
            Estimator(pooling.trajectory, leave_one_out(), unclipped(), sequence_sum),
            "reads the other rewards",
        ),
        (
            Estimator(pooling.trajectory, population(), unclipped(), token_mean),
            "scale reads the other lengths",
        ),
        (Estimator(pooling.trajectory, population(), upper_only(0.0), sequence_sum), "an end at ratio 1"),
        (
            Estimator(
                pooling.none, known_moments(0.0, 1.0), unclipped(), sequence_sum, penalty=kl_reward(k1, 0.1)
            ),
            "theta_ref",
        ),
        (
            Estimator(
                pooling.none, population(), unclipped(), sequence_sum, correction=masked("token", 1.1, 2.0)
            ),
            "weighs what a sampler draws",
        ),
        (lambda batch: batch.logp.sum(), "may couple the responses"),
    ],
)
def test_the_leading_order_refuses_what_is_no_sum_over_responses(estimator, words):
    with pytest.raises(ValueError, match=words):
        leading_order(MATCH, START, estimator)


def test_the_leading_order_refuses_several_prompts():
    mixed = TokenMDP.mixture([MATCH, MATCH], [0.5, 0.5], share_rows=True)
    with pytest.raises(ValueError, match=r"2 prompts: .* eta k at every G"):
        leading_order(mixed, START, Z)
