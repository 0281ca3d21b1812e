"""Moments of estimators: by hand, against whole groups in plain loops, against printed digits."""

import dataclasses
import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle_weights import WEIGHTS
from strategies import Case, mdps_with_masked_tokens, mdps_with_two_policies
from tolerances import EXACT, PRINTED, VISIBLE
from worlds_by_hand import OLD, REFERENCE, THETA, case_moments, coin, eos_tree, majority, odds

from ticgrpo_theory.estimators import ESTIMATORS, catalogue, ratios
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.exact.covariance import gradient_covariance
from ticgrpo_theory.mdp import TokenMDP

NEED_TWO = ("rloo", "trajectory_is", "prefix_is")
NAMES = sorted(WEIGHTS)


def second_moment_of_groups(case: Case, name: str, G: int) -> float:
    """E||g_hat||^2 from every ordered group of every prompt."""
    return sum(
        q * oracles.second_moment(world, case.theta, case.theta_old, name, G, oracles.ordered_groups)
        for q, world in case.prompts
    )


def test_two_responses_and_two_tokens_by_hand():
    # pi_old = (1/2, 1/2): the two responses differ with probability 1/2, then A = (1, -1) and
    # g_hat = ((1/2, -1/2) - (-1/2, 1/2)) / 2 = (1/2, -1/2), else 0. So E = (1/4, -1/4) = grad J.
    found = gradient_moments(coin(), odds(0.5), odds(0.5), catalogue.grpo(delta=0.0), group_size=2)
    torch.testing.assert_close(found.mean, torch.tensor([[0.25, -0.25]], dtype=torch.float64), **EXACT)
    expected = {
        "second_moment": 1 / 4,
        "variance": 1 / 8,
        "mse": 1 / 8,
        "scale": 1.0,
        "mse_scaled": 1 / 8,
        "ratio_second_moment": 1.0,
        "effective_sample_size": 2.0,
        "signal_to_noise": 1.0,
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    assert found.scale_kind == "known"


def test_importance_weights_by_hand():
    # pi = (3/4, 1/4), pi_old = (1/2, 1/2): w = (3/2, 1/2), scores (1/4, -1/4) and (-3/4, 3/4). Where the two
    # responses differ, A = (1, -1) and g_hat = (3/2 (1/4) + 1/2 (3/4)) / 2 (1, -1) = 3/8 (1, -1), so that
    # E = 3/16 (1, -1) = grad J.
    found = gradient_moments(coin(), odds(0.75), odds(0.5), "trajectory_is", group_size=2)
    assert found.second_moment == pytest.approx(2 * (3 / 8) ** 2 / 2, rel=1e-12)
    assert found.variance == pytest.approx(9 / 128, rel=1e-12)
    assert found.mse == pytest.approx(9 / 128, rel=1e-12)
    # E w^2 = (9/4 + 1/4) / 2, and A^2 = 1/2 whatever the response, so that the sample size is 2 / E w^2.
    assert found.ratio_second_moment == pytest.approx(5 / 4, rel=1e-12)
    assert found.effective_sample_size == pytest.approx(8 / 5, rel=1e-12)


R1 = [
    # estimator, binary E||g_hat||^2, ternary E||g_hat||^2; G = 4
    (catalogue.grpo(0.2, 0.28, 0.0), 0.0700406632, 0.0735577473),
    (catalogue.grpo(0.2, 0.28, 0.1), 0.0474064085, 0.0468962980),
    (catalogue.dapo(delta=0.0), 0.0520553240, 0.0551950749),
    (catalogue.dapo(delta=0.1), 0.0351733454, 0.0353164380),
    (catalogue.tic_grpo_eq11(delta=0.0), 0.0388682682, 0.0374152750),
    (catalogue.tic_grpo(delta=0.0), 0.0886066875, 0.0857961519),
    (catalogue.tic_grpo(math.inf, delta=0.0), 0.2685325154, 0.3157086298),
    (catalogue.no_is(delta=0.0), 0.2320071948, 0.2288748427),
    (catalogue.stale(delta=0.0), 0.1747331565, 0.1792776035),
    (Estimator(ratios.prefix, standardised(0.0), unclipped(), sequence_sum), 0.2099280050, 0.2455130335),
]  # fmt: skip


@pytest.mark.parametrize("method", ["auto", "enumeration", "groups"])
@pytest.mark.parametrize("estimator, binary, ternary", R1)
def test_second_moments_have_the_printed_digits(estimator, binary, ternary, method):
    for reward, printed in (((1.0, 0.0, 0.0, 1.0), binary), ((1.0, 0.3, 0.0, 1.0), ternary)):
        found = gradient_moments(eos_tree(reward), THETA, OLD, estimator, group_size=4, method=method)
        assert found.second_moment == pytest.approx(printed, abs=PRINTED(10)["atol"], rel=0)


R10 = [
    # T, variance of the trajectory and of the token ratio, bias^2 of the token ratio, E w'^2
    (2, 0.11980971, 0.17622636, None, 1.346560),
    (4, 0.09181925, 0.05927614, 0.01422778, 1.813223),
    (8, 0.13949816, 0.02269529, 0.01185677, 3.287777),
    (12, 0.23995102, 0.01362301, 0.01062725, 5.961471),
]


@pytest.mark.parametrize("T, trajectory, token, bias, ratio", R10)
def test_variances_of_single_responses_on_a_shared_row_have_the_printed_digits(
    T, trajectory, token, bias, ratio
):
    shift = 0.6 / math.sqrt(2)
    found = {}
    for pooled in (ratios.trajectory, ratios.token):
        z = Estimator(pooled, population(), unclipped(), sequence_mean)
        found[pooled] = gradient_moments(majority(T), [[shift, -shift]], [[0.0, 0.0]], z, group_size=1)
    correct, wrong = found[ratios.trajectory], found[ratios.token]
    assert correct.variance == pytest.approx(trajectory, abs=PRINTED(8)["atol"], rel=0)
    assert wrong.variance == pytest.approx(token, abs=PRINTED(8)["atol"], rel=0)
    assert correct.ratio_second_moment == pytest.approx(ratio, abs=PRINTED(6)["atol"], rel=0)
    assert correct.mse_scaled - correct.variance == pytest.approx(0.0, abs=EXACT["atol"])
    if bias is not None:
        assert wrong.mse_scaled - wrong.variance == pytest.approx(bias, abs=PRINTED(8)["atol"], rel=0)
    # The group size from which the trajectory ratio has the smaller error.
    crossover = (correct.variance - wrong.variance) / (wrong.mse_scaled - wrong.variance)
    printed = {4: 2.2873, 8: 9.8512, 12: 21.2970}
    if T in printed:
        assert crossover == pytest.approx(printed[T], abs=PRINTED(4)["atol"], rel=0)
        assert correct.variance / wrong.variance == pytest.approx(
            {4: 1.549009, 8: 6.146569, 12: 17.613651}[T], abs=PRINTED(6)["atol"], rel=0
        )


@given(mdps_with_two_policies(9) | mdps_with_masked_tokens(9), st.sampled_from(NAMES), st.integers(1, 3))
def test_every_method_agrees_with_every_ordered_group(case, name, G):
    G = max(G, 2) if name in NEED_TWO else G
    expected = second_moment_of_groups(case, name, G)
    for method in ("auto", "enumeration", "groups"):
        found = case_moments(case, name, G, method)
        assert found.second_moment == pytest.approx(expected, **{"abs": 1e-12, "rel": 1e-12})
        mean = expected_gradient(case.mdp, case.theta, case.theta_old, name, group_size=G)
        torch.testing.assert_close(found.mean, mean, **EXACT)


@given(mdps_with_two_policies(6), st.sampled_from(NAMES), st.integers(2, 5))
def test_the_parts_add_up(case, name, G):
    found = case_moments(case, name, G)
    gradient = policy_gradient(case.mdp, case.theta)
    square = float(found.mean.square().sum())
    assert found.second_moment == pytest.approx(found.variance + square, abs=1e-12)
    assert found.mse == pytest.approx(
        found.variance + float((found.mean - gradient).square().sum()), abs=1e-12
    )
    assert found.mse_scaled == pytest.approx(
        found.variance + float((found.mean - found.scale * gradient).square().sum()), abs=1e-12
    )
    assert 0 <= found.effective_sample_size <= G * (1 + 1e-12)
    assert found.ratio_second_moment >= 1 - 1e-12


def test_rows_that_a_response_reads_twice_are_not_the_sum_over_its_tokens():
    # V = 2, T = 2, one row, weight 1: ||psi_1 + psi_2||^2 has the cross term 2 <psi_1, psi_2>.
    shared = TokenMDP.automaton([[1, 2], [3, 0], [0, 3], [0, 0]], 2, 2, [0.0, 0.0, 0.0, 1.0], rows=[0] * 4)
    assert shared.max_visits == 2
    found = gradient_moments(shared, odds(0.75), odds(0.75), catalogue.reinforce(), group_size=1)
    # r = 1 for the tokens (0, 0) and (1, 1), of probability 9/16 and 1/16, where psi_1 + psi_2 = (1/2, -1/2)
    # and (-3/2, 3/2).
    assert found.second_moment == pytest.approx(9 / 16 * (1 / 2) + 1 / 16 * (9 / 2), rel=1e-12)
    tokens_alone = (9 / 16 * (1 / 2) + 1 / 16 * (9 / 2)) / 2
    assert abs(found.second_moment - tokens_alone) > VISIBLE


def test_an_infinite_group_has_no_noise_within_a_prompt():
    found = gradient_moments(eos_tree((1.0, 0.3, 0.0, 1.0)), THETA, OLD, "grpo", group_size=math.inf)
    assert (found.variance, found.signal_to_noise, found.effective_sample_size) == (0.0, math.inf, None)
    assert found.second_moment == pytest.approx(float(found.mean.square().sum()), rel=1e-15)
    large = gradient_moments(eos_tree((1.0, 0.3, 0.0, 1.0)), THETA, OLD, "grpo", group_size=400)
    assert found.mse == pytest.approx(large.mse, rel=0.1)


def test_the_noise_of_drawing_a_prompt_is_counted():
    first, second = coin(), coin((0.0, 0.5))
    both = TokenMDP.mixture([first, second], [0.25, 0.75], share_rows=True)
    arguments = (odds(0.6), odds(0.5), catalogue.grpo(delta=0.0))
    parts = [gradient_moments(mdp, *arguments, group_size=2) for mdp in (first, second)]
    found = gradient_moments(both, *arguments, group_size=2)
    within = 0.25 * parts[0].variance + 0.75 * parts[1].variance
    between = 0.25 * 0.75 * float((parts[0].mean - parts[1].mean).square().sum())
    assert between > VISIBLE
    assert found.variance == pytest.approx(within + between, rel=1e-12)
    endless = gradient_moments(both, *arguments, group_size=math.inf)
    assert endless.variance > VISIBLE
    torch.testing.assert_close(
        gradient_covariance(both, *arguments, group_size=math.inf).trace().item(), endless.variance, **EXACT
    )


def test_the_squared_ratio_grows_like_a_power_of_the_horizon():
    # Every token multiplies it by sum_a pi(a)^2 / pi_old(a) = 1.160414, pi_old being uniform.
    shift, T = 0.6 / math.sqrt(2), 1000
    found = gradient_moments(majority(T), [[shift, -shift]], [[0.0, 0.0]], "grpo", group_size=4)
    p = 1 / (1 + math.exp(-2 * shift))
    assert math.log(found.ratio_second_moment) == pytest.approx(
        T * math.log(2 * (p**2 + (1 - p) ** 2)), rel=1e-12
    )


KNOBS = [
    ("group_size", {"group_size": 5}),
    ("delta", {"estimator": catalogue.grpo(delta=0.3)}),
    ("eps_high", {"estimator": catalogue.grpo(eps_high=0.9)}),
    ("eps_low", {"estimator": catalogue.grpo(eps_low=0.7)}),
    ("scale", {"estimator": dataclasses.replace(ESTIMATORS["grpo"], scale=token_mean)}),
    ("ratio", {"estimator": dataclasses.replace(ESTIMATORS["grpo"], ratio=ratios.prefix)}),
    ("score", {"estimator": dataclasses.replace(ESTIMATORS["grpo"], score=ESTIMATORS["stale"].score)}),
    ("theta", {"theta": [[0.9, -0.6], [-0.4, 0.6], [0.5, -0.3]]}),
    ("theta_old", {"theta_old": [[0.2, -0.1], [0.3, 0.2], [-0.2, 0.4]]}),
    ("reward", {"mdp": eos_tree((1.0, 0.6, 0.0, 1.0))}),
]


@pytest.mark.parametrize("knob, change", KNOBS, ids=[knob for knob, _ in KNOBS])
def test_every_knob_moves_the_variance(knob, change):
    base = {"mdp": eos_tree((1.0, 0.3, 0.0, 1.0)), "theta": THETA, "theta_old": OLD}
    base |= {"estimator": ESTIMATORS["grpo"], "group_size": 4}
    before, after = gradient_moments(**base), gradient_moments(**(base | change))
    assert abs(after.variance - before.variance) > 1e-4
    assert abs(after.mse_scaled - before.mse_scaled) > 1e-4


def test_equal_rewards_leave_no_advantage_and_no_noise():
    found = gradient_moments(eos_tree((0.1, 0.1, 0.1, 0.1)), THETA, OLD, "grpo", group_size=3)
    assert (found.variance, found.second_moment, found.signal_to_noise) == (0.0, 0.0, 0.0)
    assert (found.effective_sample_size, found.scale, found.scale_kind) == (0.0, 1.0, "none")
    # Without a baseline the reward itself is noise.
    assert gradient_moments(eos_tree((0.1,) * 4), THETA, OLD, "reinforce", group_size=3).variance > 1e-3


def test_a_masked_token_leaves_the_moments_of_the_smaller_world():
    wide = TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=[1.0, 0.0, 7.0])
    masked = [[*row, -math.inf] for row in odds(0.55)], [[*row, -math.inf] for row in odds(0.5)]
    for name in ("grpo", "tic_grpo", "trajectory_is", "gmpo"):
        found = gradient_moments(wide, *masked, name, group_size=3)
        narrow = gradient_moments(coin(), odds(0.55), odds(0.5), name, group_size=3)
        assert found.variance == pytest.approx(narrow.variance, rel=1e-12)
        assert found.ratio_second_moment == pytest.approx(narrow.ratio_second_moment, rel=1e-12)


