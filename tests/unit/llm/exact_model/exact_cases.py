"""A tokenizer of letters, answers over it, and real models where TICGRPO_MODELS names a folder of them."""

import dataclasses
import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from llm.exact_model.answers import Answers, alphabet, grammar
from llm.exact_model.exact_model import ExactModel, Prompt
from llm.model import Architecture, LanguageModel, tiny

MODELS = Path(os.environ.get("TICGRPO_MODELS", ""))
SMOLLM2, QWEN = "smollm2-135m-instruct.gguf", "qwen2.5-coder-0.5b-instruct.gguf"
END = 1
PROMPT = (2, 5, 7)


class Letters:
    """a is token 2, b 3, ...; a digit is two tokens."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [n for letter in text for n in ([9, int(letter)] if letter.isdigit() else [ord(letter) - 95])]

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(n + 95) for n in ids)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [chr(n + 95) for n in ids]


def pairs() -> Answers:
    """Every string of two letters of three."""
    return alphabet(Letters(), "abc", 2, lambda text: float(text == "ab"))


def ended() -> Answers:
    """Strings of at most three letters, the shorter ones closed by the end token."""
    return alphabet(Letters(), "abc", 3, lambda text: float(text == "ab"), end=END)


def words() -> Answers:
    """Words of one to three letters with three rewards; one begins another, so that the end token matters."""
    return grammar(Letters(), {"ab": 1.0, "a": 0.0, "cba": 0.5, "d": 0.0}, end=END)


def network(kind: str = "qwen3", dtype: torch.dtype = torch.float64) -> LanguageModel:
    """V = 12; embeddings and head are one table in Qwen3 and two in Qwen2."""
    sizes = {"vocab_size": 12, "hidden": 16, "layers": 2, "heads": 4, "eos": END, "pad": 0}
    return tiny(Architecture(kind=kind, tied=kind == "qwen3", **sizes), dtype=dtype, std=0.3)


def exact(answers: Answers, lm: LanguageModel | None = None, prompt: tuple[int, ...] = PROMPT) -> ExactModel:
    """The restricted policy; a random network gives the answers little of its probability."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ExactModel(lm or network(), [Prompt(prompt, answers)])


def moved(model: ExactModel, size: float = 0.3) -> Tensor:
    """theta_old: theta with every logit moved."""
    theta = model.policy()
    return theta + size * torch.sin(torch.arange(1.0, theta.numel() + 1, dtype=torch.float64)).view_as(theta)


def on_leaves(model: ExactModel, gradients: list[Tensor]) -> list[Tensor]:
    """Gradients in the order of network.parameters() in that of model.parameters, and nothing left out."""
    by_id = {id(p): g for p, g in zip(model.network.parameters(), gradients, strict=True)}
    found = []
    for table in model.tables.values():
        whole = by_id.pop(id(table))
        found.append(whole[model.used])
        unread = torch.ones(len(whole), dtype=torch.bool)
        unread[model.used] = False
        assert not whole[unread].any(), "a row that no answer reads has a gradient"
    return found + list(by_id.values())


def gap(found: list[Tensor], expected: list[Tensor]) -> float:
    """||found - expected|| / ||expected|| over all weights."""
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(found, expected, strict=True))
    return (apart / sum(float(b.double().square().sum()) for b in expected)) ** 0.5


def without_end(answers: Answers) -> Answers:
    """A mistake: the same words, and the end token is no part of them (where no word begins another)."""
    reward = {a[:-1]: r for a, r in answers.reward.items() if len(a) != 2}
    return dataclasses.replace(answers, reward=reward)


def real(name: str, dtype: torch.dtype) -> LanguageModel:
    """Real weights, or a skipped test that says which are missing."""
    from llm.pretrained import load

    if not (MODELS / name).is_file():
        pytest.skip(f"TICGRPO_MODELS names no folder with {name}")
    pytest.importorskip("gguf")
    return load(str(MODELS), dtype=dtype, gguf_file=name)
