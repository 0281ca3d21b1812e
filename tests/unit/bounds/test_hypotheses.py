"""A trace carries its settings, and no theorem or certificate speaks of a run that was made otherwise."""

import dataclasses
import math

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.bounds import (
    check_c0,
    check_c1,
    check_c2,
    check_c2_all_groups,
    first_step,
    instance_constants,
    theorem_1,
    theorem_2,
)
from ticgrpo_theory.bounds.best_return import Optimum
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, grpo, stale
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import Adam, Trace, simulate
from ticgrpo_theory.worlds import WORLDS

FAR = [[0.75, -0.75]]
XOR = WORLDS["xor"].build()
ASKED = {"estimator": stale(0.0), "group_size": 4, "learning_rate": 0.01, "inner_steps": 4}
RUN = {**ASKED, "outer_steps": 3, "replicates": 2, "record_theta": True, "engine": "hybrid"}
OF_CONSTANTS = (theorem_1, theorem_2, check_c2, check_c2_all_groups)


def run(mdp: TokenMDP = XOR, **changes) -> Trace:
    settings = {**RUN, **changes}
    theta = FAR if mdp.num_rows == 1 else torch.zeros(mdp.num_rows, mdp.vocab_size, dtype=torch.float64)
    return simulate(mdp, theta, settings.pop("estimator"), **settings)


def constants(mdp: TokenMDP = XOR, **changes):
    return instance_constants(mdp, **{**ASKED, **changes})


def refused(text: str, call, *arguments, **more) -> None:
    with pytest.raises(ValueError, match=text):
        call(*arguments, **more)


@pytest.mark.parametrize("engine", ["compiled", "hybrid", "tensors"])
def test_a_trace_carries_what_was_given(engine):
    adam, reference = Adam(beta1=0.5), [[0.5, 0.0]]
    made = run(
        **{
            "estimator": "grpo",
            "learning_rate": lambda n: 0.1 / (n + 1),
            "batches": "disjoint",
            "prompts_per_step": 2,
            "optimizer": adam,
            "theta_ref": reference,
            "seed": 7,
            "first_replicate": 5,
            "record_every": 2,
            "engine": engine,
        }
    ).settings
    assert made.world == XOR.digest and made.estimator == ESTIMATORS["grpo"]
    assert made.learning_rates.tolist() == [0.1, 0.05, 0.1 / 3] and made.learning_rate is None
    assert (made.group_size, made.inner_steps, made.outer_steps) == (4, 4, 3)
    assert (made.batches, made.prompts_per_step, made.optimizer) == ("disjoint", 2, adam)
    assert made.theta_ref is not None and made.theta_ref.tolist() == reference
    assert (made.seed, made.first_replicate, made.record_every) == (7, 5, 2)
    assert (made.engine, made.device, made.dtype) == (engine, "cpu", torch.float64)
    plain = run(engine="auto", inner_steps=1, batches="disjoint").settings
    assert plain.learning_rate == 0.01 and plain.batches == "reused" and plain.engine == "compiled"


def check_world_is_compared() -> None:
    other = WORLDS["xor"].build()
    other.graph.reward[1] = 0.75
    trace, rebuilt = run(), WORLDS["xor"].build()
    assert rebuilt is not XOR and check_c0(rebuilt, trace).holds and check_c1(rebuilt, trace).holds
    for certificate in (check_c0, check_c1):
        refused(r"world = \w{12} is given, and the trace was simulated in world", certificate, other, trace)
    for bound in OF_CONSTANTS:
        assert bound(constants(rebuilt), trace).applies
        refused("world = .* give the mdp that was simulated", bound, constants(other), trace)


def test_a_rebuilt_world_is_the_same_and_one_with_another_reward_is_not():
    check_world_is_compared()


def test_a_world_that_was_written_to_after_the_run_is_another():
    mdp = WORLDS["xor"].build()
    trace = run(mdp)
    mdp.graph.reward[0] += 0.5
    refused("world = ", check_c1, mdp, trace)


