"""Theorems 1 and 2 with constants: digits of an instance, terms by hand, hypotheses that fail."""

import math

import pytest
import torch

from tests.properties.tolerances import PRINTED
from tests.thinned import more
from ticgrpo_theory.bounds import instance_constants, optimum, theorem_1, theorem_2
from ticgrpo_theory.bounds.best_return import Optimum
from ticgrpo_theory.estimators.catalogue import dapo, grpo, stale, tic_grpo
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS

XOR = WORLDS["xor"].build()
FAR = [[0.75, -0.75]]
"""pi(0) = 1 / (1 + exp(-1.5)): J = 2 p (1 - p) = 0.298."""


def start() -> float:
    p = 1 / (1 + math.exp(-1.5))
    return 2 * p * (1 - p)


def check_printed_right_sides() -> None:
    """G = 16, eta K = 0.05, N = 2000: 1.7636e-2 and 4.6491e-2; at G = 64, eta K = 0.1 theorem 2 is silent."""
    c = instance_constants(XOR, stale(0.0), 16, 0.05, 1)
    first, second = (f(c, initial_return=start(), outer_steps=2000) for f in (theorem_1, theorem_2))
    assert first.right == pytest.approx(1.7636e-2, abs=PRINTED(6)["atol"])
    assert second.right == pytest.approx(4.6491e-2, abs=PRINTED(6)["atol"])
    assert first.applies and second.applies and first.left is None and first.slack is None
    far = theorem_2(instance_constants(XOR, stale(0.0), 64, 0.1, 1), initial_return=start(), outer_steps=2000)
    assert far.right == math.inf and not far.terms
    assert far.failed == "L_J eta K c_max (1 + tau)^2 <= 1/8: 0.3969, c_max = 3.969"


def test_the_right_sides_of_the_instance_come_out_to_the_printed_digits():
    check_printed_right_sides()


@more
def test_the_left_side_of_the_instance_lies_within_its_interval():
    """200 runs of 2000 steps: printed 2.25e-3, from as many runs of another random stream."""
    c = instance_constants(XOR, stale(0.0), 16, 0.05, 1)
    settings = {"group_size": 16, "learning_rate": 0.05, "inner_steps": 1, "outer_steps": 2000}
    trace = simulate(XOR, FAR, stale(0.0), replicates=200, **settings)
    first, second = theorem_1(c, trace), theorem_2(c, trace)
    assert first.left is not None and first.standard_error is not None
    # Two independent estimates, and half a unit of the last printed digit.
    assert abs(first.left - 2.25e-3) < 5 * math.sqrt(2) * first.standard_error + 0.5e-5
    assert first.standard_error < 1e-2 * first.left
    assert first.left <= first.right <= second.right
    assert first.holds and second.holds and second.slack == second.right - second.left
    assert first.right == pytest.approx(1.7636e-2, abs=PRINTED(6)["atol"])


def check_terms_by_hand() -> None:
    """eta = 0.01, K = 4, G = 5 on the tree of test_bounds_constants: every factor of every term."""
    mdp = WORLDS["right-answer"].build()
    c = instance_constants(mdp, grpo(delta=0.0), 5, 0.01, 4)
    assert c.row == "clip provably inactive"
    best = Optimum(1.0, True, "")
    first = theorem_1(c, initial_return=0.25, outer_steps=10, best=best)
    assert first.terms["gap"] == pytest.approx(2 * 0.75 / (c.c_min * 10 * 0.04), rel=1e-12)
    assert first.terms["step"] == pytest.approx(
        0.5 / c.c_min * 0.04 * (math.sqrt(2) / 3 + c.e) ** 2, rel=1e-12
    )
    assert first.terms["bias"] == pytest.approx((c.e / c.c_min) ** 2, rel=1e-12)
    assert first.right == pytest.approx(sum(first.terms.values()), rel=1e-15)
    second = theorem_2(c, initial_return=0.25, outer_steps=10, best=best)
    assert second.terms["noise"] == pytest.approx(81 / 64 * 0.5 / c.c_min * 0.04 * c.V / 5, rel=1e-12)
    assert second.terms["drift"] == pytest.approx(4 * c.tau**2 * c.V / (c.c_min**2 * 5), rel=1e-12)
    assert second.terms["gap"] == first.terms["gap"] and second.terms["bias"] == 0.0


def test_terms_by_hand():
    check_terms_by_hand()


def check_disjoint_groups() -> None:
    """V / G becomes V / (K G); tau is not used, so a field that drifts leaves theorem 2 silent."""
    run = {"initial_return": start(), "outer_steps": 100}
    held = instance_constants(XOR, stale(0.0), 16, 0.01, 4)
    reused, disjoint = (theorem_2(held, **run, batches=b) for b in ("reused", "disjoint"))
    assert disjoint.terms["noise"] == pytest.approx(reused.terms["noise"] / 4, rel=1e-12)
    moving = instance_constants(XOR, grpo(delta=0.0), 16, 0.001, 4)
    assert theorem_2(moving, **run).applies
    silent = theorem_2(moving, **run, batches="disjoint")
    assert silent.right == math.inf and silent.failed.startswith("one group is reused, or nothing drifts")
    first, apart = (theorem_1(moving, **run, batches=b) for b in ("reused", "disjoint"))
    e = moving.Lambda * 0.001 * 3 * moving.D / 2
    assert apart.terms["bias"] == pytest.approx((e / moving.c_min) ** 2, rel=1e-12)
    assert apart.right > first.right
    one = instance_constants(XOR, grpo(delta=0.0), 16, 0.01, 1)
    assert theorem_2(one, **run, batches="disjoint").applies


