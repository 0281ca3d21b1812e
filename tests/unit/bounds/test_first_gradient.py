"""Constants of an instance against what random policies, groups and steps measure; partners exceed less."""

import itertools
import math

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.properties.strategies import mdps_with_two_policies, tables
from tests.unit.bounds.test_constants import COIN, close
from ticgrpo_theory.bounds import instance_constants, optimum
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.catalogue import (
    grpo,
    no_is,
    stale,
    tic_grpo,
    tic_grpo_eq11,
)
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum
from ticgrpo_theory.exact import expected_return, gradient_moments, policy_gradient
from ticgrpo_theory.exact.dynamic.forward_backward import outcome_distribution
from ticgrpo_theory.exact.groups.conditional import scale_of_group_normalisation
from ticgrpo_theory.exact.responses.many_policies import unroll
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS


def coin(p: float) -> list[list[float]]:
    half = math.log(p / (1 - p)) / 2
    return [[half, -half]]


@given(mdps_with_two_policies(largest=9))
def test_no_policy_beats_the_optimum(case):
    best = optimum(case.mdp)
    assert max(expected_return(case.mdp, x) for x in (case.theta, case.theta_old)) <= best.value + 1e-12


def check_world(mdp, theta, other) -> None:
    """Visits, scores and the change of the gradient stay within d_max, B and L_J."""
    c = instance_constants(mdp)
    theta, other = (torch.as_tensor(x, dtype=torch.float64) for x in (theta, other))
    near = theta + 0.05 * (other - theta)
    for x, y in ((theta, other), (theta, near)):
        change = (policy_gradient(mdp, x) - policy_gradient(mdp, y)).norm()
        assert change <= c.L_J * (x - y).norm() + 1e-12
    pi, expected_visits = torch.softmax(theta, dim=-1), torch.zeros(mdp.num_rows, dtype=torch.float64)
    for prompt in unroll(mdp, theta, None):
        for y in range(len(prompt.reward)):
            flat = prompt.index[y][prompt.mask[y]]
            tokens = torch.bincount(flat, minlength=theta.numel()).reshape(theta.shape).double()
            visits = tokens.sum(dim=1)
            assert (tokens - visits[:, None] * pi).norm() <= c.B + 1e-12
            assert visits.max() <= c.nu and c.l_min <= visits.sum() <= c.horizon
            expected_visits += prompt.weight * prompt.prob[y] * visits
    assert expected_visits.max() <= c.d_max + 1e-12


@given(mdps_with_two_policies(largest=9))
def test_visits_scores_and_gradients_stay_within_their_bounds(case):
    check_world(case.mdp, case.theta, case.theta_old)


STANDARDISED = (
    grpo(delta=0.0),
    tic_grpo(delta=0.125),
    Estimator(token, standardised(0.0, 1), unclipped(), sequence_mean),
)


def check_first_step(mdp, theta, estimator: Estimator, G: int) -> None:
    """E g_hat, E||g_hat||^2 and the multiple of grad J stay within c_min, c_max, b_bar, Q and V."""
    c = instance_constants(mdp, estimator, G)
    moments = gradient_moments(mdp, theta, theta, estimator, G)
    assert moments.second_moment <= c.Q + 1e-12
    if "V" in c:
        assert G * moments.variance <= c.V + 1e-12
    if "c_min" not in c:
        return
    distribution = outcome_distribution(mdp.graph, torch.as_tensor(theta, dtype=torch.float64).numpy())
    multiple = c.kappa * scale_of_group_normalisation(estimator.advantage, mdp.graph.reward, distribution, G)
    assert c.c_min <= multiple + 1e-12 and multiple <= c.c_max + 1e-12
    rest = moments.mean - multiple * policy_gradient(mdp, theta)
    assert rest.norm() <= c.b_bar + 1e-12


@given(mdps_with_two_policies(largest=9), st.integers(2, 4), st.sampled_from(STANDARDISED))
def test_first_steps_stay_within_their_bounds(case, G, estimator):
    check_first_step(case.mdp, case.theta, estimator, G)


def test_bounds_on_the_first_step_are_met_by_policies_that_are_known():
    """Partners: numbers below these bounds are exceeded."""
    # G = 2, p = 1/2: sigma_G is rho whenever it is not 0.
    distribution, reward = np.array([0.5, 0.5]), np.array([0.0, 1.0])
    c = instance_constants(COIN, grpo(delta=0.0), 2)
    close(scale_of_group_normalisation(standardised(0.0), reward, distribution, 2), c.c_min)
    # p -> 0: one response of G differs.
    rare = np.array([1e-9, 1 - 1e-9])
    c = instance_constants(COIN, grpo(delta=0.0), 16)
    assert 0.999 * c.c_max < scale_of_group_normalisation(standardised(0.0), reward, rare, 16) <= c.c_max
    # A large group at p = 1/2: A = +-1 and E||g_hat||^2 -> 1/2.
    second = gradient_moments(COIN, coin(0.5), coin(0.5), grpo(delta=0.0), 64).second_moment
    assert 0.5 * c.Q < 0.95 * c.Q < second <= c.Q
    # T = 1, p = 1/2: ||grad J||^2 = d_max sigma^2 / 2, so that half of d_max would not do.
    close(float(policy_gradient(COIN, coin(0.5)).square().sum()), c.d_max / 2 * 0.25)
    # The score of a rare token.
    assert math.sqrt(2) * (1 - 1e-6) > 0.99 * c.B
    # The second derivative of 2 p (1 - p) at p = 1/2 along (1, -1) / sqrt 2 is -1/2 = -L_J / 2.
    xor = WORLDS["xor"].build()
    step = 1e-3 / math.sqrt(2)
    change = policy_gradient(xor, [[step, -step]]) - policy_gradient(xor, [[-step, step]])
    assert change.norm() > 0.49 * instance_constants(xor).L_J * 2e-3