def check_settings_are_compared() -> None:
    """Every argument of the constants, in every theorem and certificate that has them."""
    trace = run()
    others = {
        "estimator": (
            grpo(delta=0.0),
            "estimator = ratio=token.* give instance_constants.*estimator=ratio=none",
        ),
        "group_size": (
            8,
            r"group_size = 8 is .* with group_size = 4: give .*group_size=4\), or simulate with",
        ),
        "learning_rate": (
            0.02,
            r"learning_rate = 0.02 is .* learning_rate = 0.01: give .*learning_rate=0.01",
        ),
        "inner_steps": (2, r"inner_steps = 2 is .* inner_steps = 4: give .*inner_steps=4"),
    }
    for name, (value, text) in others.items():
        for bound in OF_CONSTANTS:
            refused(text, bound, constants(**{name: value}), trace)
    # Step sizes that were meant to be one differ by rounding.
    assert 0.03 / 3 != 0.1 * 0.1
    trace = run(learning_rate=0.1 * 0.1)
    assert theorem_1(constants(learning_rate=0.03 / 3), trace).applies


def test_constants_of_another_run_are_refused():
    check_settings_are_compared()
    # The name of an estimator is not the estimator.
    own = run(estimator=lambda batch: batch.logp.sum(), outer_steps=1)
    given = constants(estimator=lambda batch: batch.logp.sum())
    refused(r"\(one object\) is given.*\(another object of that name\)", theorem_1, given, own)


def check_batches_are_those_of_the_trace() -> None:
    """Left out, they are read; given, they must agree; with one inner step there is only one kind."""
    moving = constants(estimator=grpo(delta=0.0), learning_rate=0.001)
    apart = run(estimator=grpo(delta=0.0), learning_rate=0.001, batches="disjoint")
    silent = theorem_2(moving, apart)
    assert not silent.applies and silent.failed.startswith("one group is reused, or nothing drifts")
    assert theorem_2(moving, run(estimator=grpo(delta=0.0), learning_rate=0.001)).applies
    assert theorem_1(moving, apart).right == theorem_1(moving, apart, batches="disjoint").right
    for bound in (theorem_1, theorem_2, check_c2):
        text = "batches = reused is given, and the trace was made with batches = disjoint"
        refused(text, bound, moving, apart, batches="reused")
    one = run(inner_steps=1)
    assert theorem_1(constants(inner_steps=1), one, batches="disjoint").applies


def test_batches_are_those_of_the_trace():
    check_batches_are_those_of_the_trace()


def check_prompts_are_those_of_the_trace() -> None:
    """Two groups halve the variance of the first step, and with it the right side of C2."""
    pairs = run(prompts_per_step=2)
    assert check_c2(constants(), pairs).holds
    assert check_c2(constants(), pairs, prompts_per_step=2).holds
    alone = dataclasses.replace(pairs, settings=dataclasses.replace(pairs.settings, prompts_per_step=1))
    step = first_step(XOR, pairs.path.flatten(0, 1), ASKED["estimator"], 4)
    variance = (step.second_moment - step.mean.square().sum(dim=(1, 2))).reshape(2, 3).sum(dim=1)
    less = check_c2(constants(), alone).rhs - check_c2(constants(), pairs).rhs
    torch.testing.assert_close(less, constants().L_J / 2 * 0.04 * variance / 2, **EXACT)
    text = "prompts_per_step = 1 is given, and the trace was made with prompts_per_step = 2"
    refused(text, check_c2, constants(), pairs, prompts_per_step=1)
    refused("prompts_per_step = 2, not 1: all groups are followed", check_c2_all_groups, constants(), pairs)
    apart = run(batches="disjoint")
    refused("batches = 'disjoint', not 'reused'", check_c2_all_groups, constants(), apart)


