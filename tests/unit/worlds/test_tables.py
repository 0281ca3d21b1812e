"""tables.py: sizes, rewards, transitions and rows by hand, and what is said of a table that is none."""

import numpy as np
import pytest
import torch

from ticgrpo_theory.worlds import tables
from ticgrpo_theory.worlds.limits import MAX_LEVELS


def test_responses_of_a_tree_are_counted_by_hand():
    # V = 3 without EOS: 3^2. With EOS, T = 2: EOS at once, two tokens each followed by one of three.
    assert tables.responses_of_tree(3, 2, None) == 9
    assert tables.responses_of_tree(3, 2, 2) == 1 + 2 * 3
    # One token besides EOS: a response of each length 1..T, and the one without EOS.
    assert tables.responses_of_tree(2, 5, 1) == 6
    assert tables.responses_of_tree(1, MAX_LEVELS, None) == 1
    with pytest.raises(ValueError, match=rf"more than MAX_LEVELS = {MAX_LEVELS:,} levels, .* lower T"):
        tables.responses_of_tree(1, MAX_LEVELS + 1, None)


def test_rows_by_name_and_by_number():
    assert tables.rows_of("state", 2, 3).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert tables.rows_of("time_state", 2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tables.rows_of([0, 0, 1], 2, 3).tolist() == [[0, 0, 1]] * 2
    assert tables.rows_of(torch.tensor([[0], [1]]), 2, 1).tolist() == [[0], [1]]
    with pytest.raises(ValueError, match=r"rows\[1, 0\] = 33,554,432 makes .* MAX_ROWS = 33,554,432"):
        tables.rows_of([[0], [tables.MAX_ROWS]], 2, 1)


def test_rewards_of_any_real_kind_become_float64():
    for given in (
        [1, 0],
        np.array([1, 0], dtype=np.int8),
        torch.tensor([True, False]),
        [np.float32(1), False],
    ):
        assert tables.rewards(given, 2, "").tolist() == [1.0, 0.0]
    half = torch.tensor([0.5, 0.25], dtype=torch.bfloat16, requires_grad=True)
    assert tables.rewards(half, 2, "").tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match=r"reward has shape \(2, 1\); 2 numbers are needed, one for each"):
        tables.rewards([[1.0], [0.0]], 2, "one for each state")


def test_a_function_is_called_once_for_each_of_its_arguments():
    seen = []

    def reward(state: int, length: int) -> int:
        seen.append((state, length))
        return state + length

    assert tables.called(reward, [(0, 1), (2, 3)]).tolist() == [1.0, 5.0] and seen == [(0, 1), (2, 3)]
    with pytest.raises(ValueError, match=r"reward\(0, 1\) raised ZeroDivisionError: .*test_tables\.py"):
        tables.called(lambda state, length: 1 / state, [(0, 1)])


def test_states_outside_and_ragged_transitions_are_refused():
    moves = tables.moves_of([[0, 1], [1, 1]], 2, 3)
    assert moves.shape == (1, 2, 2) and tables.checked_start(moves, 1) == 1
    for start in (2, -1):
        with pytest.raises(ValueError, match=rf"start = {start} must be integers in 0\.\.1, the 2 states"):
            tables.checked_start(moves, start)
    with pytest.raises(ValueError, match=r"is ragged; it must be \[Q, V\] or \[T, Q, V\] with T = 3, V = 2"):
        tables.moves_of([[0, 1], [1]], 2, 3)


def test_weights_are_positive_and_add_to_one():
    assert tables.checked_weights(torch.tensor([0.25, 0.75]), 2).tolist() == [0.25, 0.75]
    for weights in ([0.5, 0.6], ["0.5", "0.5"], [1.0, 0.0], None, [[0.5], [0.5]], [0.5, [0.5, 0.1]]):
        with pytest.raises(ValueError, match=r"weights = .* for 2 prompts: give one positive weight"):
            tables.checked_weights(weights, 2)
