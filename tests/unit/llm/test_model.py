"""model.py: what is loaded, what is refused, and what would spoil a gradient without being noticed."""

import json
import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast

from llm.model import (
    Architecture,
    DoubleRMSNorm,
    check_head,
    forward_flops,
    parameter_count,
    prepared,
    tiny,
)
from llm.pretrained import ends_of, load, pad_of
from llm.sequences import Sequences
from llm.update.logprobs import Scoring
from tests.properties.tolerances import SAME_BITS, SINGLE
from tests.unit.llm.llm_cases import fresh, gradient, model

LETTERS = ["<pad>", "<eos>", "a", "b", "c", "d", "e", "f"]


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """A letter for each token."""
    inner = Tokenizer(models.WordLevel({letter: n for n, letter in enumerate(LETTERS)}, unk_token="a"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def saved(folder: Path, *, vocab_size: int = 8, **special: str) -> Path:
    """A model and a tokenizer as they lie on a disk."""
    lm = tiny(Architecture(vocab_size=vocab_size, hidden=16, eos=1, pad=0, heads=2), std=0.3)
    lm.network.save_pretrained(folder)
    tokenizer(**special).save_pretrained(folder)
    return folder


def logits(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.tensor([[2, 0, 1, 3]]), use_cache=False).logits


def test_a_saved_model_comes_back_with_its_logits_and_ends(tmp_path):
    saved(tmp_path, eos_token="<eos>", pad_token="<pad>")
    found = load(str(tmp_path))
    expected = tiny(Architecture(vocab_size=8, hidden=16, eos=1, pad=0, heads=2), std=0.3)
    torch.testing.assert_close(logits(found.network), logits(expected.network), **SAME_BITS)
    assert (found.eos, found.pad) == ((1,), 0) and found.device.type == "cpu"
    assert found.tokenizer.decode([2, 3]).replace(" ", "") == "ab"
    assert found.network.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_is_that_of_all_parameters(tmp_path, dtype):
    found = load(str(saved(tmp_path, eos_token="<eos>")), dtype=dtype, attention="eager")
    assert {p.dtype for p in found.network.parameters()} == {dtype}
    assert found.network.config._attn_implementation == "eager"


def test_gradient_checkpointing_is_on_where_asked(tmp_path):
    folder = str(saved(tmp_path, eos_token="<eos>"))
    made = Sequences.of_lists([[2, 3]], [[4, 1]], 0)
    found = []
    for recompute in (False, True):
        lm = load(folder, gradient_checkpointing=recompute)
        assert lm.network.is_gradient_checkpointing is recompute and lm.network.training
        Scoring()(lm.network, made).logp.sum().backward()
        found.append(gradient(lm))
    torch.testing.assert_close(found[0], found[1], **SINGLE)


def test_padding_is_that_of_the_tokenizer_or_the_one_given_or_eos(tmp_path):
    assert pad_of(tokenizer(eos_token="<eos>", pad_token="<pad>"), "c") == 0
    assert pad_of(tokenizer(eos_token="<eos>"), "c") == 4
    assert pad_of(tokenizer(eos_token="<eos>"), None) == 1
    with pytest.raises(ValueError, match=r"pad_token = '<none>' is no token .* pad with EOS \('<eos>'\)"):
        pad_of(tokenizer(eos_token="<eos>"), "<none>")
    assert load(str(saved(tmp_path, eos_token="<eos>")), pad_token="f").pad == 7


def test_every_eos_token_ends_a_response():
    assert ends_of(5, [7, 5]) == (5, 7) and ends_of(None, 3) == (3,) and ends_of(2, None) == (2,)


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no EOS token, so no response would ever end: set eos_token"):
        load(str(saved(tmp_path)))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    folder = saved(tmp_path, vocab_size=6, eos_token="<eos>")
    with pytest.raises(
        ValueError, match=r"tokenizer does not match .* largest token is 7, .* vocab_size = 6"
    ):
        load(str(folder))


def test_only_safetensors_are_read(tmp_path):
    folder = saved(tmp_path, eos_token="<eos>")
    weights = folder / "model.safetensors"
    assert weights.exists()
    lm = tiny(Architecture(vocab_size=8, hidden=16, eos=1, pad=0, heads=2))
    torch.save(lm.network.state_dict(), folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(str(folder))


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    folder, marker = saved(tmp_path, eos_token="<eos>"), tmp_path / "was_run"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "planted.Config", "AutoModelForCausalLM": "planted.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "planted.py").write_text(f"open({str(marker)!r}, 'w').close()\nConfig = Model = None\n")
    assert load(str(folder)).eos == (1,)
    assert not marker.exists()


def test_dropout_is_off_although_the_config_asks_for_it(tmp_path):
    folder = saved(tmp_path, eos_token="<eos>")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    network = load(str(folder)).network
    assert network.training
    torch.testing.assert_close(logits(network), logits(network), **SAME_BITS)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_the_same_seed_gives_the_same_weights_in_every_dtype_and_another_seed_others(kind):
    exact, single = model(kind), model(kind, torch.float32)
    for a, b in zip(exact.network.parameters(), single.network.parameters(), strict=True):
        torch.testing.assert_close(a.float(), b, **SAME_BITS)
    assert not torch.equal(logits(exact.network), logits(model(kind, seed=1).network))
    assert type(exact.network).__name__ == {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[kind]


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fresh_model = tiny(Architecture(vocab_size=8, hidden=16, eos=1, pad=0, heads=2))
    assert fresh_model.tokenizer is None
    torch.testing.assert_close(torch.rand(3), expected, **SAME_BITS)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_double_precision_is_double_throughout(kind):
    # A change of 1e-10 would drown in float32 norms, whose steps are 1e-7.
    network = fresh(kind).network
    assert sum(isinstance(m, DoubleRMSNorm) for m in network.modules()) == {"qwen2": 5, "qwen3": 9}[kind]
    before = logits(network)
    weight = network.base_model.layers[0].self_attn.v_proj.weight
    moved = []
    for size in (1e-10, 2e-10):
        with torch.no_grad():
            weight += 1e-10 * weight
        moved.append((logits(network) - before) / size)
    assert moved[0].abs().max() > 1e-2
    torch.testing.assert_close(moved[0], moved[1], atol=1e-4, rtol=1e-4)


def test_the_norm_is_that_of_transformers_but_for_its_precision():
    network = model(dtype=torch.float32).network
    theirs = network.base_model.norm
    x = torch.linspace(-2, 3, 32).reshape(2, 16)
    ours = DoubleRMSNorm(theirs.weight, theirs.variance_epsilon)
    torch.testing.assert_close(ours(x), theirs(x), **SINGLE)


def test_the_embedding_of_the_pad_token_is_trained_where_it_is_an_ordinary_token():
    config = model().network.config.to_dict() | {"pad_token_id": 0, "tie_word_embeddings": False}
    network = type(model().network)(type(model().network.config)(**config)).double()
    made, found = Sequences.of_lists([[2, 0]], [[0, 1]], 0), []
    for _ in range(2):
        network.zero_grad()
        Scoring()(network, made).logp.sum().backward()
        found.append(network.get_input_embeddings().weight.grad[0].abs().max().item())
        prepared(network)
    assert found[0] == 0.0 and found[1] > 0.0


class SoftCapped(nn.Module):
    """Logits that are not the head's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = fresh().network
        self.base_model = self.inner.base_model

    def get_output_embeddings(self) -> nn.Module:
        return self.inner.get_output_embeddings()

    def forward(self, **inputs):
        out = self.inner(**inputs)
        out.logits = 2 * torch.tanh(out.logits / 2)
        return out


def test_logits_that_are_not_the_output_of_the_head_are_refused():
    check_head(fresh().network)
    with pytest.raises(ValueError, match=r"SoftCapped does something to its logits .* Qwen2, Qwen3 or Llama"):
        check_head(SoftCapped())


@pytest.mark.parametrize(
    "options, text",
    [
        ({"kind": "qwen"}, r"kind = 'qwen': choose one of qwen2, qwen3"),
        ({"eos": 8}, r"eos = 8 lies outside the vocabulary 0 to 7"),
        ({"pad": -1}, r"pad = -1 lies outside the vocabulary 0 to 7"),
    ],
)
def test_models_that_cannot_be_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        tiny(Architecture(**{"vocab_size": 8, "eos": 1, "pad": 0, **options}))


def test_tied_parameters_count_once():
    tied, untied = (
        tiny(Architecture(vocab_size=8, hidden=16, heads=2, eos=1, pad=0, tied=tied)).network
        for tied in (True, False)
    )
    assert parameter_count(untied) - parameter_count(tied) == 8 * 16
    # By hand: embedding; per layer q, k, v, o (2 heads, 1 key of 8), three matrices 16 x 48, four norms.
    layer = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 48 + 2 * 16 + 2 * 8
    assert parameter_count(tied) == 8 * 16 + 2 * layer + 16


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_operations_are_those_that_torch_counts(kind):
    lm = tiny(Architecture(vocab_size=40, hidden=32, heads=4, eos=1, pad=0, attention="eager", kind=kind))
    made = Sequences.of_lists([list(range(2, 9))] * 3, [list(range(3, 15))] * 3, 0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Scoring()(lm.network, made)
    W = 7 + 12
    # torch counts both halves of attention, and the last token of a row needs no pass at all.
    attention = 2 * 2 * 4 * 8 * 3
    body = sum(m.weight.numel() for m in lm.network.base_model.modules() if isinstance(m, nn.Linear))
    counted = counter.get_total_flops() + 3 * 2 * body - 2 * attention * (W - 1) ** 2 + attention * W**2
    found = forward_flops(lm.network, [7] * 3, [12] * 3)
    # Rotary positions are a product of an outer kind that torch counts too.
    assert found == pytest.approx(counted, rel=1e-2) and not math.isclose(found, 2 * counted, rel_tol=0.3)
