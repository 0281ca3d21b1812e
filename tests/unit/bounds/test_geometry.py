"""geometry.py: rewards, lengths and visits that responses can have, counted by hand."""

import math

import pytest

from ticgrpo_theory.bounds.geometry import geometry
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS


def test_a_tree_visits_every_row_once_and_has_all_its_rewards():
    world = geometry(TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[1.0, 0.0, 0.25]))
    assert (world.rho, world.nu, world.lengths) == (0.5, 1, [1, 2])
    assert world.prompts[0].rewards.tolist() == [0.0, 0.25, 1.0]
    assert world.squared_visits == ({1: 1.0, 2: 2.0}, True)
    assert world.B == 2.0  # sqrt(2 * 2)
    assert world.d_max[0] == 1.0 and world.d_max[1].startswith("exact")


def test_outcomes_that_no_response_has_are_left_out():
    # State 2 is never entered; its reward of 9 must not widen the range of rewards.
    mdp = TokenMDP.automaton([[0, 1], [1, 1], [2, 2]], 2, 2, [0.0, 1.0, 9.0], rows="state")
    (prompt,) = geometry(mdp).prompts
    assert prompt.rewards.tolist() == [0.0, 1.0]
    entered = TokenMDP.automaton([[0, 1], [2, 1], [2, 2]], 2, 2, [0.0, 1.0, 9.0], rows="state")
    assert geometry(entered).rho == 4.5


def test_a_shared_row_is_visited_by_every_token():
    world = geometry(WORLDS["length-trap"].build())  # one row, EOS, T = 3
    assert (world.nu, world.lengths, world.rho) == (3, [1, 2, 3], 0.5)
    assert world.squared_visits == ({1: 1.0, 2: 4.0, 3: 9.0}, True)
    assert world.B == pytest.approx(math.sqrt(18)) and world.d_max[0] == 3.0


def test_two_prompts_on_one_row_visit_it_in_proportion_to_their_weights():
    one = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
    three = TokenMDP.automaton([[0, 0]], 2, 3, [0.5], rows="state")
    world = geometry(TokenMDP.mixture([one, three], [0.25, 0.75], share_rows=True))
    visits, how = world.d_max
    assert visits == 0.25 + 0.75 * 3 and how.startswith("upper bound")
    assert world.rho == 0.5  # the rewards of each prompt have a baseline of their own
