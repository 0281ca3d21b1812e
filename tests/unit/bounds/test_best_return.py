"""best_return.py: J* by hand, exact where a policy reaches it, and an upper bound where none does."""

import pytest

from tests.properties.tolerances import EXACT
from ticgrpo_theory.bounds.best_return import of_one_row, optimum
from ticgrpo_theory.bounds.geometry import geometry
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.mdp import TokenMDP


def shared(reward: list[float], rows: str = "state") -> TokenMDP:
    """Two tokens; the state counts the tokens 0. One row for all where `rows` says [0, 0, 0]."""
    table = [0, 0, 0] if rows == "one" else rows
    return TokenMDP.automaton([[1, 0], [2, 1], [2, 2]], 2, 2, reward, rows=table)


def test_on_one_row_it_is_the_largest_value_of_a_polynomial():
    # Reward a, b, c at 0, 1, 2 tokens 0: J = a (1-p)^2 + 2 b p (1-p) + c p^2.
    for reward, best in (([0.0, 1.0, 0.0], 0.5), ([0.0, 1.0, 1.0], 1.0), ([0.0, 3.0, 2.0], 2.25)):
        found = optimum(shared(reward, "one"))
        assert found.exact and found.value == pytest.approx(best, abs=EXACT["atol"])
    # 6 p - 4 p^2 is largest at p = 3/4; with c = 4 it grows up to p = 1, where one token is always taken.
    assert of_one_row(geometry(shared([0.0, 3.0, 4.0], "one"))) == pytest.approx(4.0, abs=EXACT["atol"])


def test_a_row_for_each_state_reaches_the_largest_reward():
    found = optimum(shared([0.0, 1.0, 0.0], "time_state"))
    assert (found.value, found.exact) == (1.0, True)


def test_prompts_that_want_different_tokens_of_a_row_leave_an_upper_bound():
    first, second = (TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=r) for r in ([1, 0, 0], [0, 1, 0]))
    found = optimum(TokenMDP.mixture([first, second], [0.5, 0.5], share_rows=True))
    assert (found.value, found.exact) == (1.0, False) and "upper bound" in found.reason
    apart = TokenMDP.mixture([first, second], [0.5, 0.5], share_rows=False)
    assert optimum(apart).exact
    # No policy of the shared rows comes near: J is at most 1/2.
    mdp = TokenMDP.mixture([first, second], [0.5, 0.5], share_rows=True)
    assert expected_return(mdp, [[9.0, 9.0, -9.0]]) < 0.5 + EXACT["atol"]
