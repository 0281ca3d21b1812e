"""exact/answers.py: a Problem gives what the functions give, checks once, mixes no two thetas up."""

import dataclasses
import math

import pytest
import torch

from tests.instances.reference_instance import BINARY, OLD, TERNARY, THETA
from tests.instances.worlds_by_hand import coin, odds
from tests.properties.tolerances import MOVES, SAME_BITS, VISIBLE
from ticgrpo_theory.exact import Problem, expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.exact import problem as checked
from ticgrpo_theory.exact.expectation import choose_method
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.mdp import TokenMDP

PROMPTS = TokenMDP.mixture([BINARY, TERNARY], [0.25, 0.75], share_rows=True)
CASES = [(BINARY, "grpo"), (TERNARY, "tic_grpo"), (PROMPTS, "gspo")]


def objective(batch):
    """A black box: the token ratio times the reward, minus the mean of the group."""
    centred = batch.reward - batch.reward.mean(dim=-1, keepdim=True)
    ratio = (batch.logp - batch.logp_old).exp().where(batch.mask, 0.0)
    return (ratio * centred[..., None]).sum() / batch.reward.shape[-1]


@pytest.mark.parametrize(("mdp", "name"), CASES)
def test_every_answer_is_that_of_its_function(mdp, name):
    problem = Problem(mdp, THETA, OLD, name, 3)
    torch.testing.assert_close(problem.mean, expected_gradient(mdp, THETA, OLD, name, 3), **SAME_BITS)
    torch.testing.assert_close(problem.gradient, policy_gradient(mdp, THETA), **SAME_BITS)
    assert problem.scale == known_scale(mdp, OLD, name, 3)
    assert problem.method == choose_method(mdp, THETA, OLD, name, 3)
    moments = gradient_moments(mdp, THETA, OLD, name, 3)
    for field in dataclasses.fields(moments):
        found, expected = getattr(problem.moments, field.name), getattr(moments, field.name)
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(found, expected, **SAME_BITS)
        else:
            assert found == expected, field.name


def test_a_scale_by_least_squares_and_a_named_method_are_those_of_the_functions():
    problem = Problem(BINARY, THETA, OLD, "grpo", 3, "groups")
    assert problem.scale[1] == "least_squares"
    assert problem.scale == pytest.approx(known_scale(BINARY, OLD, "grpo", 3))
    assert problem.method == problem.moments.method == "groups"
    assert problem.moments.scale == gradient_moments(BINARY, THETA, OLD, "grpo", 3, "groups").scale


def test_all_answers_at_all_thetas_resolve_the_estimator_once(monkeypatch):
    resolved = []
    true = checked.resolve
    monkeypatch.setattr(checked, "resolve", lambda estimator: resolved.append(1) or true(estimator))
    problem = Problem(BINARY, THETA, OLD, "grpo", 3)
    for one in (problem, problem.old, problem.at(OLD), problem.at([[0.0, 0.5]] * 3)):
        assert all(x is not None for x in (one.mean, one.gradient, one.scale, one.moments, one.method))
    assert len(resolved) == 1
    expected_gradient(BINARY, THETA, OLD, "grpo", 3)
    assert len(resolved) == 2


def test_another_theta_has_answers_of_its_own_and_shares_those_at_theta_old():
    problem = Problem(BINARY, THETA, OLD, "grpo", 3)
    before, there = problem.mean, problem.moments
    other = problem.at([[0.0, 0.5]] * 3)
    assert float((other.mean - before).norm()) > VISIBLE
    assert abs(other.moments.variance - there.variance) > MOVES
    expected = expected_gradient(BINARY, [[0.0, 0.5]] * 3, OLD, "grpo", 3)
    torch.testing.assert_close(other.mean, expected, **SAME_BITS)
    assert other.old is problem.old and problem.at(OLD) is problem.old and problem.old.old is problem.old
    assert problem.old.drift == 0 and problem.drift > VISIBLE
    assert problem.mean is before


def test_answers_are_kept_and_what_they_were_listed_from_is_not():
    problem = Problem(BINARY, THETA, OLD, objective, 2)
    assert problem.mean is problem.mean
    assert problem.parts[0][1] is not problem.parts[0][1]
    assert "groups" not in vars(problem.one) and "responses" not in vars(problem.one)


def test_a_problem_does_not_change_under_its_answers():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Problem(BINARY, THETA, OLD, "grpo", 3).mdp = TERNARY  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"theta": [[math.nan, 0.0]] * 3}, "theta"),
        ({"theta_old": [[-800.0, 0.0]] * 3}, "policy that draws"),
        ({"theta_old": [[-math.inf, 0.0]] * 3, "theta_sampler": OLD}, "theta_sampler"),
        ({"estimator": "gpro"}, "grpo"),
        ({"estimator": "trajectory_is", "group_size": 1}, "1"),
    ],
)
def test_what_is_wrong_is_refused_when_the_problem_is_made(change, said):
    given = {"mdp": BINARY, "theta": THETA, "theta_old": OLD, "estimator": "grpo", "group_size": 3}
    with pytest.raises(ValueError, match=said):
        Problem(**given | change)


def test_a_theta_whose_token_is_drawn_too_rarely_is_refused():
    rare = [[-800.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    problem = Problem(BINARY, rare, rare, "grpo", 3)
    with pytest.raises(ValueError, match="policy that draws"):
        problem.at(OLD)


def test_nothing_is_sampled_unless_it_is_asked_for_by_name():
    with pytest.raises(NotAffordable, match="sampled"):
        assert Problem(BINARY, THETA, OLD, objective, 3, limit=1).mean is None
    drawn = Problem(BINARY, THETA, OLD, objective, 3, "sampled", limit=600, tolerance=1e-6)
    assert drawn.method == "sampled" and drawn.expectation.norm_half_width > 0
    with pytest.raises(ValueError, match="explain=True"):
        assert drawn.mean is None


def test_the_scale_of_a_coin_is_that_of_its_hand():
    # One token and a centred advantage: E[g_hat] = (1 - 1/G) grad J, whatever theta is.
    problem = Problem(coin(), odds(0.75), odds(0.5), "tic_grpo", 2)
    assert problem.old.gradient.tolist() == [[0.25, -0.25]]
    assert problem.scale == problem.old.scale == known_scale(coin(), odds(0.5), "tic_grpo", 2)
