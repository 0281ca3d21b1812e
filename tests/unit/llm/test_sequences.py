"""sequences.py: prompts padded on the left, responses on the right, and what is refused."""

from dataclasses import replace

import pytest
import torch

from llm.sequences import Sequences, response_mask
from tests.unit.llm.llm_cases import sequences


def test_a_mask_ends_with_the_first_eos_token_also_where_it_is_the_pad_token():
    response = torch.tensor([[5, 1, 1, 1], [1, 1, 1, 1], [5, 6, 7, 5], [3, 2, 1, 1]])
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert response_mask(response, [1, 2]).long().tolist() == expected


def test_positions_and_lengths_of_a_batch_by_hand():
    made = Sequences.of_lists([[5, 6], [7]], [[2], [3, 4, 1]], pad=0)
    assert made.input_ids.tolist() == [[5, 6, 2, 0, 0], [0, 7, 3, 4, 1]]
    assert made.position_ids.tolist() == [[0, 1, 2, 2, 2], [0, 0, 1, 2, 3]]
    assert (made.prompt_lengths.tolist(), made.lengths.tolist()) == ([2, 1], [1, 3])
    assert made.total_lengths.tolist() == [3, 4]
    assert made.aligned()[0, :3].tolist() == [5, 6, 2] and made.aligned()[1].tolist() == [7, 3, 4, 1]
    cut = made.select(torch.tensor([0]))
    assert cut.input_ids.tolist() == [[5, 6, 2]] and bool(cut.attention_mask.all())


def test_rows_can_be_chosen_by_numbers_in_any_order():
    made = sequences().select(torch.tensor([9, 0]))
    assert made.input_ids.tolist() == [[3, 3, 1, 6, 2, 1, 0], [0, 0, 0, 0, 2, 3, 1]]
    assert made.attention_mask.sum().item() == 9


@pytest.mark.parametrize(
    "prompts, responses, text",
    [
        ([[1], []], [[1], [1]], r"prompt 1 is empty: .*BOS"),
        ([[1], [1]], [[], [1]], r"response 0 is empty: .*EOS"),
    ],
)
def test_empty_rows_are_refused(prompts, responses, text):
    with pytest.raises(ValueError, match=text):
        Sequences.of_lists(prompts, responses, pad=0)


def test_padding_on_the_wrong_side_is_refused():
    made = sequences()
    for name, side in (("prompt_mask", "left"), ("mask", "right")):
        with pytest.raises(ValueError, match=rf"padding that is not on the {side}"):
            replace(made, **{name: getattr(made, name).flip(-1)}).check()


def test_tables_of_unequal_shapes_are_refused(unchecked_signatures):
    made = sequences()
    with pytest.raises(ValueError, match=r"response has shape \(12, 6\), mask \(12, 5\)"):
        replace(made, mask=made.mask[:, :5])
