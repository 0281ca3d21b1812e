"""catalogue.py: each world rewards what its reason says, compared with responses listed in plain Python."""

import itertools
import math

import pytest
import torch

from tests.oracles import definitions
from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.worlds import WORLDS


def close(value: float):
    return pytest.approx(value, abs=EXACT["atol"], rel=EXACT["rtol"])


def pairs(right):
    return definitions.path_world(2, 2, lambda prefix: 0, lambda y: float(right(*y)))


def no_repetition_then_0(y: tuple[int, ...]) -> float:
    return float(y[-1] == 0 and all(a != b for a, b in itertools.pairwise(y)))


def drawn(name: str):
    """Random rewards have no definition but their list."""
    mdp = WORLDS[name].build()
    table = dict(zip(mdp.responses, mdp.graph.reward.tolist(), strict=True))
    return definitions.tree_world(mdp.vocab_size, mdp.horizon, table.__getitem__)


DEFINED = {
    "bandit": lambda: [(1.0, definitions.tree_world(4, 1, lambda y: float(y == (2,))))],
    "xor": lambda: [(1.0, pairs(lambda a, b: a != b))],
    "right-answer": lambda: [(1.0, definitions.tree_world(3, 3, lambda y: float(y == (0, 1, 2))))],
    "few-values": lambda: [(1.0, drawn("few-values"))],
    "distinct-values": lambda: [(1.0, drawn("distinct-values"))],
    "count-mod-3": lambda: [
        (1.0, definitions.path_world(2, 10, lambda s: s.count(0) % 3, lambda y: float(y.count(0) % 3 == 2)))
    ],
    "bigram": lambda: [
        (1.0, definitions.path_world(3, 5, lambda s: 1 + s[-1] if s else 0, no_repetition_then_0))
    ],
    "long-answers": lambda: [(1.0, definitions.tree_world(3, 4, lambda y: float(y.count(0) >= 2), eos=2))],
    "length-trap": lambda: [
        (1.0, definitions.path_world(2, 3, lambda s: 0, lambda y: float(len(y) == 2), eos=1))
    ],
    "two-prompts": lambda: [
        (0.5, definitions.tree_world(3, 3, lambda y: float(y[-1] == 0))),
        (0.5, definitions.tree_world(3, 3, lambda y: float(y == (1, 2, 0)))),
    ],
    "prompt-trap": lambda: [(0.5, pairs(lambda a, b: a != b)), (0.5, pairs(lambda a, b: a == 0))],
}


def started(name: str):
    mdp = WORLDS[name].build()
    return mdp, WORLDS[name].theta_old(mdp)


def test_every_world_is_defined_here_too():
    assert set(DEFINED) == set(WORLDS)


@pytest.mark.parametrize("name", WORLDS)
def test_return_and_gradient_are_those_of_the_responses_listed_one_by_one(name):
    mdp, theta = started(name)
    parts = DEFINED[name]()
    logits = theta.tolist()
    expected = sum(weight * definitions.expected_return(world, logits) for weight, world in parts)
    assert expected_return(mdp, theta) == close(expected)
    gradient = sum(
        weight * torch.tensor(definitions.policy_gradient(world, logits), dtype=torch.float64)
        for weight, world in parts
    )
    torch.testing.assert_close(policy_gradient(mdp, theta), gradient, **EXACT)


def test_the_same_check_tells_one_wrong_reward_apart():
    mdp, theta = started("right-answer")
    wrong = definitions.tree_world(3, 3, lambda y: float(y == (0, 2, 1)))
    assert abs(expected_return(mdp, theta) - definitions.expected_return(wrong, theta.tolist())) > MOVES


@pytest.mark.parametrize("name", WORLDS)
def test_every_start_is_a_full_policy_with_a_direction_to_climb(name):
    mdp, theta = started(name)
    assert theta.shape == (mdp.num_rows, mdp.vocab_size) and theta.dtype == torch.float64
    assert torch.isfinite(theta).all() and theta.abs().max() < 1
    assert policy_gradient(mdp, theta).norm() > 10 * MOVES


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_gives_its_name_and_its_reason(name):
    world = WORLDS[name]
    assert world.name == name and len(world.reason) > 60 and world.reason.endswith(".")


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_the_same_every_time_it_is_built(name):
    (mdp, theta), (again, theta_again) = started(name), started(name)
    assert torch.equal(theta, theta_again)
    assert expected_return(mdp, theta) == expected_return(again, theta)


def test_returns_worked_out_by_hand():
    # xor 2 (.7)(.3); length-trap (.6)(.4); prompt-trap half of 2 p (1 - p), half of p, at p = .76.
    by_hand = {"xor": 0.42, "length-trap": 0.24, "prompt-trap": 0.76 * 0.24 + 0.38}
    for name, value in by_hand.items():
        assert expected_return(*started(name)) == close(value)
    # bandit: logits -.3, .2, 0, -.2 of row 0, the third is right.
    assert expected_return(*started("bandit")) == close(1 / sum(map(math.exp, (-0.3, 0.2, 0.0, -0.2))))


def test_random_rewards_are_the_same_on_every_machine():
    few = WORLDS["few-values"].build().graph.reward.tolist()
    assert set(few) == {0.0, 0.5, 1.0}
    distinct = WORLDS["distinct-values"].build().graph.reward.tolist()
    assert len(set(distinct)) == len(distinct) == 8
    assert (few[:9], [round(r, 6) for r in distinct[:3]]) == (
        [0.5, 1.0, 1.0, 0.5, 0.5, 0.0, 0.5, 0.5, 0.0],
        [0.330554, 0.769414, 0.987192],
    )


@pytest.mark.parametrize(
    ("name", "trapped", "free"), [("length-trap", "grpo", "tic_grpo"), ("prompt-trap", "grpo", "dr_grpo")]
)
def test_a_trap_sends_one_estimator_away_from_the_optimum_and_not_another(name, trapped, free):
    mdp, theta = started(name)
    gradient = policy_gradient(mdp, theta)
    uphill = {
        estimator: float((expected_gradient(mdp, theta, theta, estimator, group_size=8) * gradient).sum())
        for estimator in (trapped, free)
    }
    assert uphill[trapped] < -1e-6 and uphill[free] > 1e-6


def test_the_prompts_differ_in_difficulty():
    mdp, theta = started("two-prompts")
    (_, easy), (_, hard) = mdp.prompts
    assert expected_return(easy, theta) > 5 * expected_return(hard, theta) > 0


def test_only_the_worlds_about_length_have_several_lengths():
    several = set()
    for name in WORLDS:
        lengths = {n for _, world in DEFINED[name]() for n in (len(y) for y, _, _ in world.responses)}
        several |= {name} if len(lengths) > 1 else set()
    assert several == {"long-answers", "length-trap"}


def test_longer_answers_are_right_more_often():
    ((_, world),) = DEFINED["long-answers"]()
    P = definitions.probabilities(world, started("long-answers")[1].tolist())
    chance = {}
    for n in (1, 2, 3, 4):
        of_length = [(p, r) for p, (y, _, r) in zip(P, world.responses, strict=True) if len(y) == n]
        chance[n] = sum(p * r for p, r in of_length) / sum(p for p, _ in of_length)
    assert chance[1] == chance[2] == 0 < chance[3] < chance[4]


def test_an_unknown_world_is_answered_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"unknown world 'bigrams'; nearest names: bigram"):
        WORLDS["bigrams"]
    with pytest.raises(ValueError, match=r"unknown world 'zzz'; nearest names: bandit, bigram, .*xor"):
        WORLDS["zzz"]
