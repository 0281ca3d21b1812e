"""character_tokenizer.py: one token for each character, in a tokenizer that transformers save and load."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm.data.arithmetic import ALPHABET, Multiplication
from llm.data.character_tokenizer import EOS, PAD, character_tokenizer, decode
from llm.data.rewards import answered


@given(st.text(alphabet=ALPHABET, max_size=40))
def test_a_text_comes_back_from_its_tokens_one_for_each_character(text: str) -> None:
    tokenizer = character_tokenizer(ALPHABET)
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text)
    assert decode(tokenizer, [[*tokens, tokenizer.eos_token_id]]) == [text]


def test_the_tokenizer_survives_saving(tmp_path: Path) -> None:
    tokenizer = character_tokenizer(ALPHABET)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = Multiplication(40, 9).worked()
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (again.pad_token, again.eos_token, again.pad_token_id, again.eos_token_id) == (PAD, EOS, 0, 1)
    assert answered(decode(again, [again(text)["input_ids"]])[0]) == 360
    padded = again(["1", "23"], padding=True)
    assert padded["input_ids"][0][0] == again.pad_token_id
    assert padded["attention_mask"] == [[0, 1], [1, 1]]


def test_a_character_outside_the_alphabet_becomes_unknown() -> None:
    tokenizer = character_tokenizer("01")
    assert tokenizer("0x1y")["input_ids"].count(tokenizer.unk_token_id) == 2


@pytest.mark.parametrize("alphabet", ["", "aa"])
def test_an_alphabet_with_repetitions_or_nothing_is_refused(alphabet: str) -> None:
    with pytest.raises(ValueError, match="give at least one character, and none twice"):
        character_tokenizer(alphabet)
