"""The variance of updates cut into micro-batches, against every update, and every order of its rows."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.instances.two_prompts import OLD, THETA, two_prompts
from tests.unit.exact.updates.update_parts import PARTS
from ticgrpo_theory.estimators.advantages import raw, standardised
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import overlong
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.scales import micro_batch_token_mean, sequence_mean
from ticgrpo_theory.exact import gradient_moments
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.moments.sampled_moments import sampled_moments
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.exact.updates.placements import orders, random_placements
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS


def three_rewards() -> TokenMDP:
    """Two prompts with rows of their own and rewards of three kinds."""
    worlds = []
    for n in range(2):
        reward = {y: [0.0, 1.0, 3.0][(i + n) % 3] for i, y in enumerate([(0, 0), (0, 1), (1,)])}
        worlds.append(TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=reward.__getitem__, eos=1))
    return TokenMDP.mixture(worlds, [0.3, 0.7], share_rows=False)


def check_cut(rows, order, prompts, G=3, ratio=token, advantage=None, filter=None) -> None:
    """Micro-batches that cut groups, against every update there is."""
    world, rng = three_rewards(), np.random.default_rng(5)
    theta, old = (torch.from_numpy(rng.normal(size=(world.num_rows, 2))) for _ in range(2))
    clip, advantage = two_sided(0.1, 0.2) if ratio is token else unclipped(), advantage or standardised(0.25)
    estimator = Estimator(ratio, advantage, clip, micro_batch_token_mean(rows, order), filter=filter)
    pairs, listed = (
        gradient_moments(world, theta, old, estimator, G, method, prompts=prompts)
        for method in ("auto", "groups")
    )
    assert pairs.method in ("dynamic_programming", "enumeration")
    torch.testing.assert_close(pairs.mean, listed.mean, rtol=0, atol=1e-14)
    assert abs(pairs.variance - listed.variance) <= 1e-13 * listed.second_moment


@pytest.mark.parametrize(
    "rows, order, prompts, more",
    [
        (2, "in_order", 2, {}),
        (2, "in_order", "each", {"ratio": trajectory}),
        (3, (0, 3, 4, 1, 2, 5), 2, {"filter": overlong("mask")}),
        (2, (0, 3, 4, 1, 2, 5), "each", {"advantage": raw()}),
    ],
    ids=range(4),
)
def test_micro_batches_that_cut_groups_against_every_update(rows, order, prompts, more):
    check_cut(rows, order, prompts, **more)


def all_cuts(B: int, rows: int) -> Iterator[tuple[int, ...]]:
    """One order for each way to cut B rows, by trying all permutations."""
    seen = set()
    for order in itertools.permutations(range(B)):
        key = frozenset(frozenset(order[first : first + rows]) for first in range(0, B, rows))
        if key not in seen:
            seen.add(key)
            yield order


def check_random_order(rows: int, prompts: int | str, G: int) -> None:
    """E||g_hat||^2 of a random order is the mean over the orders that it may be."""

    def moments(order, method):
        scale = micro_batch_token_mean(rows, order)
        estimator = Estimator(token, standardised(0.25), two_sided(0.1, 0.2), scale)
        return gradient_moments(two_prompts((0.25, 0.75)), THETA, OLD, estimator, G, method, prompts=prompts)

    B = G * (2 if prompts == "each" else prompts)
    second = np.mean([moments(order, "groups").second_moment for order in all_cuts(B, rows)])
    for method in ("enumeration", "groups"):
        assert moments("shuffled", method).second_moment == pytest.approx(second, rel=1e-13)


@pytest.mark.parametrize("rows, prompts, G", [(2, "each", 2), (2, 3, 2), (3, 2, 3)])
def test_a_random_order_adds_its_own_noise(rows, prompts, G):
    check_random_order(rows, prompts, G)


def test_one_row_each_is_the_mean_of_responses():
    cut, plain = (
        gradient_moments(
            two_prompts(), THETA, OLD, Estimator(token, standardised(), unclipped(), s), 2, prompts=2
        )
        for s in (micro_batch_token_mean(1, "shuffled"), sequence_mean)
    )
    assert cut.method == plain.method and abs(cut.variance - plain.variance) < 1e-15


@pytest.mark.parametrize("each", [False, True])
def test_placements_are_all_there_are(each):
    """4 groups of 3, 2 rows here and 3 there: against every choice of 5 of the 12 rows."""
    found: dict = {}
    for chance, placed in random_placements((2, 3), 4, 3, each):
        found[placed] = found.get(placed, 0.0) + chance
    counted: dict = {}
    for first in itertools.combinations(range(12), 2):
        for second in itertools.combinations([b for b in range(12) if b not in first], 3):
            rows = [(sum(b // 3 == g for b in first), sum(b // 3 == g for b in second)) for g in range(4)]
            key = tuple(sorted((g if each else 0, share) for g, share in enumerate(rows) if sum(share)))
            counted[key] = counted.get(key, 0) + 1
    total = sum(counted.values())
    assert {tuple(sorted(k)): pytest.approx(v) for k, v in found.items()} == {
        k: n / total for k, n in counted.items()
    }


def test_too_many_placements_are_refused():
    world = WORLDS["right-answer"].build()
    logits = torch.zeros(world.num_rows, world.vocab_size, dtype=torch.float64)
    estimator = Estimator(token, standardised(), unclipped(), micro_batch_token_mean(16, "shuffled"))
    with pytest.raises(NotAffordable, match=r"16 rows are cut off .* MAX_PLACEMENTS = 10,000 ways: lower"):
        gradient_moments(world, logits, logits, estimator, 16, prompts=64)
    with pytest.raises(NotAffordable, match=r"12 rows in a random order .* in 10,395 ways"):
        orders(12, 2)


def test_the_noise_of_an_order_is_not_sampled():
    entry = PARTS["pairs shuffled"]
    estimator = Estimator(token, entry.advantage, unclipped(), entry.scale)
    parts = CheckedProblem(two_prompts(), THETA, OLD, estimator, 2, prompts=2).parts
    with pytest.raises(
        ValueError, match=r"the order .* is random, and its noise is not drawn: give an order"
    ):
        sampled_moments(parts)