def test_a_square_beyond_float64_is_refused_and_a_bounded_one_is_not():
    far = [[720.0, 0.0]], [[0.0, 720.0]]
    with pytest.raises(
        ValueError,
        match=r"E\|\|g_hat\|\|\^2 of the estimator trajectory_is .* overflow float64; use a clip that",
    ):
        gradient_moments(coin(), *far, "trajectory_is", group_size=2)
    bounded = gradient_moments(coin(), *far, catalogue.tic_grpo(), group_size=2)
    assert math.isinf(bounded.ratio_second_moment) and math.isfinite(bounded.variance)


def test_pairs_of_tokens_that_cost_too_much_are_refused_with_what_would_do():
    Q, V, T = 256, 64, 256
    moves = [[(q + a) % Q for a in range(V)] for q in range(Q)]
    mdp = TokenMDP.automaton(moves, V, T, [float(q % 2) for q in range(Q)], rows="state")
    logits = torch.zeros(Q, V)
    with pytest.raises(
        ValueError, match=r"nodes x S x V\^2 = 68,719,476,736 .* MAX_PAIR_WORK = 34,359,738,368"
    ):
        gradient_moments(mdp, logits, logits, "grpo", group_size=4, method="dynamic_programming")


def test_methods_that_do_not_apply_say_which_does():
    mdp = eos_tree((1.0, 0.3, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"'dynamic_programming' is not exact .* use method='enumeration'"):
        gradient_moments(mdp, THETA, OLD, "tic_grpo", group_size=3, method="dynamic_programming")
    penalised = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.5))
    with pytest.raises(ValueError, match="its penalty does not pass through A; use method='groups'"):
        gradient_moments(mdp, THETA, OLD, penalised, group_size=3, method="enumeration", theta_ref=REFERENCE)
    with pytest.raises(ValueError, match=r"group_size = 0: a group has a whole number >= 1"):
        gradient_moments(mdp, THETA, OLD, "grpo", group_size=0)
