"""Constants of an instance: by hand, printed digits, and absent by name with the reason."""

import dataclasses
import math

import pytest
import torch

from tests.properties.tolerances import EXACT, PRINTED
from ticgrpo_theory.bounds import AbsentConstant, instance_constants, optimum
from ticgrpo_theory.bounds.best_return import of_one_row
from ticgrpo_theory.bounds.drift import tau
from ticgrpo_theory.bounds.geometry import geometry
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import (
    cispo,
    dapo,
    gmpo,
    grpo,
    gspo,
    no_is,
    rloo,
    stale,
    tic_grpo,
)
from ticgrpo_theory.estimators.corrections import masked
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS

COIN = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])


def close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=1e-12, rel=1e-12)


def check_tree_by_hand() -> None:
    """V = 2, T = 3, rewards 0 and 1, kappa = 1/3: every entry of the table of constants."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=[1, 0, 0, 1, 0, 1, 0, 0])
    c = instance_constants(mdp, grpo(delta=0.1), 5, 0.01, 4)
    close(c.L_J, 0.5)
    close(c.B, math.sqrt(6))
    close(c.kappa, 1 / 3)
    close(c.B_Phi, math.sqrt(2 / 3))
    close(c.Q, 0.5 / 3)
    close(c.V, 10 / 3)
    close(c.c_min, 0.8 / (3 * 0.6))
    close(c.c_max, min(10.0, math.sqrt(4)) / 3)
    assert (c.nu, c.d_max, c.l_min, c.horizon, c.b_bar) == (1, 1.0, 3, 3, 0.0)
    # eta K 1.2 B_Phi sqrt 2 = 0.055 <= log 1.2 = 0.182: no token is ever clipped.
    assert c.row == "clip provably inactive"
    close(c.Lambda, 2 * 1.2 / 3)
    close(c.D, 1.2 * math.sqrt(2 / 3))
    close(c.tau, 0.5 * 0.8 * 0.01 * 3 * math.exp(0.8 * 0.04))
    close(c.e, min(c.tau * math.sqrt(c.Q), 0.5 * 0.8 * 0.03 * c.D))
    literal = instance_constants(mdp, tic_grpo(0.2, delta=0.1), 5, 0.01, 4)
    close(literal.B_Phi, math.sqrt(6))
    close(literal.Q, 1.5)
    close(literal.c_min, 0.8 / 0.6)
    # eta K 1.2 B_Phi B = 0.288 > log 1.2: a response may be clipped, but w' 1_D <= 1.2 always.
    assert literal.row == "clip possible"
    close(literal.Lambda, max(1.2 * 6 + 0.5, 6 / math.log(1.2)))
    close(literal.D, 1.2 * math.sqrt(6))
    careful = instance_constants(mdp, tic_grpo(0.2, delta=0.1), 5, 0.001, 4)
    assert careful.row == "clip provably inactive"
    close(careful.Lambda, 1.2 * 6)


def test_a_tree_by_hand():
    check_tree_by_hand()


def check_shared_row_by_hand() -> None:
    """Two tokens from one row, nu = 2."""
    mdp = WORLDS["xor"].build()
    c = instance_constants(mdp, grpo(delta=0.0), 16, 0.025, 4)
    assert (c.nu, c.d_max) == (2, 2.0)
    close(c.L_J, 1.0)
    close(c.B, math.sqrt(8))
    close(c.B_Phi, math.sqrt(2))
    close(c.Q, 0.25)
    close(c.V, 10.0)
    close(c.c_min, 15 / 16)
    close(c.c_max, math.sqrt(15) / 2)
    # eta K 1.2 sqrt 2 sqrt 2 = 0.24 > log 1.2, but e eta K 2 = 0.54 <= 1.
    assert c.row == "clip possible"
    close(c.Lambda, max(2 * math.e + 0.5, 2 / math.log(1.2)))
    close(c.D, math.e * math.sqrt(2))


def test_a_shared_row_by_hand():
    check_shared_row_by_hand()


def check_best_at_an_end() -> None:
    """J(p) = (1 - p)^2 + 1.2 p (1 - p) + p^2 / 2: slopes -0.8 and -0.2 at the ends, J* = J(0)."""
    rewards = {(0, 0): 0.5, (0, 1): 0.6, (1, 0): 0.6, (1, 1): 1.0}
    falling = one_row(rewards)
    close(of_one_row(geometry(falling)), 1.0)
    # The other way round the best is at p = 1.
    close(of_one_row(geometry(one_row({y: rewards[1 - y[0], 1 - y[1]] for y in rewards}))), 1.0)
    # Two prompts that share the row: J = (3/4) J_1 + (1/4) 2 p (1 - p), whose slope at p = 0 is -0.1.
    both = TokenMDP.mixture([falling, WORLDS["xor"].build()], [0.75, 0.25], share_rows=True)
    found = optimum(both)
    assert found.exact and found.reason == "the largest value of a polynomial in pi(0)"
    close(found.value, 0.75)


def one_row(rewards: dict[tuple[int, int], float]) -> TokenMDP:
    """Two tokens, both from one row: states are the start, the first token, and the two tokens."""
    transition = [[[1, 2]] + [[0, 0]] * 6, [[0, 0], [3, 4], [5, 6]] + [[0, 0]] * 4]
    return TokenMDP.automaton(
        transition,
        vocab_size=2,
        horizon=2,
        reward=[0.0] * 3 + [rewards[y] for y in sorted(rewards)],
        rows=[0] * 7,
    )


def test_the_best_policy_may_be_at_either_end():
    check_best_at_an_end()


def check_field_that_moves_by_the_distance() -> None:
    """Lambda = 1, eta = 1/8, K = 3: tau = (1/8) 2 e^(3/8) / 2; nothing drifts where Lambda = 0 or K = 1."""
    close(tau(1.0, 0.125, 3), 0.125 * math.exp(0.375))
    assert tau(0.0, 0.125, 3) == tau(1.0, 0.125, 1) == 0.0


def test_a_field_that_moves_by_the_distance_drifts():
    check_field_that_moves_by_the_distance()


def check_drift_without_clip_and_beyond_all_rows() -> None:
    mdp = WORLDS["xor"].build()
    held = instance_constants(mdp, stale(0.0), 16, 10.0, 4)
    assert (held.row, held.Lambda, held.tau, held.e) == ("stale", 0.0, 0.0, 0.0)
    free = instance_constants(mdp, no_is(0.0), 16, 0.1, 4)
    close(free.Lambda, 0.5 * 2 / 2)
    far = instance_constants(mdp, grpo(delta=0.0), 16, 0.075, 4)
    for name in ("row", "Lambda", "D", "tau", "e"):
        with pytest.raises(AbsentConstant, match=r"does not apply: clip provably inactive asks for .* which"):
            getattr(far, name)
    # With one step nothing drifts, whatever the step.
    assert instance_constants(mdp, grpo(delta=0.0), 16, 0.3, 1).e == 0.0


def test_fields_that_are_held_drift_by_nothing_and_steps_too_large_are_reported():
    check_drift_without_clip_and_beyond_all_rows()


def check_variable_length_by_hand() -> None:
    """One row, EOS, T = 3: lengths 1, 2, 3; kappa sqrt(2 n^2) = sqrt 2 for every length."""
    mdp = WORLDS["length-trap"].build()
    c = instance_constants(mdp, grpo(delta=0.0), 4)
    close(c.B, math.sqrt(18))
    close(c.B_Phi, math.sqrt(2))
    assert (c.d_max, c.l_min, c.horizon) == (3.0, 1, 3)
    assert c.notes["d_max"].startswith("exact")
    with pytest.raises(
        AbsentConstant, match=r"c_min: does not apply: responses of different length have fac"
    ):
        _ = c.c_min
    # The sum over tokens has one factor for all lengths, and the same slope as with constant length.
    literal = instance_constants(mdp, tic_grpo(delta=0.0), 4)
    close(literal.c_min, 0.75 / 0.5)
    close(literal.Q, 3 / 2)


def test_variable_length_by_hand():
    check_variable_length_by_hand()


def test_an_upper_bound_says_so():
    notes = instance_constants(WORLDS["bigram"].build()).notes
    assert notes["d_max"].startswith("upper bound") and "upper bound" in notes["L_J"]


def test_what_needs_an_argument_is_absent_by_name():
    mdp = WORLDS["xor"].build()
    c = instance_constants(mdp)
    assert "L_J" in c and "kappa" not in c
    with pytest.raises(AbsentConstant, match=r"kappa: needs estimator=\.\.\.: give it in instance_constants"):
        _ = c.kappa
    with pytest.raises(ValueError, match=r"c_min: needs group_size"):
        _ = instance_constants(mdp, "grpo").c_min
    with pytest.raises(AttributeError, match=r"tau: needs learning_rate=\.\.\. and inner_steps=\.\.\."):
        _ = instance_constants(mdp, "grpo", 4).tau
    with pytest.raises(ValueError, match=r"tau: needs inner_steps=\.\.\.:"):
        _ = instance_constants(mdp, "grpo", 4, 0.1).tau
    with pytest.raises(AbsentConstant, match=r"c_G: needs group_size=\.\.\."):
        _ = instance_constants(mdp, "grpo").c_G
    with pytest.raises(AbsentConstant, match=r"LJ: no constant of this name; there are .*L_J"):
        _ = c.LJ
    assert not hasattr(c, "c_min")
    lines = c.describe().splitlines()
    assert any(line.startswith("L_J = 1: ") for line in lines)
    assert any(line.startswith("V: needs estimator") for line in lines)
    assert "c_G = f(theta)" in instance_constants(mdp, "grpo", 4).describe()


@pytest.mark.parametrize(
    ("world", "estimator", "name", "reason"),
    [
        ("long-answers", dapo(), "B_Phi", "the scale reads the lengths of the whole group"),
        ("long-answers", grpo(), "kappa", "factors from 0.25 to 1"),
        ("two-prompts", grpo(), "c_max", "several prompts: each has a multiple of its own"),
        ("two-prompts", grpo(), "V", "several prompts: the variance between them does not fall"),
        ("few-values", grpo(), "V", "3 reward values: a bound"),
        ("xor", rloo(), "Q", "bounds are derived for advantages that a group standardises"),
        ("xor", cispo(), "Lambda", "clips that switch a weight off outside their range"),
        ("xor", gmpo(), "Lambda", "the token ratio and the trajectory ratio only"),
        ("xor", gspo(), "e", "the token ratio and the trajectory ratio only"),
        ("xor", lambda batch: batch.logp.sum(), "kappa", "a callable has no declared scale"),
    ],
)
def test_what_does_not_apply_is_absent_with_its_reason(world, estimator, name, reason):
    c = instance_constants(WORLDS[world].build(), estimator, 4, 0.01, 4)
    with pytest.raises(AbsentConstant, match=f"{name}: does not apply: .*{reason}"):
        getattr(c, name)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("grpo", 0, 0.1, 1), "group_size = 0: a group has a whole number"),
        (("grpo", 4, -0.1, 1), "learning_rate = -0.1: a step size must be > 0"),
        (("grpo", 4, 0.1, 0), "inner_steps = 0: K is a whole number >= 1"),
        (("grppo", 4, 0.1, 1), "unknown estimator 'grppo'"),
    ],
)
def test_bad_arguments_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        instance_constants(COIN, *arguments)


def test_the_optimum_by_hand():
    found = [optimum(WORLDS[name].build()) for name in ("xor", "length-trap", "prompt-trap", "few-values")]
    for each, value in zip(found, (1 / 2, 1 / 4, 9 / 16, 1.0), strict=True):
        close(each.value, value)
        assert each.exact
    unsure = optimum(WORLDS["two-prompts"].build())
    assert unsure.value == 1.0 and not unsure.exact and "upper bound" in unsure.reason


def test_the_bias_falls_as_one_over_G_only_where_delta_allows():
    mdp = WORLDS["few-values"].build()
    far, near = (instance_constants(mdp, grpo(delta=2.0), G).b_bar for G in (1000, 2000))
    assert near == pytest.approx(far / 2, rel=0.05)
    blind = instance_constants(mdp, ESTIMATORS["grpo"], 1000)
    assert blind.b_bar == pytest.approx(math.sqrt(0.5) / 3, **{"rel": 1e-12})
    assert "does not fall with G" in blind.notes["b_bar"]


C_G = [
    # p, G, delta: c_G of rewards 0 and 1.
    (0.5, 2, 0.0, 1.0),
    (0.5, 4, 0.0, 1.6160254038),
    (0.5, 16, 0.0, 1.9341226049),
    (0.5, 2, 0.1, 0.8333333333),
    (0.5, 4, 0.1, 1.3285479617),
    (0.1, 16, 0.0, 2.8478123621),
]


@pytest.mark.parametrize(("p", "G", "delta", "value"), C_G)
def test_the_multiple_at_one_policy_comes_out_to_the_printed_digits(p, G, delta, value):
    c = instance_constants(COIN, grpo(delta=delta), G)
    half = math.log(p / (1 - p)) / 2
    assert c.c_G([[half, -half]]) == pytest.approx(value, abs=PRINTED(10)["atol"])
    assert c.c_min <= c.kappa * c.c_G([[half, -half]]) + 1e-12 <= c.c_max + 2e-12


def test_printed_digits_of_an_instance():
    """c_max = 3.97 of the shared row at G = 64."""
    c = instance_constants(WORLDS["xor"].build(), stale(0.0), 64, 0.1, 1)
    assert c.c_max == pytest.approx(3.97, abs=PRINTED(2)["atol"])
    torch.testing.assert_close(c.L_J * 0.1 * c.c_max, 0.1 * math.sqrt(63) / 2, **EXACT)


def test_a_correction_for_a_sampler_has_no_constants_of_theta_old():
    corrected = dataclasses.replace(ESTIMATORS["grpo"], correction=masked("token", 1.1, 2.0))
    found = instance_constants(WORLDS["bandit"].build(), corrected, 4, 0.1, 2)
    assert "kappa" not in found and "weighs what a sampler draws" in found.describe()
    assert "kappa" in instance_constants(WORLDS["bandit"].build(), "grpo", 4, 0.1, 2)
