"""simulate: against the two algorithms written out for one replicate, for every estimator and small world."""

import dataclasses
import math

import pytest
import simulate_reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, mdps_with_masked_tokens, mdps_with_two_policies
from tolerances import EXACT

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import k1, k2, k3, kl_loss, kl_reward
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.simulate import Adam, Trace, simulate
from ticgrpo_theory.worlds import WORLDS

SUMS = (
    "sum_gradient_dot_move",
    "sum_move_norm_sq",
    "sum_gradient_dot_first",
    "sum_first_norm_sq",
    "final_return",
)
NAMES = sorted(ESTIMATORS)


def assert_is_reference(trace: Trace, mdp, theta, estimator, replicates: int, **run) -> None:
    """Path, records and sums of every replicate are those of the algorithm written out."""
    adam = run.pop("optimizer", None)
    if adam is not None:
        run["adam"] = (adam.beta1, adam.beta2, adam.epsilon)
    for r in range(replicates):
        reference = simulate_reference.run(mdp, theta, estimator, replicate=r, **run)
        torch.testing.assert_close(trace.theta[r], reference.path[-1], **EXACT)
        for name, value in reference.sums(mdp).items():
            assert getattr(trace, name)[r].item() == pytest.approx(value, abs=1e-12, rel=1e-12), name
        for column, n in enumerate(trace.steps.tolist()):
            here, there = reference.path[n], reference.path[n + 1]
            gradient = policy_gradient(mdp, here)
            expected = torch.tensor(
                [expected_return(mdp, here), gradient.square().sum(), (there - here).nan_to_num().norm()]
            )
            columns = (trace.expected_return, trace.gradient_norm_sq, trace.drift)
            torch.testing.assert_close(torch.stack([x[r, column] for x in columns]), expected, **EXACT)


def check(mdp, theta, estimator, replicates: int = 2, **run) -> None:
    trace = simulate(mdp, theta, estimator, replicates=replicates, **run)
    assert (trace.frozen == -1).all()
    assert_is_reference(trace, mdp, torch.as_tensor(theta, dtype=torch.float64), estimator, replicates, **run)


SMALL = {"group_size": 3, "learning_rate": 0.5, "inner_steps": 3, "outer_steps": 3}


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
@pytest.mark.parametrize("name", NAMES)
def test_every_estimator_takes_the_steps_of_the_algorithm(name, batches):
    world = WORLDS["long-answers"]
    mdp = world.build()
    check(mdp, world.theta_old(mdp), ESTIMATORS[name], batches=batches, prompts_per_step=2, **SMALL)


@pytest.mark.parametrize("world", sorted(WORLDS))
@pytest.mark.parametrize("optimizer", [None, Adam(0.5, 0.75, 1e-3)])
def test_every_world_is_walked_as_it_is_defined(world, optimizer):
    mdp = WORLDS[world].build()
    check(
        mdp,
        WORLDS[world].theta_old(mdp),
        ESTIMATORS["dapo"],
        optimizer=optimizer,
        batches="disjoint",
        prompts_per_step=2,
        **SMALL,
    )


@given(
    case=mdps_with_two_policies(),
    name=st.sampled_from(NAMES),
    batches=st.sampled_from(["reused", "disjoint"]),
    group_size=st.integers(2, 4),
    prompts=st.integers(1, 2),
    inner_steps=st.integers(1, 3),
)
@settings(max_examples=25)
def test_any_world_and_group(case: Case, name, batches, group_size, prompts, inner_steps):
    run = {"group_size": group_size, "inner_steps": inner_steps, "prompts_per_step": prompts}
    check(
        case.mdp,
        case.theta,
        ESTIMATORS[name],
        replicates=1,
        learning_rate=0.25,
        outer_steps=2,
        batches=batches,
        **run,
    )


@given(case=mdps_with_masked_tokens())
@settings(max_examples=10)
def test_tokens_that_are_impossible_stay_impossible(case: Case):
    check(case.mdp, case.theta, ESTIMATORS["grpo"], replicates=1, **SMALL)
    trace = simulate(case.mdp, case.theta, "grpo", replicates=2, optimizer=Adam(), **SMALL)
    masked = torch.tensor(case.theta, dtype=torch.float64) == -math.inf
    assert ((trace.theta == -math.inf) == masked).all() and (trace.frozen == -1).all()
    assert torch.isfinite(trace.sum_move_norm_sq).all()


def ppo_loss(logp, logp_old, advantages, mask):
    """A clipped loss as trainers write it."""
    ratio = (logp - logp_old).exp()
    surrogate = torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    return -((surrogate * mask).sum(-1) / mask.sum(-1)).mean()


GRPO, TIC = ESTIMATORS["grpo"], ESTIMATORS["tic_grpo"]
OTHERS = {
    "kl loss k3": dataclasses.replace(GRPO, penalty=kl_loss(k3, 0.25)),
    "kl loss k2, stale": dataclasses.replace(ESTIMATORS["stale"], penalty=kl_loss(k2, 0.5)),
    "kl reward k1": dataclasses.replace(TIC, penalty=kl_reward(k1, 0.125)),
    "loss": from_loss(ppo_loss, GRPO.advantage),
    "objective": Objective(lambda b: (b.logp.where(b.mask, 0.0).sum(-1) * b.reward).mean()),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("batches", ["reused", "disjoint"])
def test_penalties_losses_and_objectives(name, batches):
    world = WORLDS["two-prompts"]
    mdp = world.build()
    theta = world.theta_old(mdp)
    reference = {"theta_ref": theta.roll(1, dims=1)} if isinstance(OTHERS[name], Estimator) else {}
    check(mdp, theta, OTHERS[name], batches=batches, prompts_per_step=2, **reference, **SMALL)


def test_population_moments_are_those_of_theta_old_and_of_the_prompt():
    """Of each outer step, not of the first: the same as asking for known moments step by step."""
    world = WORLDS["two-prompts"]
    mdp = world.build()
    theta = world.theta_old(mdp)
    estimator = dataclasses.replace(TIC, advantage=population(0.1))
    run = SMALL | {"outer_steps": 1}
    path = simulate(mdp, theta, estimator, replicates=1, **SMALL)
    for prompt_only, (_, prompt) in enumerate(mdp.prompts):
        one = simulate(prompt, theta, estimator, replicates=2, **run)
        J = expected_return(prompt, theta)
        at = dataclasses.replace(TIC, advantage=population(0.1).at(J, math.sqrt(J * (1 - J))))
        by_hand = simulate(prompt, theta, at, replicates=2, **run)
        torch.testing.assert_close(one.theta, by_hand.theta, **EXACT)
        assert prompt_only in (0, 1)
    assert torch.isfinite(path.theta).all()
