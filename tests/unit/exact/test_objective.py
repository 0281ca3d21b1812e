"""exact/objective.py: J and grad J by both methods, against the oracle and exact fractions."""

import math

import pytest
import torch
from hypothesis import given

from tests.oracles.definitions import expected_return as oracle_return
from tests.oracles.definitions import policy_gradient as oracle_gradient
from tests.oracles.definitions import tree_world
from tests.oracles.rational import logits_of, rational_expected_return, rational_policy_gradient
from tests.properties.strategies import Case, mdps_with_masked_tokens, mdps_with_two_policies
from tests.properties.tolerances import EXACT, PRINTED, VISIBLE
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.mdp import TokenMDP

METHODS = ("dynamic_programming", "enumeration")


def double(numbers: list) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def over_prompts(case: Case, of_world) -> torch.Tensor:
    """sum_q weight_q of_world(world_q)."""
    return sum(weight * double(of_world(world)) for weight, world in case.prompts)


def check_value_and_gradient(case: Case) -> None:
    J = over_prompts(case, lambda world: oracle_return(world, case.theta))
    gradient = over_prompts(case, lambda world: oracle_gradient(world, case.theta))
    for method in METHODS:
        found = expected_return(case.mdp, case.theta, method)
        torch.testing.assert_close(double(found), J, **EXACT)
        torch.testing.assert_close(policy_gradient(case.mdp, case.theta, method), gradient, **EXACT)


@given(mdps_with_two_policies(largest=81))
def test_value_and_gradient_are_the_sums_over_all_responses(case):
    check_value_and_gradient(case)


@given(mdps_with_masked_tokens(largest=27))
def test_masked_tokens_have_no_part_in_either(case):
    check_value_and_gradient(case)


@pytest.mark.parametrize("method", METHODS)
def test_value_and_gradient_are_those_of_exact_fractions(method):
    """pi = n / sum n with small integers: J = 1/3 4/7 + 2/3 5/6 = 47/63, and the gradient is rational too."""
    integers = [[1, 2], [3, 4], [1, 5]]
    rewards = {(0, 0): 0, (0, 1): 1, (1, 0): 0, (1, 1): 1}
    world = tree_world(2, 2, lambda y: rewards[y])
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=lambda y: rewards[y])
    theta = logits_of(integers)
    J = rational_expected_return(world, integers)
    assert str(J) == "47/63"
    assert expected_return(mdp, theta, method) == pytest.approx(float(J), abs=EXACT["atol"])
    gradient = [[float(x) for x in row] for row in rational_policy_gradient(world, integers)]
    torch.testing.assert_close(policy_gradient(mdp, theta, method), double(gradient), **EXACT)


def check_two_prompts() -> None:
    """Weights 1/4, 3/4, one row, p = 3/4: J = p/4 + 3(1 - p)/4 = 3/8, dJ/dtheta_0 = p(1 - p)(1/4 - 3/4)."""
    right, wrong = (TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=r) for r in ([1.0, 0.0], [0.0, 1.0]))
    mdp = TokenMDP.mixture([right, wrong], [0.25, 0.75], share_rows=True)
    theta = [[math.log(3.0), 0.0]]
    for method in METHODS:
        assert expected_return(mdp, theta, method) == pytest.approx(3 / 8, abs=EXACT["atol"])
        gradient = policy_gradient(mdp, theta, method)
        torch.testing.assert_close(gradient, double([[-3 / 32, 3 / 32]]), **EXACT)


def test_two_prompts_by_hand():
    check_two_prompts()


def test_the_gradient_is_the_derivative_of_the_value():
    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=lambda y: float(sum(y) == 3), eos=2)
    theta = double([[((3 * s + 5 * a) % 7) / 8 for a in range(3)] for s in range(mdp.num_rows)])
    gradient, step = policy_gradient(mdp, theta), 1e-5
    for s in range(mdp.num_rows):
        for a in range(3):
            move = torch.zeros_like(theta)
            move[s, a] = step
            slope = (expected_return(mdp, theta + move) - expected_return(mdp, theta - move)) / (2 * step)
            assert slope == pytest.approx(float(gradient[s, a]), abs=1e-9)
    assert float(gradient.abs().max()) > VISIBLE


# V = 2, T = 3, EOS = 1: responses (000), (001), (01), (1), rows (), (0), (00).
OLD = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
THETA = [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
REFERENCE = [
    ([1.0, 0.0, 0.0, 1.0], OLD, 0.5424853053, 0.3035890491),
    ([1.0, 0.0, 0.0, 1.0], THETA, 0.3233051781, 0.2379847023),
    ([1.0, 0.3, 0.0, 1.0], OLD, 0.6064022202, 0.2711874735),
    ([1.0, 0.3, 0.0, 1.0], THETA, 0.3422955708, 0.2437909872),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reward, theta, J, norm", REFERENCE)
def test_the_reference_instance_to_the_printed_digits(reward, theta, J, norm, method):
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=reward, eos=1)
    found = double([expected_return(mdp, theta, method), float(policy_gradient(mdp, theta, method).norm())])
    torch.testing.assert_close(found, double([J, norm]), **PRINTED(10))


@pytest.mark.usefixtures("unchecked_signatures")
@pytest.mark.parametrize("f", [expected_return, policy_gradient])
def test_bad_logits_and_unknown_methods_are_refused(f):
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"theta\[0, 1\] = nan: logits must be finite, or -inf to mask"):
        f(mdp, [[0.0, math.nan]])
    with pytest.raises(ValueError, match=r"theta has shape \(2, 2\); this world needs \(S, V\) = \(1, 2\)"):
        f(mdp, [[0.0, 0.0], [0.0, 0.0]])
    with pytest.raises(
        ValueError, match=r"method = 'sampling': choose 'dynamic_programming' or 'enumeration'"
    ):
        f(mdp, [[0.0, 0.0]], "sampling")


def test_enumeration_of_a_long_world_is_refused_and_dynamic_programming_is_not():
    mdp = TokenMDP.automaton([[0, 1], [1, 0]], vocab_size=2, horizon=40, reward=[0.0, 1.0], rows="state")
    with pytest.raises(ValueError, match=r"1,099,511,627,776 responses token by token, more than MAX_PATHS"):
        expected_return(mdp, [[0.0, 0.0]] * 2, "enumeration")
    # A fair coin in both states: the parity of forty of them is fair.
    assert expected_return(mdp, [[0.0, 0.0]] * 2) == pytest.approx(0.5, abs=EXACT["atol"])