def test_prompts_are_those_of_the_trace():
    check_prompts_are_those_of_the_trace()


def check_ascent_is_decided_from_the_trace() -> None:
    """Adam and a schedule leave theorems 1 and 2 and C2 silent; a schedule that stays at one eta does not."""
    adam, falling = run(optimizer=Adam()), run(learning_rate=lambda n: 0.01 / (n + 1))
    steady = run(learning_rate=lambda n: 0.01)
    for bound in (theorem_1, theorem_2, check_c2):
        found = bound(constants(), adam)
        assert not found.applies and found.failed == f"plain ascent: optimizer = {Adam()}"
        found = bound(constants(), falling)
        assert not found.applies and found.failed == "eta is constant: eta from 0.003333 to 0.01"
        assert bound(constants(), steady).applies
    assert theorem_1(constants(), adam).right == math.inf
    assert torch.isinf(check_c2(constants(), falling).rhs).all()
    for trace, text in ((adam, "plain ascent fails, optimizer = Adam"), (falling, "eta is constant fails")):
        refused(text + ".* take check_c1, which holds for any run", check_c2_all_groups, constants(), trace)
        assert check_c1(XOR, trace).holds and check_c0(XOR, trace).holds


def test_plain_ascent_is_decided_from_the_trace():
    check_ascent_is_decided_from_the_trace()


def check_arguments_agree_with_the_trace() -> None:
    """J_1, N and J* that the trace contradicts."""
    trace, J_1 = run(), expected_return(XOR, torch.tensor(FAR, dtype=torch.float64))
    assert theorem_1(constants(), trace, initial_return=J_1, outer_steps=3).applies
    text = r"initial_return = 0.1 is given, and the trace was made with initial_return = 0.298"
    refused(text, theorem_1, constants(), trace, initial_return=0.1)
    refused(
        "outer_steps = 5 is .* outer_steps = 3: give outer_steps=3",
        theorem_1,
        constants(),
        trace,
        outer_steps=5,
    )
    low = Optimum(0.25, False, "a guess")
    refused(r"J\* = 0.25 is below J = 0.30", theorem_1, constants(), trace, best=low)
    for J, text in (
        (0.75, r"J\* = 0.5 is below J = 0.75"),
        (math.nan, "initial_return = nan must be a finite"),
    ):
        refused(text, theorem_1, constants(), initial_return=J, outer_steps=3)


def test_arguments_that_the_trace_contradicts_are_refused():
    check_arguments_agree_with_the_trace()


def check_records_are_whole() -> None:
    """One record of three steps: 0, 1, 2, ... as far as it goes, and yet not every step."""
    seldom = run(record_every=3)
    assert seldom.steps.tolist() == [0]
    for bound in OF_CONSTANTS:
        refused(r"outer steps \[0\]\.\.\. of N = 3", bound, constants(), seldom)
    refused(r"outer steps \[0\]\.\.\. of N = 3", check_c0, XOR, seldom)


def test_a_record_of_the_first_step_alone_is_not_whole():
    check_records_are_whole()


def check_single_precision() -> None:
    """float32 rounds a run by more than 1e-9, which is no violation; theorems are about larger numbers."""
    single = run(engine="auto", dtype=torch.float32)
    for certificate in (check_c0, check_c1):
        refused(r"dtype = torch.float32: .* simulate with dtype=torch.float64", certificate, XOR, single)
    J_1 = expected_return(XOR, torch.tensor(FAR, dtype=torch.float64))
    assert theorem_1(constants(), single, initial_return=J_1).holds


def test_certificates_are_for_double_precision():
    check_single_precision()


def check_two_replicates() -> None:
    """A spread needs two."""
    assert check_c2(constants(), run(replicates=2)).holds
    refused("the trace has 1 replicate", check_c2, constants(), run(replicates=1))


def test_two_replicates_have_a_spread():
    check_two_replicates()
