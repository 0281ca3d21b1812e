"""Certificates of runs: exact first steps, the identity C0, C1 for every run, C2 and C2* in expectation."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.strategies import mdps_with_two_policies
from tests.properties.tolerances import EXACT
from tests.thinned import one_in
from ticgrpo_theory.bounds import (
    check_c0,
    check_c1,
    check_c2,
    instance_constants,
)
from ticgrpo_theory.estimators.catalogue import grpo, stale, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.simulate import Adam, Trace, simulate
from ticgrpo_theory.worlds import WORLDS

FAR = [[0.75, -0.75]]
"""pi(0) = 1 / (1 + exp(-1.5))."""
XOR = WORLDS["xor"].build()


def run(mdp, theta, estimator, G: int, eta: float, K: int, **changes) -> Trace:
    settings = {"outer_steps": 60, "replicates": 32, "record_theta": True, "engine": "hybrid"} | changes
    return simulate(mdp, theta, estimator, group_size=G, learning_rate=eta, inner_steps=K, **settings)


RUNS = (
    ("xor", "grpo", None),
    ("few-values", "tic_grpo", Adam()),
    ("long-answers", "dapo", None),
    ("long-answers", "tic_grpo", Adam()),
    ("two-prompts", "cispo", None),
    ("two-prompts", "no_is", Adam()),
)


def check_runs(cases) -> None:
    for world, estimator, optimizer in cases:
        mdp = WORLDS[world].build()
        batches = "disjoint" if estimator == "dapo" else "reused"
        trace = run(
            mdp,
            WORLDS[world].theta_old(mdp),
            estimator,
            4,
            0.5,
            2,
            optimizer=optimizer,
            batches=batches,
            outer_steps=12,
            replicates=8,
        )
        c1, c0 = check_c1(mdp, trace), check_c0(mdp, trace)
        assert c1.holds and (c1.slack >= 0).all(), (world, estimator)
        assert c0.holds and c0.residual.abs().max() < 1e-12, (world, estimator)
        torch.testing.assert_close(c1.lhs, trace.sum_gradient_dot_move, **EXACT)
        torch.testing.assert_close(c1.slack, (c0.bound + c0.remainder).sum(dim=1), **EXACT)


def test_every_run_keeps_to_the_identity_and_to_c1():
    """Clips, optimizers, lengths, several prompts, disjoint groups."""
    check_one_run()
    check_runs(RUNS[1:])


def check_one_run() -> None:
    check_runs([("xor", "grpo", None)])


def test_c1_and_c0_tell_wrong_sums_and_curvatures_apart():
    """Partners: the drift of another run, a step that never was, J flatter than it is."""
    trace = run(XOR, FAR, "grpo", 4, 0.02, 2)
    wrong = dataclasses.replace(trace, sum_gradient_dot_move=1.1 * trace.sum_gradient_dot_move)
    assert not check_c0(XOR, wrong).holds
    assert not check_c1(XOR, wrong).holds
    # Near the optimum the second derivative is half of L_J, so that less than half of it would not do.
    late = run(XOR, [[0.1, -0.1]], "grpo", 4, 0.5, 2)
    lost = dataclasses.replace(late, sum_move_norm_sq=0.4 * late.sum_move_norm_sq)
    assert check_c1(XOR, late).holds and not check_c1(XOR, lost).holds
    nothing = dataclasses.replace(trace, final_return=torch.full_like(trace.final_return, torch.nan))
    assert not check_c1(XOR, nothing).holds
    swapped = dataclasses.replace(trace, path=trace.path.flip(1))
    assert not check_c0(XOR, swapped).holds


@given(mdps_with_two_policies(largest=9), st.sampled_from([0.125, 1.0, 8.0]))
def test_a_move_anywhere_is_bounded_by_c1(case, size):
    """One outer step from theta towards theta_old: C1 asks nothing about how it came about."""
    theta, other = (torch.tensor(x, dtype=torch.float64) for x in (case.theta, case.theta_old))
    move = size * (other - theta)
    g, J = policy_gradient(case.mdp, theta), [expected_return(case.mdp, x) for x in (theta, theta + move)]
    bound = J[1] - J[0] + instance_constants(case.mdp).L_J / 2 * float(move.square().sum())
    assert float((g * move).sum()) <= bound + 1e-12


def check_path_is_asked_for() -> None:
    trace = run(XOR, FAR, "grpo", 4, 0.5, 2, record_theta=False, outer_steps=3)
    assert check_c1(XOR, trace).holds
    with pytest.raises(ValueError, match="simulate with record_theta=True"):
        check_c0(XOR, trace)
    seldom = run(XOR, FAR, "grpo", 4, 0.5, 2, record_every=2, outer_steps=3)
    with pytest.raises(ValueError, match="simulate with record_every=1"):
        check_c2(instance_constants(XOR, "grpo", 4, 0.5, 2), seldom)
    with pytest.raises(ValueError, match=r"learning_rate: needs learning_rate="):
        check_c2(instance_constants(XOR, "grpo", 4), trace)
    with pytest.raises(ValueError, match="group_size = inf: no run draws infinite groups"):
        check_c2(instance_constants(XOR, "grpo", float("inf"), 0.5, 2), run(XOR, FAR, "grpo", 4, 0.5, 2))
    alone = run(XOR, FAR, "grpo", 4, 0.5, 2, replicates=1, outer_steps=3)
    with pytest.raises(ValueError, match="the trace has 1 replicate: C2 is judged by the spread"):
        check_c2(instance_constants(XOR, "grpo", 4, 0.5, 2), alone)


def test_what_a_certificate_needs_is_asked_for():
    check_path_is_asked_for()


def check_c2_of(estimator, K: int, span: float, G: int, batches: str) -> None:
    c = instance_constants(XOR, estimator, G, span / K, K)
    trace = run(XOR, FAR, estimator, G, span / K, K, batches=batches)
    found = check_c2(c, trace, batches=batches)
    assert found.applies and found.holds and found.standard_errors > 3
    assert (found.multiples >= c.c_min - 1e-9).all() and (found.multiples <= c.c_max + 1e-9).all()
    # Binary rewards, constant length: lhs is sum c_n ||g_n||^2 with c_n within its bounds.
    squares = trace.gradient_norm_sq.sum(dim=1)
    assert (found.lhs >= c.c_min * squares - 1e-9).all() and (found.lhs <= c.c_max * squares + 1e-9).all()


@pytest.mark.parametrize(
    ("estimator", "K", "span", "batches"),
    one_in(
        3,
        [
            (stale(0.0), 4, 0.3, "reused"),
            (grpo(delta=0.0), 1, 0.3, "reused"),
            (grpo(delta=0.0), 4, 0.05, "reused"),
            (tic_grpo_eq11(delta=0.0), 4, 0.1, "reused"),
            (tic_grpo_eq11(delta=0.0), 4, 0.1, "disjoint"),
        ],
    ),
    ids=["stale", "one step", "no clip", "clip possible", "disjoint"],
)
def test_c2_holds_with_its_control_variate(estimator, K, span, batches):
    check_c2_of(estimator, K, span, 16, batches)


def check_control_variate() -> None:
    """The control variate removes most of the noise, and nothing from the mean."""
    estimator = stale(0.0)
    c, trace = instance_constants(XOR, estimator, 16, 0.1, 1), run(XOR, FAR, estimator, 16, 0.1, 1)
    found = check_c2(c, trace)
    assert float((found.rhs - found.lhs).std()) < 0.5 * float((found.plain - found.lhs).std())
    error = float((found.plain - found.rhs).std()) / len(found.rhs) ** 0.5
    assert abs(float((found.plain - found.rhs).mean())) < 4 * error
    # Without noise in the estimator of the rise, the right side is the left one plus curvature.
    assert 1.0 < float(found.rhs.mean() / found.lhs.mean()) < 1.3


def test_the_control_variate_takes_noise_and_no_mean():
    check_control_variate()


def test_c2_fails_for_a_run_that_was_made_otherwise():
    """Partner: constants of a step half as large, and no curvature at all."""
    trace = run(XOR, FAR, stale(0.0), 16, 0.4, 1, outer_steps=200)
    honest = instance_constants(XOR, stale(0.0), 16, 0.4, 1)
    assert check_c2(honest, trace).holds
    flat = dataclasses.replace(honest, values={**honest.values, "L_J": 0.2})
    found = check_c2(flat, trace)
    assert not found.holds and found.standard_errors < -3


def test_a_drift_without_a_bound_is_reported():
    c = instance_constants(XOR, grpo(delta=0.0), 4, 0.075, 4)
    found = check_c2(c, run(XOR, FAR, grpo(delta=0.0), 4, 0.075, 4, outer_steps=5))
    assert not found.applies and "clip possible asks for" in found.failed
    assert torch.isinf(found.rhs).all() and found.standard_errors == float("inf")


def test_a_bias_that_does_not_vanish_shows_as_a_multiple_below_zero():
    """length-trap: between the optimum p = 1/2 and its root 0.66 the first step of 1/length climbs away."""
    world = WORLDS["length-trap"]
    mdp = world.build()
    c = instance_constants(mdp, grpo(delta=0.0), 16, 0.05, 1)
    found = check_c2(c, run(mdp, world.theta_old(mdp), grpo(delta=0.0), 16, 0.05, 1, outer_steps=20))
    assert found.applies and found.holds and float(found.multiples.max()) < 0
    literal = check_c2(
        instance_constants(mdp, tic_grpo(delta=0.0), 16, 0.05, 1),
        run(mdp, world.theta_old(mdp), tic_grpo(delta=0.0), 16, 0.05, 1, outer_steps=20),
    )
    assert float(literal.multiples.min()) > 0
