"""divergence.py: KL to a reference, of responses, per token and frozen, against its definitions."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import literal
from tests.oracles.definitions import World, log_policy, probabilities, token_logps, tree_world
from tests.properties.strategies import mdps_with_masked_tokens, mdps_with_two_policies, tables
from tests.properties.tolerances import DIFFERENCED, EXACT, VISIBLE
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact.penalties.divergence import (
    cost_gradient,
    expected_divergence,
    frozen_divergence,
    half_squared,
    kl_from_reference,
    kl_to_reference,
)
from ticgrpo_theory.mdp import TokenMDP

Matrix = list[list[float]]

COSTS: dict[Callable, Callable[[float, float], float]] = {
    kl_to_reference: lambda p, q: p * math.log(p / q),
    kl_from_reference: lambda p, q: q * math.log(q / p),
    half_squared: lambda p, q: p * math.log(p / q) ** 2 / 2,
}
SCALES: dict[Callable, Callable[[int, int], float]] = {
    sequence_sum: lambda length, horizon: 1.0,
    sequence_mean: lambda length, horizon: 1.0 / length,
    constant: lambda length, horizon: 1.0 / horizon,
}


def tensor(table: Matrix) -> torch.Tensor:
    return torch.tensor(table, dtype=torch.float64)


def row_cost(cost: Callable, theta: list[float], reference: list[float]) -> float:
    """The cost of one row, summed over the tokens that theta allows."""
    (logp,), (logq,) = log_policy([theta]), log_policy([reference])
    pairs = [(math.exp(x), math.exp(y)) for x, y in zip(logp, logq, strict=True) if x > -math.inf]
    return math.fsum(COSTS[cost](p, q) for p, q in pairs)


def definition(
    prompts: list[tuple[float, World]],
    visiting: Matrix,
    theta: Matrix,
    reference: Matrix,
    cost: Callable,
    scale: Callable,
    horizon: int,
) -> float:
    """sum over prompts and responses of q P_visiting(y) scale(|y|) sum_t cost(row of t)."""
    total = 0.0
    for q, world in prompts:
        for P, (_, rows, _) in zip(probabilities(world, visiting), world.responses, strict=True):
            costs = math.fsum(row_cost(cost, theta[s], reference[s]) for s in rows)
            total += q * P * SCALES[scale](len(rows), horizon) * costs
    return total


@st.composite
def cases_with_reference(draw, masked: bool = False):
    """A world with theta and theta_old, and a reference that allows every token."""
    case = draw(mdps_with_masked_tokens() if masked else mdps_with_two_policies())
    return case, draw(tables(len(case.theta), len(case.theta[0])))


# By hand: pi_theta = (3/4, 1/4), pi_ref = (1/2, 1/2), d = (log 3/2, -log 2).
THETA, UNIFORM = [math.log(3.0), 0.0], [0.0, 0.0]
KL = 0.75 * math.log(1.5) - 0.25 * math.log(2.0)


def test_costs_of_a_row_and_their_gradients_by_hand():
    theta, reference, up, down = tensor([THETA]), tensor([UNIFORM]), math.log(1.5), -math.log(2.0)
    # E_pi[f] moves by Cov(f, psi): 3/4 x 1/4 times the difference of f between the tokens.
    half = 0.1875 * (up**2 / 2 + up - down**2 / 2 - down)
    by_hand = {
        kl_to_reference: (KL, [0.1875 * (up - down), -0.1875 * (up - down)]),
        kl_from_reference: (-up / 2 - down / 2, [0.75 - 0.5, 0.25 - 0.5]),
        half_squared: (0.375 * up**2 + 0.125 * down**2, [half, -half]),
    }
    for cost, (value, gradient) in by_hand.items():
        assert cost(theta, reference).item() == pytest.approx(value, abs=EXACT["atol"])
        torch.testing.assert_close(cost_gradient(cost, theta, reference), tensor([gradient]), **EXACT)


def stopping(reward: float = 0.0) -> TokenMDP:
    """Two tokens at most, EOS is token 1: responses (0,0), (0,1), (1)."""
    return TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=lambda y: reward)


def test_of_responses_and_per_token_by_hand():
    # The first token stops with probability 1/4; else a second state is visited, where pi = (1/4, 3/4).
    theta, reference = [THETA, THETA[::-1]], [UNIFORM, UNIFORM]
    of_responses = expected_divergence(stopping(), theta, reference)
    assert of_responses.value == pytest.approx(KL + 0.75 * KL, abs=EXACT["atol"])
    per_token = expected_divergence(stopping(), theta, reference, scale=sequence_mean)
    assert per_token.value == pytest.approx(0.25 * KL + 0.75 * (KL + KL) / 2, abs=EXACT["atol"])
    # At the first row: its own KL, and the second state, which is reached more often and costs KL.
    first = 0.1875 * (math.log(3.0) + KL)
    second = -0.75 * 0.1875 * math.log(3.0)
    torch.testing.assert_close(of_responses.gradient, tensor([[first, -first], [second, -second]]), **EXACT)
    frozen = frozen_divergence(stopping(), theta, reference, reference)
    assert frozen.value == pytest.approx(KL + 0.5 * KL, abs=EXACT["atol"])


@given(cases_with_reference())
def test_the_divergence_of_responses_is_the_mean_log_ratio_of_their_probabilities(drawn):
    case, reference = drawn
    expected = 0.0
    for q, world in case.prompts:
        pairs = zip(token_logps(world, case.theta), token_logps(world, reference), strict=True)
        expected += q * math.fsum(math.exp(sum(x)) * (sum(x) - sum(y)) for x, y in pairs)
    assert expected_divergence(case.mdp, case.theta, reference).value == pytest.approx(
        expected, abs=EXACT["atol"]
    )


@given(cases_with_reference(), st.sampled_from(list(COSTS)), st.sampled_from(list(SCALES)))
def test_both_methods_agree_with_the_definition(drawn, cost, scale):
    case, reference = drawn
    expected = definition(case.prompts, case.theta, case.theta, reference, cost, scale, case.mdp.horizon)
    dynamic = expected_divergence(case.mdp, case.theta, reference, cost, scale)
    enumerated = expected_divergence(case.mdp, case.theta, reference, cost, scale, "enumeration")
    for value in (dynamic.value, enumerated.value):
        assert value == pytest.approx(expected, abs=EXACT["atol"], rel=EXACT["rtol"])
    torch.testing.assert_close(dynamic.gradient, enumerated.gradient, **EXACT)


@given(cases_with_reference(), st.sampled_from(list(COSTS)), st.sampled_from(list(SCALES)))
def test_gradients_are_differences_of_the_definition(drawn, cost, scale):
    case, reference = drawn
    T = case.mdp.horizon

    def of(visiting: Callable[[Matrix], Matrix]) -> torch.Tensor:
        def value(theta: Matrix) -> float:
            return definition(case.prompts, visiting(theta), theta, reference, cost, scale, T)

        return tensor(literal.central_difference(value, case.theta))

    found = expected_divergence(case.mdp, case.theta, reference, cost, scale).gradient
    torch.testing.assert_close(found, of(lambda theta: theta), **DIFFERENCED)
    frozen = frozen_divergence(case.mdp, case.theta, case.theta_old, reference, cost, scale)
    torch.testing.assert_close(frozen.gradient, of(lambda theta: case.theta_old), **DIFFERENCED)
    expected = definition(case.prompts, case.theta_old, case.theta, reference, cost, scale, T)
    assert frozen.value == pytest.approx(expected, abs=EXACT["atol"], rel=EXACT["rtol"])


def test_what_the_first_tokens_cost_moves_later_ones_while_the_length_is_open():
    # Three tokens at most, EOS is 1: a stop after two tokens halves what the first cost, later it is a third.
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=lambda y: 0.0)
    theta, reference = [THETA, [0.5, 0.0], [0.0, 1.0]], [[-1.0, 1.0], [0.5, 0.0], [0.0, 1.0]]
    prompts = [(1.0, tree_world(2, 3, lambda y: 0.0, eos=1))]

    def value(table: Matrix) -> float:
        return definition(prompts, table, table, reference, kl_to_reference, sequence_mean, 3)

    found = expected_divergence(mdp, theta, reference, scale=sequence_mean).gradient
    torch.testing.assert_close(found, tensor(literal.central_difference(value, theta)), **DIFFERENCED)
    # Rows 1 and 2 equal the reference: all that moves them is the cost of row 0.
    assert found[1].abs().max() > VISIBLE


WITNESS = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=lambda y: float(y == (0, 1)))
POLICY = tensor([[0.5, 0.0], [-0.5, 0.5], [1.0, 0.0]])
REFERENCE = tensor([[0.0, 0.25], [0.5, -0.5], [0.0, 0.0]])


def test_the_frozen_gradient_is_another_one_beyond_the_first_token():
    of_responses = expected_divergence(WITNESS, POLICY, REFERENCE)
    frozen = frozen_divergence(WITNESS, POLICY, POLICY, REFERENCE)
    assert of_responses.value == pytest.approx(frozen.value, abs=EXACT["atol"])
    gap = of_responses.gradient - frozen.gradient
    assert gap.norm() > VISIBLE
    # It is the part of theta in which states come next, and the last states have none after them.
    assert float(gap[0].norm()) == pytest.approx(float(gap.norm()), abs=EXACT["atol"])


def test_per_token_divergences_differ_from_sampled_ones():
    # 1/|y| is 1 just where the first token is EOS, so it does not average over that token.
    theta, reference = [THETA, THETA[::-1]], [UNIFORM, UNIFORM]
    up, down = math.log(1.5), -math.log(2.0)
    sampled = 0.25 * down + 0.75 * (0.25 * (up + down) / 2 + 0.75 * (up + up) / 2)
    exact = expected_divergence(stopping(), theta, reference, scale=sequence_mean).value
    assert abs(exact - sampled) > VISIBLE


@pytest.mark.parametrize("T", [1, 1000])
def test_a_shared_row_adds_up_at_any_horizon(T):
    one_state = TokenMDP.automaton([[0, 0]], vocab_size=2, horizon=T, reward=[0.0], rows="state")
    found = expected_divergence(one_state, [THETA], [UNIFORM])
    assert found.value == pytest.approx(T * KL, rel=EXACT["rtol"])
    grad = cost_gradient(kl_to_reference, tensor([THETA]), tensor([UNIFORM]))
    torch.testing.assert_close(found.gradient, T * grad, **EXACT)
    mean = expected_divergence(one_state, [THETA], [UNIFORM], scale=sequence_mean)
    torch.testing.assert_close(mean.gradient, grad, **EXACT)


@given(cases_with_reference(masked=True))
def test_tokens_that_theta_masks_add_nothing(drawn):
    case, reference = drawn
    for scale in SCALES:
        expected = definition(
            case.prompts, case.theta, case.theta, reference, kl_to_reference, scale, case.mdp.horizon
        )
        both = [
            expected_divergence(case.mdp, case.theta, reference, kl_to_reference, scale, method)
            for method in ("dynamic_programming", "enumeration")
        ]
        for found in both:
            assert found.value == pytest.approx(expected, abs=EXACT["atol"], rel=EXACT["rtol"])
            assert bool((found.gradient[tensor(case.theta) == -math.inf] == 0).all())
        torch.testing.assert_close(both[0].gradient, both[1].gradient, **EXACT)


@given(cases_with_reference())
def test_no_distance_to_itself(drawn):
    case, _ = drawn
    for cost in COSTS:
        found = expected_divergence(case.mdp, case.theta, case.theta, cost)
        assert found.value == pytest.approx(0.0, abs=EXACT["atol"])
        torch.testing.assert_close(found.gradient, torch.zeros_like(found.gradient), **EXACT)


def test_an_infinite_divergence_is_refused_and_names_row_and_tokens():
    masked = POLICY.clone()
    masked[1, 0] = -math.inf
    message = r"kl_to_reference is inf in row 1: theta gives tokens \[\] .* zero and theta_ref tokens \[0\]"
    for method in ("dynamic_programming", "enumeration"):
        with pytest.raises(ValueError, match=message):
            expected_divergence(WITNESS, POLICY, masked, method=method)
    with pytest.raises(ValueError, match=message):
        frozen_divergence(WITNESS, POLICY, POLICY, masked)
    with pytest.raises(ValueError, match=r"kl_from_reference is inf in row 1: theta gives tokens \[0\]"):
        expected_divergence(WITNESS, masked, REFERENCE, kl_from_reference)
    # The other way round the token is merely never drawn, and masked in both it is no token at all.
    assert math.isfinite(expected_divergence(WITNESS, masked, REFERENCE).value)
    assert expected_divergence(WITNESS, masked, masked).value == 0.0


def test_bad_input_is_refused():
    with pytest.raises(
        ValueError, match=r"theta_ref has shape \(2, 2\); this world needs \(S, V\) = \(3, 2\)"
    ):
        expected_divergence(WITNESS, POLICY, REFERENCE[:2])
    with pytest.raises(ValueError, match=r"theta_old\[0, 1\] = nan"):
        frozen_divergence(WITNESS, POLICY, np.array([[0.0, math.nan], [0, 0], [0, 0]]), REFERENCE)
    with pytest.raises(ValueError, match="choose 'dynamic_programming' or 'enumeration'"):
        # Below the check of signatures, which tests add and users do not have.
        inspect.unwrap(expected_divergence)(WITNESS, POLICY, REFERENCE, method="groups")


def test_a_group_of_one_makes_token_mean_and_sequence_mean_one_scale():
    one, other = (
        expected_divergence(stopping(), [THETA, UNIFORM], [UNIFORM] * 2, scale=scale)
        for scale in (token_mean, sequence_mean)
    )
    torch.testing.assert_close(one.gradient, other.gradient, **EXACT)
