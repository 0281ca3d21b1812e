"""simulate: against the two algorithms written out for one replicate, for every estimator and small world."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import algorithms
from tests.properties.strategies import Case, mdps_with_masked_tokens, mdps_with_two_policies
from tests.properties.tolerances import EXACT, VISIBLE
from tests.thinned import one_in, only
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import k1, k2, k3, kl_loss, kl_reward
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import Adam, Trace, simulate
from ticgrpo_theory.worlds import WORLDS

NAMES = sorted(FIRST)
QUICK = ["grpo", "gspo", "tic_grpo"]
"""One for each ratio of responses: a formula is compiled for every estimator and size."""
ENGINES = ("compiled", "hybrid", "tensors")
SMALL = {"group_size": 3, "learning_rate": 0.5, "inner_steps": 2, "outer_steps": 2}
TIGHT_ADAM = Adam(0.5, 0.75, 1e-3)


def assert_is_reference(trace: Trace, r: int, mdp, reference: algorithms.Reference) -> None:
    """Path, records and sums of replicate r are those of the algorithm written out."""
    torch.testing.assert_close(trace.theta[r], reference.path[-1], **EXACT)
    for name, value in reference.sums(mdp).items():
        assert getattr(trace, name)[r].item() == pytest.approx(value, abs=1e-12, rel=1e-12), name
    for column, n in enumerate(trace.steps.tolist()):
        here, there = reference.path[n], reference.path[n + 1]
        gradient = policy_gradient(mdp, here)
        expected = torch.tensor(
            [expected_return(mdp, here), gradient.square().sum(), (there - here).nan_to_num().norm()]
        )
        found = [x[r, column] for x in (trace.expected_return, trace.gradient_norm_sq, trace.drift)]
        torch.testing.assert_close(torch.stack(found), expected, **EXACT)


def check(mdp, theta, estimator, engines=ENGINES, replicates: int = 2, **run) -> None:
    """The last replicate of every engine is the reference."""
    theta = torch.as_tensor(theta, dtype=torch.float64)
    adam = run.get("optimizer")
    walk = {name: value for name, value in run.items() if name not in ("optimizer", "record_every")}
    walk["adam"] = None if adam is None else (adam.beta1, adam.beta2, adam.epsilon)
    last = replicates - 1
    reference = algorithms.run(mdp, theta, estimator, replicate=last, **walk)
    for engine in engines:
        trace = simulate(mdp, theta, estimator, engine=engine, replicates=replicates, **run)
        assert (trace.frozen == -1).all()
        assert_is_reference(trace, last, mdp, reference)


def check_estimator(name: str, batches: str) -> None:
    world = WORLDS["long-answers"]
    mdp = world.build()
    check(mdp, world.theta_old(mdp), ESTIMATORS[name], batches=batches, prompts_per_step=2, **SMALL)


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
@pytest.mark.parametrize("name", only(QUICK, NAMES))
def test_every_estimator_takes_the_steps_of_the_algorithm(name, batches):
    check_estimator(name, batches)


def check_world(name: str, optimizer: Adam | None) -> None:
    mdp = WORLDS[name].build()
    theta = WORLDS[name].theta_old(mdp)
    shape = {"batches": "disjoint", "prompts_per_step": 2, "optimizer": optimizer}
    check(mdp, theta, ESTIMATORS["dapo"], **shape, **SMALL)


@pytest.mark.parametrize("world", one_in(3, sorted(WORLDS)))
@pytest.mark.parametrize("optimizer", [None, TIGHT_ADAM])
def test_every_world_is_walked_as_it_is_defined(world, optimizer):
    check_world(world, optimizer)


@pytest.mark.parametrize("names", only([QUICK], [QUICK, NAMES]))
@given(
    case=mdps_with_two_policies(),
    data=st.data(),
    batches=st.sampled_from(["reused", "disjoint"]),
    optimizer=st.sampled_from([None, TIGHT_ADAM]),
    prompts=st.integers(1, 2),
    inner_steps=st.integers(1, 3),
    record_every=st.integers(1, 3),
)
@settings(max_examples=20)
def test_any_world_and_estimator(names, case: Case, data, prompts, **run):
    check(
        case.mdp,
        case.theta,
        ESTIMATORS[data.draw(st.sampled_from(names))],
        ("compiled",),
        prompts_per_step=prompts,
        group_size=3,
        learning_rate=0.25,
        outer_steps=2,
        **run,
    )


@given(case=mdps_with_masked_tokens(), engine=st.sampled_from(ENGINES))
@settings(max_examples=10)
def test_tokens_that_are_impossible_stay_impossible(case: Case, engine):
    check(case.mdp, case.theta, ESTIMATORS["grpo"], (engine,), **SMALL)
    trace = simulate(case.mdp, case.theta, "grpo", engine=engine, replicates=2, optimizer=TIGHT_ADAM, **SMALL)
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
    "population": dataclasses.replace(TIC, advantage=population(0.125)),
    "loss": from_loss(ppo_loss, GRPO.advantage),
    "objective": Objective(lambda b: (b.logp.where(b.mask, 0.0).sum(-1) * b.reward).mean()),
}


def check_other(name: str, batches: str) -> None:
    world = WORLDS["two-prompts"]
    mdp = world.build()
    theta = world.theta_old(mdp)
    penalised = isinstance(OTHERS[name], Estimator) and OTHERS[name].penalty is not None
    reference = {"theta_ref": theta.roll(1, dims=1)} if penalised else {}
    shape = {"batches": batches, "prompts_per_step": 2}
    check(mdp, theta, OTHERS[name], ("hybrid", "tensors"), **shape, **reference, **SMALL)


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
@pytest.mark.parametrize("name", OTHERS)
def test_penalties_moments_losses_and_objectives(name, batches):
    check_other(name, batches)


def test_single_precision_follows_double_precision():
    world = WORLDS["long-answers"]
    mdp = world.build()
    run = {"replicates": 8, "group_size": 4, "learning_rate": 0.5, "inner_steps": 2, "outer_steps": 5}
    double = simulate(mdp, world.theta_old(mdp), "grpo", **run)
    single = simulate(mdp, world.theta_old(mdp), "grpo", dtype=torch.float32, **run)
    for name in ("theta", "expected_return", "gradient_norm_sq", "sum_gradient_dot_move"):
        torch.testing.assert_close(getattr(single, name), getattr(double, name), atol=1e-5, rtol=1e-5)
    assert (single.theta != double.theta).any()


def check_two_tokens_by_hand() -> None:
    """One row, two tokens, rewards 0 and 1, theta = 0, G = 2, RLOO, eta = 1.

    A group with both tokens has A = -1, 1 and c = -1/2, 1/2; its weights add up to 0, so g_hat = (-1/2, 1/2)
    wherever the score is taken. Equal tokens have A = 0. Two inner steps with one group move twice as far.
    J = pi(1), so grad J = (-1/4, 1/4) at 0 and <grad J, Delta> = K/4, ||Delta||^2 = K^2/2.
    """
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 1.0])
    for K in (1, 2):
        trace = simulate(
            mdp,
            torch.zeros(1, 2),
            "rloo",
            replicates=20,
            group_size=2,
            learning_rate=1.0,
            inner_steps=K,
            outer_steps=1,
        )
        mixed = 0
        for r in range(20):
            second = [algorithms.uniform(0, r, 0, i, 0) >= 0.5 for i in range(2)]
            moved = K * float(second[0] != second[1])
            mixed += moved > 0
            assert trace.theta[r].tolist() == [[-moved / 2, moved / 2]]
            assert trace.sum_gradient_dot_move[r].item() == moved / 4
            assert trace.sum_move_norm_sq[r].item() == moved**2 / 2
            assert trace.sum_gradient_dot_first[r].item() == moved / K / 4
        assert 0 < mixed < 20
    assert trace.initial_return.tolist() == [0.5] * 20


def test_two_tokens_by_hand():
    check_two_tokens_by_hand()


def test_a_step_size_may_follow_a_schedule():
    world = WORLDS["long-answers"]
    mdp = world.build()
    run = {"replicates": 2, "group_size": 3, "inner_steps": 2}
    theta = world.theta_old(mdp)
    both = simulate(mdp, theta, "grpo", learning_rate=lambda n: 0.5 / (n + 1), outer_steps=2, **run)
    first = simulate(mdp, theta, "grpo", learning_rate=0.5, outer_steps=1, **run)
    constant = simulate(mdp, theta, "grpo", learning_rate=0.5, outer_steps=2, **run)
    torch.testing.assert_close(both.drift[:, :1], first.drift, **EXACT)
    assert (both.theta - constant.theta).abs().max() > VISIBLE


@pytest.mark.parametrize("engine", ENGINES)
def test_the_stale_gradient_makes_k_steps_one_step_k_times_as_long(engine):
    """Reused: (eta, K) is one step of eta K. Disjoint: one step of eta K on all K groups."""
    world = WORLDS["long-answers"]
    mdp, theta = world.build(), world.theta_old(world.build())
    run = {"replicates": 4, "group_size": 4, "outer_steps": 3, "engine": engine}
    many = simulate(mdp, theta, "stale", learning_rate=0.25, inner_steps=4, **run)
    one = simulate(mdp, theta, "stale", learning_rate=1.0, inner_steps=1, **run)
    torch.testing.assert_close(many.theta, one.theta, **EXACT)
    grpo = simulate(mdp, theta, "grpo", learning_rate=0.25, inner_steps=4, **run)
    assert (grpo.theta - many.theta).abs().max() > VISIBLE
    apart = simulate(
        mdp, theta, "stale", learning_rate=0.25, inner_steps=4, batches="disjoint", **run | {"outer_steps": 1}
    )
    together = simulate(
        mdp, theta, "stale", learning_rate=1.0, inner_steps=1, prompts_per_step=4, **run | {"outer_steps": 1}
    )
    torch.testing.assert_close(apart.theta, together.theta, **EXACT)
