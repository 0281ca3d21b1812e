"""exact/expectation.py: every bad request is refused with the value, the limit and the way out."""

import dataclasses
import math

import pytest
import torch

from tests.instances.reference_instance import BINARY, OLD, THETA
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.penalties import k1, kl_loss, kl_reward
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.mdp import TokenMDP

NAMES = sorted(FIRST)
INF, NAN = math.inf, math.nan


def changed(table: list[list[float]], row: int, token: int, value: float) -> list[list[float]]:
    return [[value if (s, a) == (row, token) else x for a, x in enumerate(xs)] for s, xs in enumerate(table)]


BAD_LOGITS = [
    (changed(THETA, 1, 0, NAN), OLD, r"theta\[1, 0\] = nan: logits must be finite, or -inf to mask a token"),
    (THETA, changed(OLD, 2, 1, INF), r"theta_old\[2, 1\] = inf: logits must be finite"),
    (
        changed(changed(THETA, 0, 0, -INF), 0, 1, -INF),
        OLD,
        r"theta\[0\] is -inf for every token: leave at least one",
    ),
    (THETA[:2], OLD, r"theta has shape \(2, 2\); this world needs \(S, V\) = \(3, 2\)"),
    (THETA, [row * 2 for row in OLD], r"theta_old has shape \(3, 4\); this world needs"),
]


@pytest.mark.parametrize("theta, theta_old, message", BAD_LOGITS)
def test_bad_logits_are_refused(theta, theta_old, message):
    with pytest.raises(ValueError, match=message):
        expected_gradient(BINARY, theta, theta_old, "grpo", 4)


@pytest.mark.parametrize("name", NAMES)
def test_a_token_that_theta_old_draws_too_rarely_for_float64_is_refused_for_every_estimator(name):
    message = r"row 1, token 0 has the logit -800 under the policy that draws .* no digits; .* or -inf"
    with pytest.raises(ValueError, match=message):
        expected_gradient(BINARY, THETA, changed(OLD, 1, 0, -800.0), name, 4)


BAD_GROUPS = [
    ("grpo", 0, r"group_size = 0: a group has a whole number >= 1 of responses, or math\.inf of them"),
    ("grpo", -2, r"group_size = -2: a group has a whole number"),
    ("grpo", 2.5, r"group_size = 2\.5: a group has a whole number"),
    ("grpo", NAN, r"group_size = nan: a group has a whole number"),
    ("grpo", -INF, r"group_size = -inf: a group has a whole number"),
    (
        "rloo",
        1,
        r"leave_one_out\(\) is undefined for a group of 1; it needs group_size >= 2: draw more responses",
    ),
    ("trajectory_is", 1, r"leave_one_out\(\) is undefined for a group of 1"),
]


@pytest.mark.parametrize("name, group_size, message", BAD_GROUPS)
def test_impossible_group_sizes_are_refused(name, group_size, message):
    with pytest.raises(ValueError, match=message):
        expected_gradient(BINARY, THETA, OLD, name, group_size)


def test_an_unknown_estimator_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"unknown estimator 'tic_gpro'; nearest names: .*tic_grpo"):
        expected_gradient(BINARY, THETA, OLD, "tic_gpro", 4)


@pytest.mark.usefixtures("unchecked_signatures")
def test_what_is_no_estimator_or_no_method_is_refused():
    with pytest.raises(
        ValueError, match=r"estimator 7 is neither a name, an Estimator, from_loss\(\.\.\.\), nor a call"
    ):
        expected_gradient(BINARY, THETA, OLD, 7, 4)
    with pytest.raises(
        ValueError, match=r"method = 'sampling': choose 'auto', 'dynamic_programming', 'enumeration', "
    ):
        expected_gradient(BINARY, THETA, OLD, "grpo", 4, method="sampling")


def test_a_clip_on_the_whole_response_is_refused_by_dynamic_programming_with_the_method_that_would_do():
    message = (
        r"method='dynamic_programming' .* tic_grpo: its clip depends on more than one token; use method='enum"
    )
    with pytest.raises(ValueError, match=message):
        expected_gradient(BINARY, THETA, OLD, "tic_grpo", 4, "dynamic_programming")


def test_a_penalty_without_a_reference_or_beyond_its_support_is_refused():
    for penalty in (kl_loss(k1, 0.1), kl_reward(k1, 0.1)):
        estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=penalty)
        with pytest.raises(
            ValueError, match=r"compares with a reference policy: give theta_ref=\.\.\. \(logits"
        ):
            expected_gradient(BINARY, THETA, OLD, estimator, 4)
        with pytest.raises(
            ValueError, match=r"row 0, token 1 has probability zero under theta_ref but not under the pol"
        ):
            expected_gradient(BINARY, THETA, OLD, estimator, 4, theta_ref=changed(OLD, 0, 1, -INF))


