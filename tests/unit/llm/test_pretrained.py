"""pretrained.py: GGUF files that are not named, tables stored twice, end tokens that open a turn.

TICGRPO_MODELS=FOLDER with the two GGUF files runs the cases on real weights; they take the extra `gguf`.
"""

import os
from pathlib import Path

import pytest
import torch

from llm.config.config import load as configuration
from llm.model import Architecture, tiny
from llm.pretrained import load, mend_end, opening, tie
from llm.training.train import rounded
from tests.unit.llm.test_model import logits, saved, tokenizer

MODELS = os.environ.get("TICGRPO_MODELS", "")
SMOLLM2 = "smollm2-135m-instruct.gguf"

TURNS = (
    "{% for m in messages %}<pad>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<pad>{% endif %}"
)
"""<pad> opens every turn and <eos> ends it."""


def network(apart: float):
    """A network whose head is a copy of the embeddings, moved by that share of their norm."""
    made = tiny(Architecture(vocab_size=8, hidden=16, eos=1, pad=0, heads=2, tied=False), std=0.3).network
    table = made.get_input_embeddings().weight
    noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.get_output_embeddings().weight.copy_(table + apart * noise * table.norm() / noise.norm())
    return made


def test_a_table_stored_twice_is_one_again_and_two_tables_stay_two(capsys):
    twice, other = network(0.04), network(1.0)
    heads = [made.get_output_embeddings().weight.detach().clone() for made in (twice, other)]
    for made in (twice, other):
        tie(made, "x.gguf")
    assert twice.get_input_embeddings().weight is twice.get_output_embeddings().weight
    assert twice.config.tie_word_embeddings and torch.equal(twice.get_input_embeddings().weight, heads[0])
    assert other.get_input_embeddings().weight is not other.get_output_embeddings().weight
    assert "x.gguf: head and embeddings are one table stored twice (4.0% apart)" in capsys.readouterr().err


def test_an_end_token_that_opens_a_turn_is_mended_and_a_second_end_token_is_kept(capsys):
    wrong = tokenizer(eos_token="<pad>")
    wrong.chat_template = TURNS
    assert opening(wrong) == "<pad>" and opening(tokenizer(eos_token="<eos>")) == ""
    mend_end(wrong, 1, "x.gguf")
    assert wrong.eos_token == "<eos>"
    assert "names '<pad>' as end token, with which the chat template opens a turn" in capsys.readouterr().err
    second = tokenizer(eos_token="f")
    second.chat_template = TURNS
    mend_end(second, 1, "x.gguf")
    assert second.eos_token == "f" and capsys.readouterr().err == ""


def test_a_gguf_file_that_is_not_named_or_not_there_is_refused_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        ValueError, match=r"has no config\.json, .* holds a\.gguf: .* --model\.gguf_file a\.gguf"
    ):
        load(str(tmp_path))
    with pytest.raises(ValueError, match=r"is a GGUF file: give its folder, --model\.path .* a\.gguf"):
        load(str(tmp_path / "a.gguf"))
    with pytest.raises(ValueError, match=r"model\.gguf_file = b\.gguf is not in .*: it holds a\.gguf"):
        load(str(tmp_path), gguf_file="b.gguf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"is read by the package gguf: pip install 'ticgrpo-theory\[gguf\]'"
    ):
        load(str(tmp_path), gguf_file="a.gguf")


def test_weights_are_rounded_before_anything_is_computed(tmp_path):
    folder = str(saved(tmp_path, eos_token="<eos>"))
    plain, rounded = load(folder).network, load(folder, round_to=torch.bfloat16).network
    for a, b in zip(plain.parameters(), rounded.parameters(), strict=True):
        assert b.dtype == torch.float32 and torch.equal(a.bfloat16().float(), b)
    assert not torch.equal(logits(plain), logits(rounded))


def test_a_training_rounds_the_weights_of_its_gguf_file_where_bfloat16_computes():
    path, gguf, single = ["--model.path", "m"], ["--model.gguf_file", "a.gguf"], ["--model.dtype", "float32"]
    assert rounded(configuration(None, path + gguf), "m")
    assert not rounded(configuration(None, path + gguf), "reference")
    assert not rounded(configuration(None, path), "m")
    assert not rounded(configuration(None, path + gguf + single), "m")


@pytest.mark.skipif(not (Path(MODELS) / SMOLLM2).is_file(), reason="TICGRPO_MODELS has no SmolLM2")
@pytest.mark.filterwarnings("ignore")
def test_smollm2_comes_out_of_its_gguf_file_with_its_own_end_token(capsys):
    pytest.importorskip("gguf")
    found = load(MODELS, gguf_file=SMOLLM2)
    assert found.eos == (2,) and found.tokenizer.eos_token == "<|im_end|>"
    assert sum(p.numel() for p in found.network.parameters()) == 134_515_008
    assert "'<|im_start|>' as end token" in capsys.readouterr().err
