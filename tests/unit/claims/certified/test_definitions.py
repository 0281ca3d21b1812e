"""certified/definitions.py: bounds and gates of a clip, decided exactly or refused."""

import math

import pytest
import torch
from flint import arb, fmpq

from tests.properties.tolerances import EXACT
from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.definitions import at_most, ratio_bounds
from ticgrpo_theory.claims.certified.enclosures import precision
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.estimators.catalogue import tic_grpo_released
from ticgrpo_theory.estimators.clipping import by_sign_and_length, two_sided, upper_only
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP

OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))


NOW = IntegerPolicy(((5, 2), (3, 5), (4, 2)))


MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[1, 0.3, 0, 1])


def floats(matrix) -> torch.Tensor:
    return torch.tensor([[float(x) for x in row] for row in matrix], dtype=torch.float64)


def test_the_released_clip_has_the_bounds_of_the_float64_engine():
    clip, length = by_sign_and_length(0.01, 3.0, 20.0), torch.tensor([1, 3, 400])
    for positive in (True, False):
        lo, hi = clip.bounds(torch.full((3,), positive), length)
        for n, low, high in zip(length.tolist(), lo.tolist(), hi.tolist(), strict=True):
            with precision():
                bounds = ratio_bounds(clip, positive, n)
            assert math.log(float(bounds[0])) == pytest.approx(low)
            assert math.log(float(bounds[1])) == pytest.approx(high)
    estimator = tic_grpo_released(delta=0.0)
    with precision():
        ball = floats(enclosures.expected_gradient(MDP, NOW, OLD, estimator, 2))
    torch.testing.assert_close(
        ball, expected_gradient(MDP, NOW.logits(), OLD.logits(), estimator, 2), **EXACT
    )


def test_infinite_ends_of_a_clip_are_none():
    assert ratio_bounds(two_sided(0.2, math.inf), True, 1) == (None, None)
    assert ratio_bounds(two_sided(0.2, math.inf), False, 1) == (fmpq(4, 5), None)
    assert ratio_bounds(upper_only(math.inf), False, 1) == (None, None)


def test_a_gate_is_decided_exactly_or_refused():
    assert at_most(fmpq(1, 3), fmpq(1, 3)) and not at_most(fmpq(1, 2), fmpq(1, 3))
    assert at_most(arb(1), arb(2)) and not at_most(arb(2), arb(1))
    with pytest.raises(ValueError, match="open at this precision"):
        at_most(arb(1, 0.1), arb(1, 0.1))