def group_gradient(prompt, estimator, theta, start, members):
    c = estimator.token_weights(prompt.batch(theta[None], members[None]))
    return prompt.gradients(c, estimator.score(theta[None], start[None]), members[None])[0]


def check_drift(mdp, start, other, estimator: Estimator, members: list[int], eta: float, K: int) -> None:
    """One group, K steps: the field moves by at most Lambda x, and Delta / (eta K) by at most its bounds."""
    c = instance_constants(mdp, estimator, len(members), eta, K)
    if "Lambda" not in c:
        return
    (prompt,) = unroll(mdp, torch.zeros_like(start), None)
    logp_old = prompt.logp(start[None])[0]
    prompt = prompt.__class__(**{**vars(prompt), "logp_old": logp_old})
    group = torch.tensor(members) % len(prompt.reward)
    first, theta = group_gradient(prompt, estimator, start, start, group), start
    for _ in range(K):
        g_hat = group_gradient(prompt, estimator, theta, start, group)
        assert g_hat.norm() <= c.D + 1e-12
        assert (g_hat - first).norm() <= c.Lambda * (theta - start).norm() + 1e-12
        theta = theta + eta * g_hat
    drifted = ((theta - start) / (eta * K) - first).norm()
    assert drifted <= c.tau * first.norm() + 1e-12
    assert drifted <= c.Lambda * eta * (K - 1) * c.D / 2 + 1e-12
    # Anywhere within reach of the K steps.
    reach = eta * K * c.D / max(float((other - start).norm()), 1e-9)
    for part in (0.01, 0.5, 1.0):
        away = start + min(part * reach, 1.0) * (other - start)
        moved = (group_gradient(prompt, estimator, away, start, group) - first).norm()
        assert moved <= c.Lambda * (away - start).norm() + 1e-12


FIELDS = (
    grpo(delta=0.0),
    tic_grpo(delta=0.0),
    tic_grpo_eq11(delta=0.0),
    no_is(0.0),
    stale(0.0),
    Estimator(trajectory, standardised(0.0), two_sided(0.2, 0.2), sequence_sum),
    Estimator(token, standardised(0.0), unclipped(), sequence_mean),
)


@given(
    mdps_with_two_policies(largest=9),
    st.sampled_from(FIELDS),
    st.lists(st.integers(0, 8), min_size=2, max_size=4),
    st.sampled_from([0.001, 0.01, 0.05, 0.25]),
    st.integers(1, 4),
)
def test_the_field_drifts_by_no_more_than_its_bound(case, estimator, members, eta, K):
    assume(len(case.prompts) == 1)
    start, other = (torch.tensor(x, dtype=torch.float64) for x in (case.theta, case.theta_old))
    check_drift(case.mdp, start, other, estimator, members, eta, K)


def test_a_tenth_of_the_bound_on_the_drift_is_exceeded():
    """Partner: T = 1, a token of probability 1/20 against one of 19/20."""
    start, members = torch.tensor(coin(0.05), dtype=torch.float64), torch.tensor([0, 1])
    estimator = Estimator(token, standardised(0.0), two_sided(0.2, 0.2), sequence_mean)
    c = instance_constants(COIN, estimator, 2, 0.01, 4)
    assert c.row == "clip provably inactive"
    (prompt,) = unroll(COIN, start, None)
    step = torch.tensor([[0.01, -0.01]], dtype=torch.float64)
    first, moved = (group_gradient(prompt, estimator, x, start, members) for x in (start, start + step))
    assert (moved - first).norm() > 0.1 * c.Lambda * step.norm()


THREE = TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=[0.0, 0.25, 1.0])


def slope_of_the_others(distribution: list[float], reward: list[float], G: int, delta: float) -> float:
    """(1 - 1/G) E[1 / (sqrt a + delta)], a = (1 - 1/G) times the variance of the other G - 1 rewards."""
    total = 0.0
    for members in itertools.product(range(len(reward)), repeat=G - 1):
        drawn = [reward[i] for i in members]
        mean = sum(drawn) / len(drawn)
        a = (1 - 1 / G) * sum((r - mean) ** 2 for r in drawn) / len(drawn)
        total += math.prod(distribution[i] for i in members) / (math.sqrt(a) + delta)
    return (1 - 1 / G) * total


@given(tables(1, 3), st.integers(4, 6))
def test_the_rest_beside_the_slope_of_the_others_is_within_the_bound_that_falls_with_G(theta, G):
    """delta = 16 makes the second bound on b the smaller one already at G = 4."""
    estimator = grpo(delta=16.0)
    c = instance_constants(THREE, estimator, G)
    assert c.notes["b_bar"] == "falls as 1/G"
    distribution = torch.softmax(torch.tensor(theta[0], dtype=torch.float64), dim=0).tolist()
    slope = slope_of_the_others(distribution, [0.0, 0.25, 1.0], G, 16.0)
    assert c.c_min <= slope + 1e-12 and slope <= c.c_max + 1e-12
    mean = gradient_moments(THREE, theta, theta, estimator, G).mean
    assert (mean - slope * policy_gradient(THREE, theta)).norm() <= c.b_bar + 1e-12
