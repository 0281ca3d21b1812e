"""Moments of estimators: by hand, against whole groups in plain loops, against printed digits."""

import dataclasses
import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.instances.worlds_by_hand import (
    FEWER,
    OLD,
    REFERENCE,
    THETA,
    case_moments,
    coin,
    eos_tree,
    majority,
    odds,
)
from tests.oracles import definitions
from tests.oracles.weights import WEIGHTS
from tests.properties.strategies import Case, mdps_with_masked_tokens, mdps_with_two_policies
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import ESTIMATORS, catalogue, ratios
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.scales import token_mean
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.mdp import TokenMDP

NEED_TWO = ("rloo", "trajectory_is", "prefix_is")
NAMES = sorted(WEIGHTS)


def second_moment_of_groups(case: Case, name: str, G: int) -> float:
    """E||g_hat||^2 from every ordered group of every prompt."""
    return sum(
        q * definitions.second_moment(world, case.theta, case.theta_old, name, G, definitions.ordered_groups)
        for q, world in case.prompts
    )


def check_two_responses_and_two_tokens():
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


def test_two_responses_and_two_tokens_by_hand():
    check_two_responses_and_two_tokens()


def check_importance_weights():
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
    # Held at 1.28 the weights are u = (1.28, 1/2), with E u = 0.89 and E u^2 = 0.9442.
    held = gradient_moments(coin(), odds(0.75), odds(0.5), "cispo", group_size=2)
    assert held.effective_sample_size == pytest.approx(2 * 0.89**2 / 0.9442, rel=1e-12)


def test_importance_weights_by_hand():
    check_importance_weights()


def check_methods(mdp: TokenMDP, theta, theta_old, G: int, names) -> None:
    """The first method that applies, and every response once, against every group."""
    for name in names:
        by = {
            method: gradient_moments(mdp, theta, theta_old, name, group_size=G, method=method)
            for method in ("auto", "enumeration", "groups")
        }
        for found in by.values():
            assert found.second_moment == pytest.approx(by["groups"].second_moment, abs=1e-12, rel=1e-12)
            torch.testing.assert_close(found.mean, by["groups"].mean, **EXACT)


def waves(num_rows: int, vocab_size: int, step: float) -> torch.Tensor:
    """theta[s, a] = sin(step k), k = s V + a: no two rows alike."""
    return torch.sin(step * torch.arange(num_rows * vocab_size).double()).reshape(num_rows, vocab_size)


def check_fixed_length(names=FIRST) -> None:
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[0.0, 1.0, 1.0, 0.25, 0.0, 1.0, 0.25, 0.0])
    check_methods(mdp, waves(7, 2, 1.0), waves(7, 2, 2.0), 3, names)


def check_rows_read_twice() -> None:
    moves = [[1, 2, 0], [2, 0, 1], [0, 1, 1]]
    mdp = TokenMDP.automaton(moves, 3, 2, [0.0, 1.0, 0.5], rows=[0, 1, 0], eos=2)
    check_methods(mdp, waves(2, 3, 1.0), waves(2, 3, 2.0), 3, FIRST)


def test_methods_agree_on_responses_of_one_length():
    check_fixed_length()


def test_methods_agree_where_rows_are_read_twice():
    check_rows_read_twice()


@FEWER
@given(mdps_with_two_policies(9) | mdps_with_masked_tokens(9), st.sampled_from(NAMES), st.integers(1, 3))
def test_every_method_agrees_with_every_ordered_group(case, name, G):
    G = max(G, 2) if name in NEED_TWO else G
    expected = second_moment_of_groups(case, name, G)
    for method in ("auto", "enumeration", "groups"):
        found = case_moments(case, name, G, method)
        assert found.second_moment == pytest.approx(expected, **{"abs": 1e-12, "rel": 1e-12})
        mean = expected_gradient(case.mdp, case.theta, case.theta_old, name, group_size=G)
        torch.testing.assert_close(found.mean, mean, **EXACT)


@FEWER
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


def check_prompts() -> None:
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
    endless_parts = [gradient_moments(mdp, *arguments, group_size=math.inf).mean for mdp in (first, second)]
    apart = 0.25 * 0.75 * float((endless_parts[0] - endless_parts[1]).square().sum())
    assert endless.variance == pytest.approx(apart, rel=1e-12)


def test_the_noise_of_drawing_a_prompt_is_counted():
    check_prompts()


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
    # The clip leaves squares of e^-720, of which float64 has no digit.
    with pytest.raises(
        ValueError, match=r"comes out as .*, below 1e-292, .* multiply the rewards by a constant"
    ):
        gradient_moments(coin(), *far, catalogue.tic_grpo(), group_size=2)
    bounded = gradient_moments(coin(), [[600.0, 0.0]], [[0.0, 600.0]], catalogue.tic_grpo(), group_size=2)
    assert bounded.ratio_second_moment > 1e250 and math.isfinite(bounded.variance)


def test_pairs_of_tokens_that_cost_too_much_are_refused_with_what_would_do():
    Q, V, T = 64, 512, 64
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


@pytest.mark.parametrize("group_size", [100, 1000])
def test_the_rounding_of_a_variance_covers_that_of_its_covariance(group_size):
    """g_hat = (s^2, -s^2) / (s + delta), s the standard deviation of the group: 2 Var(s^2 / (s + delta))."""
    G, delta = group_size, Decimal("1e-6")
    with localcontext(prec=60):
        chance = [Decimal(math.comb(G, n)) / Decimal(2) ** G for n in range(G + 1)]
        spreads = [Decimal(n * (G - n)).sqrt() / G for n in range(G + 1)]
        size = [s * s / (s + delta) for s in spreads]
        mean = sum(p * x for p, x in zip(chance, size, strict=True))
        expected = 2 * sum(p * (x - mean) ** 2 for p, x in zip(chance, size, strict=True))
        found = gradient_moments(coin(), odds(0.5), odds(0.5), catalogue.grpo(), G)
        error = float(abs(Decimal(found.variance) - expected))
    assert 0 < error <= found.variance_rounding < found.variance
