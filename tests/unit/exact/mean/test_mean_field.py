"""mean_field.py: the same numbers as expected_gradient, whatever formula, and the printed gains."""

import dataclasses
import math

import pytest
import torch

from tests.properties.tolerances import EXACT, MOVES, PRINTED
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import current, old
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.ratios import none, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.exact.mean.mean_field import MeanField
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS, first_token, zeros_counted

NAMES = ("grpo", "no_is", "stale", "tic_grpo", "tic_grpo_released", "gspo", "gmpo", "rloo", "trajectory_is")
PLACES = ("xor", "long-answers", "few-values", "two-prompts", "length-trap")


def pairs(mdp: TokenMDP, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Three policies and three old ones, all different."""
    wave = torch.cos(torch.arange(theta.numel(), dtype=torch.float64)).reshape(theta.shape)
    olds = torch.stack([theta, theta + 0.3 * wave, theta - 0.2 * wave])
    return olds + 0.4 * torch.stack([wave, wave.flip(0) * 0.5 - 0.2 * wave, -wave]), olds


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_has_the_mean_of_infinite_groups(name, place):
    mdp = WORLDS[place].build()
    theta, theta_old = pairs(mdp, WORLDS[place].theta_old(mdp))
    field = MeanField(mdp, ESTIMATORS[name])(theta, theta_old)
    for found, at, from_old in zip(field, theta, theta_old, strict=True):
        expected = expected_gradient(mdp, at, from_old, name, math.inf)
        torch.testing.assert_close(found, expected, **EXACT)


def test_the_old_policy_matters_unless_the_whole_response_is_reweighted():
    mdp = WORLDS["long-answers"].build()
    theta, theta_old = pairs(mdp, WORLDS["long-answers"].theta_old(mdp))
    for name, moves in (("grpo", True), ("stale", True), ("trajectory_is", False)):
        field = MeanField(mdp, ESTIMATORS[name])
        gap = (field(theta, theta_old) - field(theta, theta_old.flip(0)))[0].norm()
        assert float(gap) > MOVES if moves else float(gap) < EXACT["atol"]


def preorder(mdp: TokenMDP) -> torch.Tensor:
    """theta[i, a] = 0.1 ((3 i + 5 a) mod 7) - 0.3, i the place of a prefix in depth-first preorder."""
    place = {prefix: i for i, prefix in enumerate(sorted(mdp.prefixes))}
    rows = [
        [0.1 * ((3 * place[prefix] + 5 * a) % 7) - 0.3 for a in range(mdp.vocab_size)]
        for prefix in mdp.prefixes
    ]
    return torch.tensor(rows, dtype=torch.float64)


def tree_of_two() -> tuple[TokenMDP, torch.Tensor]:
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[1.0, 0, 0, 1, 0, 1, 0, 0])
    return mdp, preorder(mdp)


def tree_of_three() -> tuple[TokenMDP, torch.Tensor]:
    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=lambda y: float(sum(y) == 3))
    return mdp, preorder(mdp)


def one_row() -> tuple[TokenMDP, torch.Tensor]:
    return zeros_counted(4, lambda zeros: zeros == 2), torch.tensor([[0.4, -0.4]], dtype=torch.float64)


GAINS = [
    # J, ||grad J||^2, gains of the trajectory ratio over the token ratio and over the gradient held.
    (tree_of_two, 0.4036817958, 4.3249353590e-2, 1.437006e-8, 5.151044e-9),
    (tree_of_three, 0.2840324056, 1.0428212405e-2, 1.949837e-9, 3.159592e-9),
    (one_row, 0.2745441496, 8.7049223086e-2, -2.042554e-7, -1.004235e-7),
]


def gain(mdp: TokenMDP, theta: torch.Tensor, ratio, score=current) -> float:
    """J(theta_K) - J(theta) of four steps of 0.002 with z = (r - mu) / sigma, without clip."""
    field = MeanField(mdp, Estimator(ratio, population(), unclipped(), sequence_mean, score=score))
    moved = field.outer_step(theta[None], torch.tensor([0.002], dtype=torch.float64), 4)[0]
    return expected_return(mdp, moved) - expected_return(mdp, theta)


@pytest.mark.parametrize("world, J, gradient_sq, over_token, over_stale", GAINS)
def test_the_gains_of_infinite_groups_come_out_to_the_printed_digits(
    world, J, gradient_sq, over_token, over_stale
):
    mdp, theta = world()
    assert expected_return(mdp, theta) == pytest.approx(J, abs=PRINTED(10)["atol"])
    assert float(policy_gradient(mdp, theta).square().sum()) == pytest.approx(
        gradient_sq, abs=PRINTED(12)["atol"]
    )
    most = gain(mdp, theta, trajectory)
    # Seven digits are printed; a gain is a difference of two J, which leaves 1e-16 of rounding.
    assert most - gain(mdp, theta, token) == pytest.approx(over_token, rel=5e-7, abs=2e-16)
    assert most - gain(mdp, theta, none, old) == pytest.approx(over_stale, rel=5e-7, abs=2e-16)


def test_steps_are_taken_one_after_another_and_outer_steps_take_theta_old_along():
    mdp = WORLDS["bigram"].build()
    theta = WORLDS["bigram"].theta_old(mdp)
    field = MeanField(mdp, ESTIMATORS["grpo"])
    rates = torch.tensor([0.1, 0.7], dtype=torch.float64)
    start = theta.expand(2, -1, -1)
    *_, found = field.path(start, rates, inner_steps=2, outer_steps=2)
    for eta, end in zip(rates.tolist(), found, strict=True):
        at = theta
        for _ in range(2):
            held = at
            for _ in range(2):
                at = at + eta * expected_gradient(mdp, at, held, "grpo", math.inf)
        torch.testing.assert_close(end, at, **EXACT)
    J, gradient = field.returns(found)
    assert float(J[1]) == pytest.approx(expected_return(mdp, found[1]), abs=EXACT["atol"])
    torch.testing.assert_close(gradient[1], policy_gradient(mdp, found[1]), **EXACT)


def test_what_has_no_mean_field_is_refused():
    xor = WORLDS["xor"].build()
    penalised = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.1))
    for estimator in (ESTIMATORS["dapo"], penalised):
        with pytest.raises(ValueError, match="take expected_gradient"):
            MeanField(xor, estimator)
    unbounded = MeanField(xor, Estimator(token, population(), unclipped(), sequence_mean))
    with pytest.raises(ValueError, match="at learning rate inf the logits become non-finite"):
        unbounded.outer_step(first_token(0.6)(xor)[None], torch.tensor([math.inf]).double(), 16)
