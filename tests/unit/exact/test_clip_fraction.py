"""exact/clip_fraction.py: the share of clipped tokens, against every ordered group counted one by one."""

import dataclasses
import math
import statistics

import pytest
import torch

from tests.oracles import definitions
from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.estimators import ESTIMATORS, catalogue
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.corrections import masked
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.mdp import TokenMDP

# Multiples of 1/8. The tree has EOS = 1, so lengths 1, 2, 3, 3; the mean of rewards 0, 1/2, 1 is one of them.
OLD = [[0.125, -0.25], [0.375, 0.0], [-0.25, 0.5]]
FAR = [[1.0, -0.625], [-0.5, 0.625], [0.5, -0.375]]
MU = [[-0.5, 0.25], [1.0, 0.0], [0.25, -0.5]]
SHORT = [[0.0, -0.25], [0.5, -math.inf], [0.0, 0.0]]
REWARD = {(0, 0, 0): 1.0, (0, 0, 1): 0.5, (0, 1): 0.0, (1,): 0.5}
G = 3


def log_w(ratios: list[float]) -> float:
    return math.fsum(ratios)


def mean_w(ratios: list[float]) -> float:
    return math.fsum(ratios) / len(ratios)


def band(value: float, A: float, low: float, high: float) -> bool:
    """PPO: off above `high` for A > 0, off below `low` for A < 0."""
    return value > high if A > 0 else value < low


UP, DOWN, WIDE = math.log(1.2), math.log(0.8), math.log(1.28)

CLIPPED = {
    "grpo": lambda r, A: [band(x, A, DOWN, UP) for x in r],
    "dapo": lambda r, A: [band(x, A, DOWN, WIDE) for x in r],
    "dr_grpo": lambda r, A: [band(x, A, DOWN, UP) for x in r],
    "tic_grpo": lambda r, A: [log_w(r) > WIDE] * len(r),
    "tic_grpo_eq11": lambda r, A: [log_w(r) > WIDE] * len(r),
    "tic_grpo_released": lambda r, A: (
        [log_w(r) > (0.01 * math.sqrt(len(r)) if A > 0 else math.log(3))] * len(r)
    ),
    "seq_clip": lambda r, A: [log_w(r) > WIDE if A > 0 else not DOWN <= log_w(r) <= math.log(3)] * len(r),
    "gspo": lambda r, A: [band(mean_w(r), A, DOWN, WIDE)] * len(r),
    "cispo": lambda r, A: [x > WIDE for x in r],
    "gmpo": lambda r, A: [band(x, A, -0.4, 0.4) for x in r],
    "no_is": lambda r, A: [False] * len(r),
    "trajectory_is": lambda r, A: [False] * len(r),
}


def counted(theta, clipped, drawn_from=OLD) -> float:
    """sum over ordered groups of P(group) (clipped tokens with A != 0), over the same of all tokens."""
    world = definitions.tree_world(2, 3, REWARD.__getitem__, eos=1)
    now, old = definitions.token_logps(world, theta), definitions.token_logps(world, OLD)
    above, below = 0.0, 0.0
    for members, P in definitions.ordered_groups(definitions.probabilities(world, drawn_from), G):
        rewards = [world.responses[i][2] for i in members]
        for i, reward in zip(members, rewards, strict=True):
            A = reward - statistics.fmean(rewards)
            ratios = [x - y for x, y in zip(now[i], old[i], strict=True)]
            below += P * len(ratios)
            above += P * sum(clipped(ratios, A)) if abs(A) > 1e-12 else 0.0
    return above / below


def fraction(theta, name: str, reward=REWARD.__getitem__) -> float:
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=reward, eos=1)
    (value,) = clip_fractions(mdp, [theta], OLD, ESTIMATORS[name], G)
    return value


@pytest.mark.parametrize("name", CLIPPED)
def test_the_share_is_that_of_all_ordered_groups_counted_one_by_one(name):
    expected = counted(FAR, CLIPPED[name])
    assert fraction(FAR, name) == pytest.approx(expected, abs=EXACT["atol"])
    assert (expected > 0.01) == (name not in ("no_is", "trajectory_is"))


def test_the_count_tells_a_clip_on_the_wrong_side_apart():
    wrong = counted(FAR, lambda r, A: CLIPPED["grpo"](r, -A))
    assert abs(fraction(FAR, "grpo") - wrong) > MOVES


@pytest.mark.parametrize("drawn_from", [MU, SHORT])
@pytest.mark.parametrize("name", ["grpo", "tic_grpo", "gspo", "cispo"])
def test_groups_are_those_of_the_sampler_and_ratios_those_to_theta_old(name, drawn_from):
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1)
    expected = counted(FAR, CLIPPED[name], drawn_from)
    (value,) = clip_fractions(mdp, [FAR], OLD, ESTIMATORS[name], G, theta_sampler=drawn_from)
    assert value == pytest.approx(expected, abs=EXACT["atol"])
    # Partners: groups of theta_old, and ratios to the sampler.
    assert abs(value - fraction(FAR, name)) > MOVES
    (of_sampler,) = clip_fractions(mdp, [FAR], MU, ESTIMATORS[name], G)
    assert abs(value - of_sampler) > MOVES


