"""sampling.py: which token and which prompt a number between 0 and 1 stands for, at the edges too."""

import numpy as np
import pytest

from ticgrpo_theory.simulate.passes.sampling import arrive, first_above, first_slots, place, prompt_of

PI = np.array([[0.25, 0.0], [0.5, 0.5], [0.25, 0.5]])
"""[V, U]: two rows of three tokens; the second cannot draw token 0."""


@pytest.mark.parametrize(
    ("u", "x", "token"),
    [(0, 0.0, 0), (0, 0.2499, 0), (0, 0.25, 1), (0, 0.7499, 1), (0, 0.75, 2), (1, 0.0, 1), (1, 0.5, 2)],
)
def test_a_token_is_the_first_whose_cumulative_probability_is_larger(u, x, token):
    assert first_above(PI, u, x) == token


def test_where_rounding_leaves_no_token_the_last_possible_one_is_drawn():
    short = np.array([[0.5], [0.25], [0.0]])
    assert first_above(short, 0, 0.9) == 1


@pytest.mark.parametrize(("x", "prompt"), [(0.0, 0), (0.2499, 0), (0.25, 1), (0.5, 2), (0.999, 2)])
def test_a_prompt_is_the_first_whose_cumulative_weight_is_larger(x, prompt):
    assert prompt_of(np.array([0.25, 0.25, 0.5]), x) == prompt


def test_rows_get_slots_in_the_order_in_which_responses_arrive_and_ended_ones_none():
    slot_of, row = np.full(5, -1, dtype=np.int32), np.zeros(5, dtype=np.int32)
    slot = np.full((1, 4), -7, dtype=np.int32)
    node, row_of = np.array([2, -1, 0, 2]), np.array([3, 1, 4], dtype=np.int32)
    assert arrive(node, row_of, slot_of, row, 0, slot, 0) == 2
    assert slot[0].tolist() == [0, -1, 1, 0] and row[:2].tolist() == [4, 3]
    assert slot_of.tolist() == [-1, -1, -1, 1, 0]
    # The next step begins with these freed, and with the rows that have a slot in any case.
    assert first_slots(np.array([2]), 2, row, slot_of) == 1
    assert slot_of.tolist() == [-1, -1, 0, -1, -1] and row[0] == 2


def test_slots_of_a_group_become_columns_of_its_desk():
    slot = np.array([[3, -1, 0, 3]], dtype=np.int32)
    used, column = np.zeros(4, dtype=np.int32), np.full(4, -1, dtype=np.int32)
    assert place(slot, 0, used, 0, column) == 2
    assert slot[0].tolist() == [0, -1, 1, 0] and used[:2].tolist() == [3, 0]
