"""E[g_hat] of whole updates: every method against sums over all ordered updates on random small worlds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import whole_updates as oracle
from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT
from tests.thinned import one_in
from tests.unit.exact.updates.update_parts import PARTS, Entry
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP

REWARDS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3)
LOGITS = st.lists(st.lists(eighths(-1, 1), min_size=2, max_size=2), min_size=2, max_size=2)


def world_of(rewards: list[list[float]], weights: list[float]) -> TokenMDP:
    each = [TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=r) for r in rewards]
    return TokenMDP.mixture(each, weights, share_rows=True)


def prompts_of(rewards: list[list[float]]) -> list[oracle.Prompt]:
    return [
        [
            oracle.Response((0, 1), (0, 0), r[0], cut=True),
            oracle.Response((0, 1), (0, 1), r[1]),
            oracle.Response((0,), (1,), r[2]),
        ]
        for r in rewards
    ]


def estimator_of(entry: Entry) -> Estimator:
    return Estimator(token, entry.advantage, unclipped(), entry.scale, filter=entry.filter)


def expected_of(entry: Entry, prompts, theta, old, weights, each: bool):
    """By its definition; None where no update is possible."""
    P, drawn = 2, None if each else weights
    if entry.again == "same_prompt":
        shares = [1.0, 0.0] if each else weights
        if each:
            return oracle.expectation(entry.loops, prompts, theta, old, G=2, P=P, allowed=oracle.all_unequal)
        return oracle.same_prompt_again(entry.loops, prompts, theta, old, G=2, P=P, weights=shares)
    allowed = oracle.all_unequal if entry.again == "refill" else (lambda groups: True)
    return oracle.expectation(entry.loops, prompts, theta, old, G=2, P=P, weights=drawn, allowed=allowed)


def possible(entry: Entry, rewards: list[list[float]]) -> bool:
    """Whether a filter keeps something of every prompt."""
    varied = [len(set(r)) > 1 for r in rewards]
    return all(varied) if entry.again else any(varied) or not entry.drops


def check_methods(name: str, rewards, theta, old, each: bool, methods: tuple[str, ...]) -> None:
    entry, weights = PARTS[name], [0.25, 0.75]
    if not possible(entry, rewards) or (each and entry.again == "refill"):
        return
    estimator = estimator_of(entry)
    world = world_of(rewards, weights)
    wanted = torch.tensor(
        expected_of(entry, prompts_of(rewards), theta, old, weights, each), dtype=torch.float64
    )
    for method in methods:
        if method != "groups" and entry.listed_only:
            continue
        found = expected_gradient(
            world, theta, old, estimator, 2, prompts="each" if each else 2, method=method
        )
        torch.testing.assert_close(found, wanted, **EXACT)


@settings(max_examples=10)
@given(theta=LOGITS, old=LOGITS, sampler=LOGITS)
def test_the_other_rows_are_drawn_by_the_sampler_too(theta, old, sampler):
    for name in ("token mean", "batch", "refill", "pairs shuffled"):
        entry, rewards = PARTS[name], [[1.0, 0.0, 0.5], [1.0, 1.0, 0.0]]
        allowed = oracle.all_unequal if entry.again else (lambda groups: True)
        drawn = {"G": 2, "P": 2, "weights": [0.25, 0.75], "allowed": allowed, "sampler": sampler}
        wanted = oracle.expectation(entry.loops, prompts_of(rewards), theta, old, **drawn)
        world, estimator = world_of(rewards, [0.25, 0.75]), estimator_of(entry)
        for method in ("dynamic_programming", "groups"):
            found = expected_gradient(
                world, theta, old, estimator, 2, prompts=2, method=method, theta_sampler=sampler
            )
            torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("name", one_in(7, PARTS))
@settings(max_examples=20)
@given(rewards=st.lists(REWARDS, min_size=2, max_size=2), theta=LOGITS, old=LOGITS, each=st.booleans())
def test_every_method_gives_the_sum_over_all_ordered_updates(name, rewards, theta, old, each):
    check_methods(name, rewards, theta, old, each, ("dynamic_programming", "enumeration", "groups"))
