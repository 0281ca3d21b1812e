"""Weights that are no clip: their values, every method that sums them, and what refuses them."""

import math
from dataclasses import dataclass

import pytest
import torch

from tests.thinned import one_in
from ticgrpo_theory.bounds import instance_constants
from ticgrpo_theory.estimators.advantages import known_moments, standardised
from ticgrpo_theory.estimators.clipped_tokens import clipped
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.properties import Reads, reads
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.estimators.shapes import (
    Shape,
    divergence_gate,
    gamma_weight,
    is_own_token,
    sigmoid_gate,
    weights_of,
)
from ticgrpo_theory.exact import expected_gradient, gradient_moments
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.reuse.leading_order import second_order
from ticgrpo_theory.mdp import TokenMDP

SHAPES = [
    sigmoid_gate(),
    sigmoid_gate(3.0, 0.5),
    gamma_weight(),
    divergence_gate(),
    divergence_gate("kl", 0.02, 0.03, 1.3),
]


def of(shape: Shape, ratio=token) -> Estimator:
    return Estimator(ratio, standardised(), shape, sequence_mean)


def world() -> tuple[TokenMDP, torch.Tensor, torch.Tensor, torch.Tensor]:
    reward = {y: float(i % 3) for i, y in enumerate([(0, 0), (0, 1), (1,)])}
    made = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=reward.__getitem__, eos=1)
    generator = torch.Generator().manual_seed(4)
    tables = [torch.randn(made.num_rows, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    return made, *tables


def phi(shape: Shape, v: float, positive: bool, logp_old: float = -1.0) -> float:
    args = torch.tensor([[[v]]]).double(), torch.tensor([[[positive]]]), torch.tensor([[[logp_old]]]).double()
    return float(shape.phi(*args))


def check_methods(shape: Shape, ratio) -> None:
    """Response by response and group by group, first and second moments, with a sampler and without."""
    made, theta, old, sampler = world()
    for drawn in (None, sampler):
        given = (made, theta, old, of(shape, ratio), 2)
        found = gradient_moments(*given, theta_sampler=drawn)
        each = [gradient_moments(*given, name, theta_sampler=drawn) for name in ("enumeration", "groups")]
        assert (found.method == "dynamic_programming") == (ratio in (token, none))
        for other in each:
            torch.testing.assert_close(found.mean, other.mean, rtol=1e-12, atol=1e-15)
            assert abs(found.variance - other.variance) <= 1e-13 * other.second_moment


CASES = [(s, r) for s in SHAPES for r in (token, none, trajectory)] + [
    (s, r) for s in SHAPES[:1] for r in (prefix, geometric_mean)
]


@pytest.mark.parametrize("shape, ratio", one_in(4, CASES), ids=range(len(CASES)))
def test_every_method_sums_the_same_shape(shape, ratio):
    check_methods(shape, ratio)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_a_shape_leaves_ratio_one_alone(shape):
    assert [phi(shape, 0.0, sign) for sign in (True, False)] == pytest.approx([1.0, 1.0], abs=1e-15)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
@pytest.mark.parametrize("v", [-1000.0, -30.0, 30.0, 1000.0])
def test_a_shape_is_a_number_at_any_ratio(shape, v):
    for sign in (True, False):
        found = phi(shape, v, sign, -40.0 if v > 0 else -0.1)
        assert math.isfinite(found) and found >= 0


def test_the_sigmoid_gate_is_the_derivative_of_its_sigmoid():
    v = torch.linspace(-3, 3, 41, dtype=torch.float64, requires_grad=True)
    for sign, tau in ((True, 1.0), (False, 1.05)):
        (wanted,) = torch.autograd.grad((4 / tau * torch.sigmoid(tau * (v.exp() - 1))).sum(), v)
        found = sigmoid_gate().phi(v.detach()[None, None], torch.tensor([[[sign]]]), None)[0, 0]
        # Autograd takes s (1 - s) as a difference.
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)


def test_the_gate_closes_in_the_direction_of_the_advantage_only():
    gate = divergence_gate("tv", low=0.05, high=0.1)
    up, down = math.log(1.5), math.log(0.5)
    # p_old = exp(-1): 1.5 p_old is 0.18 above it, 0.5 p_old as far below.
    assert phi(gate, up, True) == 0 and phi(gate, up, False) == pytest.approx(1.5)
    assert phi(gate, down, False) == 0 and phi(gate, down, True) == pytest.approx(0.5)
    # A rare token moves by next to nothing.
    assert phi(gate, up, True, logp_old=-6.0) == pytest.approx(1.5)
    assert phi(divergence_gate(cap=1.2), up, False) == pytest.approx(1.2)


def test_the_two_bounds_of_a_gate_are_for_one_sign_each():
    gate, v = divergence_gate("tv", low=0.3, high=0.01), math.log(1.2)
    assert phi(gate, v, True) == 0 and phi(gate, v, False) > 0
    assert phi(gate, -v, False) > 0


def test_the_share_of_clipped_tokens_counts_what_a_gate_closes():
    made, theta, old, _ = world()
    closed, open_, smooth = (
        clip_fractions(made, [theta], old, of(shape), 4)[0]
        for shape in (divergence_gate("tv", 1e-3, 1e-3), divergence_gate("tv", 1.0, 1.0, 1e9), sigmoid_gate())
    )
    assert 0.1 < closed < 1 and open_ == smooth == 0
    found = clipped(
        divergence_gate(cap=1.1),
        token,
        torch.full((1, 1, 1), 0.3).double(),
        torch.ones(1, 1, 1, dtype=torch.bool),
        torch.tensor([[False]]),
        torch.full((1, 1, 1), -5.0).double(),
    )
    assert bool(found.held.all()) and not found.off.any()


@dataclass(frozen=True)
class Own(Shape):
    """A shape of a user's own, which says what it reads."""

    power: float = 0.5

    @reads(Reads.NOTHING)
    def phi(self, v, positive, logp_old):
        return (self.power * v).exp()


@dataclass(frozen=True)
class Silent(Shape):
    """The same without a word."""

    def phi(self, v, positive, logp_old):
        return (0.5 * v).exp()


def test_a_shape_of_ones_own_is_checked_and_exact():
    made, theta, old, _ = world()
    found = of(Own()).properties
    assert found.claimed == ("its shape",) and not found.undeclared
    assert of(Silent()).properties.undeclared == ("its shape",)
    listed = expected_gradient(made, theta, old, of(Own()), 3, "groups")
    for shape in (Own(), Silent()):
        torch.testing.assert_close(
            expected_gradient(made, theta, old, of(shape), 3), listed, rtol=1e-12, atol=1e-15
        )
    assert is_own_token(Own()) and not is_own_token(Silent()) and not is_own_token(unclipped())


def test_no_shape_has_a_leading_order_or_a_nearest_clip():
    made, _, old, _ = world()
    given = Estimator(trajectory, known_moments(0.5, 0.5), gamma_weight(), sequence_mean)
    with pytest.raises(ValueError, match="another derivative at ratio 1"):
        second_order(made, old, given, given)
    constants = instance_constants(made, of(sigmoid_gate()), 4, 0.1, 2)
    assert "lambda_eps" not in constants


BAD = [
    (lambda: sigmoid_gate(0.0), r"tau_positive = 0.*takes numbers > 0"),
    (lambda: sigmoid_gate(1.0, math.inf), r"tau_negative = inf"),
    (lambda: gamma_weight(-1.0), r"k_positive = -1"),
    (lambda: divergence_gate("chi2"), r"kind = 'chi2': choose 'tv' or 'kl'"),
    (lambda: divergence_gate(low=0.0), r"low = 0"),
    (lambda: divergence_gate(cap=math.nan), r"cap = nan"),
    (lambda: divergence_gate(cap=0.5), r"cap = 0\.5: .* needs cap >= 1"),
]


@pytest.mark.parametrize("build, message", BAD)
def test_impossible_shapes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_gate_on_probabilities_needs_them():
    v, positive = torch.zeros(1, 1, 1).double(), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="needs logp_old"):
        weights_of(divergence_gate(), token, v, positive[..., None], positive)