def test_disjoint_groups():
    check_disjoint_groups()


@pytest.mark.parametrize(
    ("world", "estimator", "reason"),
    [
        ("long-answers", grpo(), "c_min is known: does not apply: responses of different length"),
        ("two-prompts", grpo(), "c_min is known: does not apply: several prompts"),
        ("long-answers", dapo(), "Q is known: does not apply: the scale reads"),
    ],
)
def test_a_hypothesis_that_fails_is_named_and_leaves_no_bound(world, estimator, reason):
    mdp = WORLDS[world].build()
    c = instance_constants(mdp, estimator, 4, 0.01, 4)
    bound = theorem_1(c, initial_return=0.1, outer_steps=10)
    assert bound.right == math.inf and not bound.applies and reason in bound.failed and not bound.terms
    assert any(h.holds for h in bound.hypotheses) and not all(h.holds for h in bound.hypotheses)


def test_steps_too_large_for_the_drift_are_named():
    c = instance_constants(XOR, grpo(delta=0.0), 16, 0.075, 4)
    bound = theorem_1(c, initial_return=start(), outer_steps=10)
    assert (
        bound.right == math.inf and "e is known: does not apply: clip provably inactive asks" in bound.failed
    )
    drifting = instance_constants(XOR, tic_grpo(delta=0.0), 16, 0.01, 4)
    assert "tau <= 1/8: tau = " in theorem_2(drifting, initial_return=start(), outer_steps=10).failed
    alone = instance_constants(XOR, grpo(delta=0.0), 1, 0.01, 1)
    assert "c_min > 0: c_min = 0" in theorem_1(alone, initial_return=start(), outer_steps=10).failed
    ternary = instance_constants(WORLDS["few-values"].build(), grpo(delta=0.0), 16, 0.01, 1)
    assert "V is known: does not apply" in theorem_2(ternary, initial_return=0.5, outer_steps=10).failed
    assert theorem_1(ternary, initial_return=0.5, outer_steps=10).applies


@pytest.mark.parametrize("learning_rate", [5.0, 1e3, 1e200])
def test_a_right_side_beyond_float64_is_said_to_be_inf(learning_rate):
    # tau = Lambda eta (K-1) e^{Lambda eta K} / 2 is some 1e200, and its square has no float64.
    c = instance_constants(XOR, tic_grpo(), 16, learning_rate, 4)
    bound = theorem_2(c, initial_return=start(), outer_steps=10)
    assert bound.right == math.inf and not bound.terms
    assert "L_J eta K c_max (1 + tau)^2 <= 1/8: inf, c_max = " in bound.failed
    first = theorem_1(c, initial_return=start(), outer_steps=10)
    assert first.right > 1e6 and not math.isnan(first.right)


def test_an_upper_bound_on_the_optimum_may_stand_in_for_it():
    c = instance_constants(XOR, stale(0.0), 16, 0.05, 1)
    sharp = theorem_1(c, initial_return=start(), outer_steps=100)
    loose = theorem_1(c, initial_return=start(), outer_steps=100, best=Optimum(1.0, False, "largest reward"))
    assert optimum(XOR).value == pytest.approx(0.5)
    assert loose.terms["gap"] == pytest.approx(sharp.terms["gap"] * (1 - start()) / (0.5 - start()))


def test_what_does_not_fit_is_refused():
    c = instance_constants(XOR, stale(0.0), 4, 0.05, 1)
    with pytest.raises(ValueError, match=r"initial_return = None, outer_steps = 10: give both"):
        theorem_1(c, outer_steps=10)
    with pytest.raises(ValueError, match=r"outer_steps = 0: the left side is a mean over N >= 1"):
        theorem_1(c, initial_return=0.1, outer_steps=0)
    with pytest.raises(ValueError, match=r"batches = 'shared': choose 'reused' .* or 'disjoint'"):
        theorem_1(c, initial_return=0.1, outer_steps=5, batches="shared")
    with pytest.raises(ValueError, match=r"inner_steps: needs inner_steps=\.\.\."):
        theorem_1(instance_constants(XOR, "stale", 4, 0.1), initial_return=0.1, outer_steps=5)
    settings = {"group_size": 4, "inner_steps": 1, "outer_steps": 4, "replicates": 2, "engine": "tensors"}
    seldom = simulate(XOR, FAR, stale(0.0), learning_rate=0.05, record_every=2, **settings)
    with pytest.raises(
        ValueError, match=r"records of outer steps \[0, 2\]\.\.\. of N = 4: the theorems aver"
    ):
        theorem_1(c, seldom)
    c = instance_constants(XOR, stale(0.0), 64, 1e200, 1)
    lost = simulate(XOR, FAR, stale(0.0), learning_rate=1e200, **settings | {"group_size": 64})
    assert (lost.frozen >= 0).any()
    with pytest.raises(ValueError, match=r"replicates \[0.* of the trace became non-finite"):
        theorem_1(c, lost)
    assert torch.isfinite(lost.sum_move_norm_sq).all()