LONG = TokenMDP.automaton([[0, 1], [1, 0]], vocab_size=2, horizon=64, reward=[0.0, 1.0], rows="state")


def test_an_enumeration_that_is_too_large_is_refused_before_allocating():
    tables = ([[0.25, 0.0]] * 2, [[0.0, 0.0]] * 2)
    for method in ("enumeration", "groups"):
        with pytest.raises(
            ValueError, match=r"would expand .* responses token by token, more than MAX_PATHS = 4,194,304"
        ):
            expected_gradient(LONG, *tables, "grpo", 4, method)
    # The parity of 64 tokens is fair, so dynamic programming has an answer: finite and not zero.
    found = expected_gradient(LONG, *tables, "grpo", 4)
    assert bool(torch.isfinite(found).all()) and float(found.abs().max()) > 0


def test_too_many_groups_are_refused_with_the_cheaper_method():
    mdp = TokenMDP.prefix_tree(vocab_size=4, horizon=3, reward=lambda y: float(y[0] == y[1]))
    table = torch.zeros(mdp.num_rows, 4, dtype=torch.float64)
    message = (
        r"\(N, G\) = \(64, 16\) has C\(N\+G-1, G\) = .* MAX_GROUPS = .*; use method='dynamic_programming'"
    )
    with pytest.raises(ValueError, match=message):
        expected_gradient(mdp, table, table, "grpo", 16, "groups")


SQUARE = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 1.0, 0.25])
EVEN = [[0.0, 0.0]] * 3
OPPOSED = [[500.0, -500.0]] * 3, [[-500.0, 500.0]] * 3
LATER = [[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]], [[0.0, 0.0], [0.0, 1000.0], [1000.0, 0.0]]
EVERY = ("auto", "dynamic_programming", "enumeration", "groups")


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("theta, theta_old", [OPPOSED, LATER])
def test_log_ratios_of_a_thousand_are_refused_because_theta_old_never_draws_the_token(
    theta, theta_old, method
):
    for name in NAMES:
        with pytest.raises(
            ValueError, match=r"row \d, token 0 has the logit -?\d+ under the policy that draws"
        ):
            expected_gradient(SQUARE, theta, theta_old, name, 3, method)


# A token 1000 less likely under theta; ratios of e^690 that float64 holds, of one token and of two.
FAR = [
    ([[1000.0, 0.0], *EVEN[1:]], EVEN),
    ([EVEN[0], [345.0, 0.0], EVEN[2]], [EVEN[0], [0.0, 345.0], EVEN[2]]),
    ([[345.0, 0.0], [345.0, 0.0], EVEN[2]], [[0.0, 345.0], [0.0, 345.0], EVEN[2]]),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theta, theta_old", FAR)
def test_very_different_policies_give_the_true_number_or_a_refusal_and_never_nan(name, theta, theta_old):
    answers = []
    for method in EVERY:
        try:
            answers.append(expected_gradient(SQUARE, theta, theta_old, name, 3, method))
        except ValueError as why:
            assert any(
                text in str(why)
                for text in ("policy that draws", "overflows", "method='dynamic_programming'")
            )
    assert answers
    for found in answers:
        torch.testing.assert_close(found, answers[0], **EXACT)
        if name == "trajectory_is":
            torch.testing.assert_close(found, policy_gradient(SQUARE, theta), **EXACT)


def test_responses_that_theta_old_never_draws_are_refused_although_each_of_their_tokens_is_drawn():
    """Two tokens 400 apart each: the response has probability e^-800 under theta_old, 0 in float64."""
    theta, theta_old = [[400.0, 0.0], [400.0, 0.0], EVEN[2]], [[0.0, 400.0], [0.0, 400.0], EVEN[2]]
    message = r"response \[0, 0\] has log-probability -800 under theta_old, .* 0 in float64, but 0 under"
    for method in ("enumeration", "groups"):
        with pytest.raises(ValueError, match=message):
            expected_gradient(SQUARE, theta, theta_old, "trajectory_is", 3, method)
    for name in ("trajectory_is", "prefix_is"):
        with pytest.raises(
            ValueError, match=r"responses of weight 1 in all have probability 0 in float64 under the policy"
        ):
            expected_gradient(SQUARE, theta, theta_old, name, 3)


def test_what_neither_policy_ever_draws_is_no_reason_to_refuse():
    """Probability e^-800 under both, or e^-120 under theta: nothing is lost."""
    theta_old = [[0.0, 400.0], [0.0, 400.0], EVEN[2]]
    for theta in (theta_old, [[0.0, 60.0], [0.0, 60.0], EVEN[2]]):
        for method in EVERY:
            found = expected_gradient(SQUARE, theta, theta_old, "trajectory_is", 3, method)
            torch.testing.assert_close(found, policy_gradient(SQUARE, theta), **EXACT)
