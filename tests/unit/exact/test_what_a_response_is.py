"""A callable sees which tokens a response has, and whether it was cut, wherever groups are made."""

import itertools

import pytest
import torch

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators.losses import Objective
from ticgrpo_theory.exact import expected_gradient, gradient_moments, reuse_bias
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import simulate

# Responses 00, 01, 1 with EOS = 1; rows () and (0). Only 00 is cut.
MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.0], eos=1)
OLD = torch.tensor([[0.2, -0.1], [0.3, 0.0]], dtype=torch.float64)
THETA = torch.tensor([[0.7, -0.4], [-0.1, 0.3]], dtype=torch.float64)
RESPONSES = [((0, 0), 1.0), ((0, 1), 0.0), ((1,), 0.0)]


def zeros_that_end(batch):
    """sum logp of the tokens 0 of responses that were not cut, over all rows."""
    counted = batch.mask & (batch.tokens == 0) & ~batch.truncated[:, None]
    return batch.logp.where(counted, 0.0).sum() / len(batch.reward)


def zeros(batch):
    """The same of all responses."""
    return batch.logp.where(batch.mask & (batch.tokens == 0), 0.0).sum() / len(batch.reward)


def by_definition(counts, G):
    """E of the mean over G responses of sum_t log pi(a_t) 1{counts(tokens, t)}: every ordered group."""
    theta = THETA.clone().requires_grad_()
    now, old = torch.log_softmax(theta, -1), torch.log_softmax(OLD, -1)
    total = torch.zeros((), dtype=torch.float64)
    for group in itertools.product(RESPONSES, repeat=G):
        probability, value = 1.0, torch.zeros((), dtype=torch.float64)
        for tokens, _ in group:
            for t, a in enumerate(tokens):
                probability = probability * float(old[t, a].exp())
                value = value + (now[t, a] / G if counts(tokens, t) else 0.0)
        total = total + probability * value
    return torch.autograd.grad(total, theta)[0]


def test_tokens_and_truncation_by_hand():
    # Of 01 alone: its token 0 of row (), so that M[0, 0] = P_old(01), and the pull-back at theta.
    old, now = torch.softmax(OLD, -1), torch.softmax(THETA, -1)
    mass = float(old[0, 0] * old[1, 1])
    moved = mass * float(now[0, 1])
    expected = torch.tensor([[moved, -moved], [0.0, 0.0]], dtype=torch.float64)
    found = expected_gradient(MDP, THETA, OLD, zeros_that_end, 2)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("scope", ["group", "batch"])
def test_callables_of_either_scope_agree_with_every_ordered_group(scope):
    ended = by_definition(lambda tokens, t: tokens[t] == 0 and tokens != (0, 0), 2)
    every = by_definition(lambda tokens, t: tokens[t] == 0, 2)
    options = {"prompts": 1, "scope": scope} if scope == "batch" else {}
    found = expected_gradient(MDP, THETA, OLD, zeros_that_end, 2, **options)
    torch.testing.assert_close(found, ended, **EXACT)
    torch.testing.assert_close(expected_gradient(MDP, THETA, OLD, zeros, 2, **options), every, **EXACT)
    assert float((ended - every).abs().max()) > VISIBLE  # what is cut matters


def test_moments_and_reuse_hand_them_over():
    expected = expected_gradient(MDP, THETA, OLD, zeros_that_end, 2)
    torch.testing.assert_close(gradient_moments(MDP, THETA, OLD, zeros_that_end, 2).mean, expected, **EXACT)
    reuse = reuse_bias(MDP, OLD, zeros_that_end, 2, 1, 0.1)
    at_old = expected_gradient(MDP, OLD, OLD, zeros_that_end, 2)
    torch.testing.assert_close(reuse.gradient[0], at_old, **EXACT)
    assert float((reuse.gradient[1] - at_old).abs().max()) > VISIBLE / 10


def test_a_sample_hands_them_over():
    found = expected_gradient(
        MDP, THETA, OLD, zeros_that_end, 2, method="sampled", tolerance=0.1, explain=True
    )
    exact = expected_gradient(MDP, THETA, OLD, zeros_that_end, 2)
    assert float((found.value - exact).norm()) <= found.norm_half_width


def test_a_simulation_hands_over_tokens_and_says_what_it_does_not_know():
    options = dict(group_size=2, learning_rate=0.1, inner_steps=1, outer_steps=1, replicates=4000, seed=3)
    moved = simulate(MDP, THETA, Objective(zeros), **options).theta - THETA
    expected = 0.1 * expected_gradient(MDP, THETA, THETA, zeros, 2)
    error = moved.std(dim=0) / 4000**0.5
    assert bool(((moved.mean(dim=0) - expected).abs() <= 5 * error + 1e-15).all())
    assert float(expected.abs().max()) > 10 * float(error.max())
    with pytest.raises(ValueError, match=r"not known here: .*batch\.truncated.*ask expected_gradient"):
        simulate(MDP, THETA, Objective(zeros_that_end), **options)
