"""Certificates of runs: exact first steps, the identity C0, C1 for every run, C2 and C2* in expectation."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps_with_two_policies
from tolerances import EXACT, VISIBLE

from ticgrpo_theory.bounds import (
    check_c0,
    check_c1,
    check_c2,
    check_c2_all_groups,
    first_step,
    instance_constants,
)
from ticgrpo_theory.bounds.all_groups import expected_moves
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, grpo, stale, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.exact import expected_return, gradient_moments, policy_gradient, reuse_bias
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import Adam, Trace, simulate
from ticgrpo_theory.worlds import WORLDS

FAR = [[0.75, -0.75]]
"""pi(0) = 1 / (1 + exp(-1.5))."""
XOR = WORLDS["xor"].build()


def run(mdp, theta, estimator, G: int, eta: float, K: int, **changes) -> Trace:
    settings = {"outer_steps": 60, "replicates": 32, "record_theta": True, "engine": "hybrid"} | changes
    return simulate(mdp, theta, estimator, group_size=G, learning_rate=eta, inner_steps=K, **settings)


def check_coin() -> None:
    """T = 1, p = 1/2, G = 2: with probability 1/2 the rewards differ, A = +-1, g_hat = (1, -1) / 2."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    found = first_step(mdp, torch.zeros(1, 1, 2, dtype=torch.float64), grpo(delta=0.0), 2)
    torch.testing.assert_close(found.mean, torch.tensor([[[0.25, -0.25]]], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found.second_moment, torch.tensor([0.25], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found.gradient, torch.tensor([[[0.25, -0.25]]], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(found.expected_return, torch.tensor([0.5], dtype=torch.float64), **EXACT)


def test_the_first_step_of_a_coin_by_hand():
    check_coin()


def check_first_step(mdp, theta, estimator, G: int) -> None:
    """m and q at every policy of a list are those of gradient_moments at theta = theta_old."""
    found = first_step(mdp, torch.stack(theta), estimator, G)
    for i, table in enumerate(theta):
        exact = gradient_moments(mdp, table, table, estimator, G)
        torch.testing.assert_close(found.mean[i], exact.mean, **EXACT)
        assert found.second_moment[i].item() == pytest.approx(exact.second_moment, abs=1e-12, rel=1e-12)
        torch.testing.assert_close(found.gradient[i], policy_gradient(mdp, table), **EXACT)
        assert found.expected_return[i].item() == pytest.approx(expected_return(mdp, table), abs=1e-12)


@given(
    mdps_with_two_policies(largest=9),
    st.sampled_from(["grpo", "tic_grpo", "rloo"]),
    st.integers(2, 3),
)
def test_the_first_step_is_that_of_the_exact_moments(case, estimator, G):
    theta = [torch.tensor(x, dtype=torch.float64) for x in (case.theta, case.theta_old)]
    check_first_step(case.mdp, theta, ESTIMATORS[estimator], G)


def check_large_groups() -> None:
    mdp = WORLDS["few-values"].build()
    theta = WORLDS["few-values"].theta_old(mdp)
    check_first_step(mdp, [theta, 3 * theta, -20 * theta], grpo(delta=0.0), 24)
    check_first_step(XOR, [torch.tensor(FAR, dtype=torch.float64)], tic_grpo(delta=0.0), 300)


def test_the_first_step_of_large_groups_and_several_rewards():
    check_large_groups()


@pytest.mark.parametrize(
    ("world", "estimator", "text"),
    [
        ("long-answers", "dapo", "the scale reads the lengths of the whole group"),
        (
            "xor",
            dataclasses.replace(grpo(), advantage=population()),
            "changes with the moments of the reward",
        ),
        ("xor", lambda batch: batch.logp.sum(), "a callable has no declared scale"),
    ],
)
def test_first_steps_that_counts_of_rewards_do_not_give_are_refused(world, estimator, text):
    mdp = WORLDS[world].build()
    with pytest.raises(ValueError, match=text):
        first_step(mdp, torch.zeros(1, mdp.num_rows, mdp.vocab_size, dtype=torch.float64), estimator, 4)


def test_masked_tokens_on_a_path_are_refused():
    with pytest.raises(ValueError, match="a policy on the path is not finite"):
        first_step(XOR, torch.tensor([[[0.0, -torch.inf]]], dtype=torch.float64), "grpo", 4)


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
    [
        (stale(0.0), 4, 0.3, "reused"),
        (grpo(delta=0.0), 1, 0.3, "reused"),
        (grpo(delta=0.0), 4, 0.05, "reused"),
        (tic_grpo_eq11(delta=0.0), 4, 0.1, "reused"),
        (tic_grpo_eq11(delta=0.0), 4, 0.1, "disjoint"),
    ],
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


def check_moves(estimator, mdp, theta, K: int) -> None:
    """E Delta against the sum of the exact expected inner gradients over all groups."""
    c = instance_constants(mdp, estimator, 3, 0.5, K)
    found = expected_moves(c, torch.stack(theta))
    for i, table in enumerate(theta):
        steps = reuse_bias(mdp, table, estimator, 3, K - 1, 0.5).gradient
        torch.testing.assert_close(found.mean[i], 0.5 * steps.sum(dim=0), **EXACT)
        one = instance_constants(mdp, estimator, 3, 0.5, 1)
        second = gradient_moments(mdp, table, table, estimator, 3).second_moment
        square = expected_moves(one, table[None]).second_moment[0]
        assert square.item() == pytest.approx(0.25 * second, abs=1e-12)


def check_moves_of_one_row() -> None:
    check_moves(ESTIMATORS["tic_grpo"], XOR, [torch.tensor(FAR, dtype=torch.float64)], 3)


def test_expected_moves_are_those_of_the_enumeration_at_one_policy():
    theta = [torch.tensor(x, dtype=torch.float64) for x in (FAR, [[0.2, 0.4]], [[-1.0, 0.5]])]
    check_moves(grpo(delta=0.0), XOR, theta, 4)
    check_moves(ESTIMATORS["dapo"], WORLDS["length-trap"].build(), theta, 2)
    check_moves_of_one_row()


def test_worlds_that_are_too_large_for_all_groups_are_refused():
    mdp = WORLDS["right-answer"].build()
    c = instance_constants(mdp, "grpo", 8, 0.1, 4)
    with pytest.raises(ValueError, match=r"N = 27 responses, G = 8, K = 4 ask for .* more than MAX_STEPS"):
        expected_moves(c, torch.zeros(10, mdp.num_rows, mdp.vocab_size, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"2 prompts: all groups of an outer step are followed for one prompt"
    ):
        two = WORLDS["prompt-trap"].build()
        expected_moves(instance_constants(two, "grpo", 2, 0.1, 1), torch.zeros(1, 1, 2, dtype=torch.float64))


# Bound over left side with an acting clip, G = 4, K = 4, by eta K: printed without the length of the run.
ALL_GROUPS = [
    (grpo(0.2, 0.2, 0.0), 0.1, 1.17),
    (grpo(0.2, 0.2, 0.0), 0.3, 1.74),
    (grpo(0.2, 0.2, 0.0), 1.0, 2.22),
    (tic_grpo_eq11(0.2, 0.0), 0.1, 1.17),
    (tic_grpo_eq11(0.2, 0.0), 0.3, 1.74),
    (tic_grpo_eq11(0.2, 0.0), 1.0, 2.17),
]
IDS = [f"{name} {span}" for name in ("grpo", "tic") for span in (0.1, 0.3, 1.0)]


@pytest.mark.parametrize(("estimator", "span", "ratio"), ALL_GROUPS, ids=IDS)
def test_all_groups_certify_runs_with_an_acting_clip(estimator, span, ratio):
    """250 outer steps come within 3 % of every printed ratio; 100 and 400 do not."""
    c = instance_constants(XOR, estimator, 4, span / 4, 4)
    found = check_c2_all_groups(c, run(XOR, FAR, estimator, 4, span / 4, 4, outer_steps=250, replicates=12))
    assert found.holds and found.standard_errors > 3
    assert float(found.rhs.mean() / found.lhs.mean()) == pytest.approx(ratio, rel=0.03)
    # Partner: half the curvature is violated where steps are large.
    if span == 1.0:
        flat = dataclasses.replace(c, values={**c.values, "L_J": c.L_J / 2 * 0.8})
        trace = run(XOR, FAR, estimator, 4, span / 4, 4, outer_steps=100, replicates=8)
        assert float((check_c2_all_groups(flat, trace).margin).mean()) < -VISIBLE