def test_what_a_correction_masks_is_drawn_and_not_clipped():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1)
    corrected = dataclasses.replace(ESTIMATORS["grpo"], correction=masked("token", 0.9, 1.1))
    (value,) = clip_fractions(mdp, [FAR], OLD, corrected, G, theta_sampler=MU)
    assert value == pytest.approx(counted(FAR, CLIPPED["grpo"], MU), abs=EXACT["atol"])


def test_moments_of_the_population_are_those_of_what_is_drawn():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1)
    world = definitions.tree_world(2, 3, REWARD.__getitem__, eos=1)
    now, old = definitions.token_logps(world, FAR), definitions.token_logps(world, OLD)
    P, reward = definitions.probabilities(world, MU), [r for _, _, r in world.responses]
    mu = math.fsum(p * r for p, r in zip(P, reward, strict=True))
    # Neither policy's mean reward is one of the rewards, and 1/2 is on different sides of the two.
    above = below = 0.0
    for i, p in enumerate(P):
        ratios = [x - y for x, y in zip(now[i], old[i], strict=True)]
        below += p * len(ratios)
        above += p * sum(CLIPPED["grpo"](ratios, reward[i] - mu))
    of_population = dataclasses.replace(ESTIMATORS["grpo"], advantage=population())
    (value,) = clip_fractions(mdp, [FAR], OLD, of_population, G, theta_sampler=MU)
    assert value == pytest.approx(above / below, abs=EXACT["atol"])


def test_nothing_is_clipped_at_theta_old_and_nothing_where_all_rewards_are_equal():
    for name in FIRST:
        assert fraction(OLD, name) == 0
        assert fraction(FAR, name, reward=lambda y: 0.5) == 0
    assert fraction(FAR, "grpo") > 0.01


def test_many_policies_at_once_give_the_same_numbers_as_one_by_one():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1)
    path = [torch.tensor(OLD).lerp(torch.tensor(FAR), x).double() for x in (0.0, 0.25, 0.5, 1.0)]
    together = clip_fractions(mdp, path, OLD, ESTIMATORS["gspo"], G)
    assert together == [clip_fractions(mdp, [theta], OLD, ESTIMATORS["gspo"], G)[0] for theta in path]
    assert together[0] == 0 < together[-1]


def test_prompts_are_weighed_by_tokens_not_by_prompts():
    # Prompt 1 is the tree above, prompt 2 one token of which nothing is ever clipped: its advantages are 0.
    tree = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1)
    dull = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.5, 0.5])
    both = TokenMDP.mixture([tree, dull], [0.25, 0.75], share_rows=False)
    theta, theta_old = [*FAR, [0.5, 0.0]], [*OLD, [0.0, 0.0]]
    world = definitions.tree_world(2, 3, REWARD.__getitem__, eos=1)
    P = definitions.probabilities(world, OLD)
    length = math.fsum(p * len(y) for p, (y, _, _) in zip(P, world.responses, strict=True))
    expected = 0.25 * length * counted(FAR, CLIPPED["grpo"]) / (0.25 * length + 0.75)
    (value,) = clip_fractions(both, [theta], theta_old, ESTIMATORS["grpo"], G)
    assert value == pytest.approx(expected, abs=EXACT["atol"])


def test_each_prompt_once_counts_prompts_alike():
    trees = [
        TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1),
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.5, 0.5]),
    ]
    theta, theta_old = [*FAR, [0.5, 0.0]], [*OLD, [0.0, 0.0]]

    def share(weights, prompts):
        both = TokenMDP.mixture(trees, weights, share_rows=False)
        return clip_fractions(both, [theta], theta_old, ESTIMATORS["grpo"], G, prompts=prompts)[0]

    assert share([0.25, 0.75], "each") == pytest.approx(share([0.5, 0.5], None), abs=EXACT["atol"])
    assert share([0.25, 0.75], 3) == pytest.approx(share([0.25, 0.75], None), abs=EXACT["atol"])
    assert abs(share([0.25, 0.75], "each") - share([0.25, 0.75], None)) > MOVES


def test_the_bound_of_the_clip_moves_the_share():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARD.__getitem__, eos=1)
    shares = [
        clip_fractions(mdp, [FAR], OLD, catalogue.grpo(eps_low=eps, eps_high=eps), G)[0]
        for eps in (0.1, 0.5, 0.9)
    ]
    assert shares[0] > shares[1] + MOVES > shares[2] + 2 * MOVES
