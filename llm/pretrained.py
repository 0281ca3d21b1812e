"""Models with their tokenizers from the hub, from a folder, or from a GGUF file.

A GGUF file holds weights in blocks of a few bits. They are read as ordinary floats, and what the format
loses is put back: one table for embeddings and head where the two are one table stored twice, and the end
tokens of the generation config where the tokenizer of the file names others.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from llm.model import LanguageModel, prepared

ONE_TABLE = 0.2
"""Embeddings and head that differ by a smaller share of their norm are one table, rounded twice: 4-bit
against 8-bit blocks differ by 0.04, two tables of independent entries by 1.4."""


def load(
    name_or_path: str,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    gradient_checkpointing: bool = False,
    device: str | torch.device = "cpu",
    pad_token: str | None = None,
    gguf_file: str | None = None,
    round_to: torch.dtype | None = None,
) -> LanguageModel:
    """A model and its tokenizer by hub name or local path; safetensors or GGUF only, never code from the hub.

    `dtype` is that of the parameters. An optimiser needs float32 parameters: at a learning rate of 1e-6 a
    step is lost in the rounding of bfloat16; compute in bfloat16 through `Scoring(autocast=torch.bfloat16)`.
    `attention` is a name of transformers ("sdpa", "eager", "flash_attention_2").
    `pad_token` is used where the tokenizer names none; without either, responses are padded with EOS, which
    is safe because nothing here reads a mask off token numbers. Dropout is switched off: it would make the
    ratio between two evaluations of the same weights differ from 1.
    `gguf_file` is the name of a GGUF file in that folder or repository; it takes the extra `gguf`.
    `round_to`: every weight is rounded to that dtype first, as in a checkpoint of that dtype. Weights out of
    blocks of 4 bits often lie exactly between two neighbours in bfloat16, so that under autocast a step of
    any size moves them by half a unit.

    Raises ValueError for a tokenizer without EOS token, an unknown pad token, a tokenizer with more tokens
    than the model has embeddings, a folder whose only weights are GGUF files none of which is named, and a
    named file that is not there.
    """
    check_gguf(name_or_path, gguf_file)
    where = {} if gguf_file is None else {"gguf_file": gguf_file}
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **where)
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **where)
    check_tokenizer(tokenizer, config.vocab_size, name_or_path)
    if hasattr(config, "attention_dropout"):
        config.attention_dropout = 0.0
    network: Any = AutoModelForCausalLM.from_pretrained(
        name_or_path,
        config=config,
        dtype=dtype,
        attn_implementation=attention,
        trust_remote_code=False,
        **(where or {"use_safetensors": True}),
    )
    if gguf_file is not None:
        tie(network, gguf_file)
        mend_end(tokenizer, network.generation_config.eos_token_id, gguf_file)
    if round_to is not None:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(parameter.to(round_to))
    pad = pad_of(tokenizer, pad_token)
    eos = ends_of(tokenizer.eos_token_id, network.generation_config.eos_token_id)
    if gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return LanguageModel(prepared(network.to(device)), tokenizer, eos, pad)


def say(text: str) -> None:
    """What was mended, on the error stream: the output may be a table."""
    print(text, file=sys.stderr)


def check_gguf(name_or_path: str, gguf_file: str | None) -> None:
    """Raise ValueError for GGUF files that are not named, not there, or cannot be read; name the way out."""
    folder = Path(name_or_path)
    if folder.suffix == ".gguf" and folder.is_file():
        raise ValueError(
            f"model.path = {name_or_path} is a GGUF file: give its folder, --model.path {folder.parent}, and "
            f"--model.gguf_file {folder.name}"
        )
    there = sorted(path.name for path in folder.glob("*.gguf")) if folder.is_dir() else []
    if gguf_file is None:
        if there and not (folder / "config.json").exists():
            raise ValueError(
                f"{name_or_path} has no config.json, but it holds {', '.join(there)}: name the file, "
                f"--model.gguf_file {there[0]}"
            )
        return
    if folder.is_dir() and gguf_file not in there:
        held = f"it holds {', '.join(there)}" if there else "it holds no .gguf file"
        raise ValueError(f"model.gguf_file = {gguf_file} is not in {name_or_path}: {held}")
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(
            f"model.gguf_file = {gguf_file} is read by the package gguf: pip install 'ticgrpo-theory[gguf]'"
        )


def tie(network: Any, source: str) -> None:
    """Make one parameter of embeddings and head where they are one table stored in two precisions.

    The head's copy is kept: it is the one of more bits.
    """
    embeddings, head = network.get_input_embeddings(), network.get_output_embeddings()
    if head.weight is embeddings.weight or head.weight.shape != embeddings.weight.shape:
        return
    apart = float((head.weight - embeddings.weight).detach().norm() / head.weight.detach().norm())
    if apart >= ONE_TABLE:
        return
    network.config.tie_word_embeddings = True
    embeddings.weight = head.weight
    say(
        f"{source}: head and embeddings are one table stored twice ({apart:.1%} apart); tied again, with the "
        f"head's copy"
    )


def mend_end(tokenizer: Any, ends: int | Sequence[int] | None, source: str) -> None:
    """Take the end token of the generation config where that of a GGUF file's tokenizer opens a turn.

    A token with which the chat template opens the model's own turn does not end it.
    """
    known = ends_of(ends)
    if not known or tokenizer.eos_token_id in known or tokenizer.eos_token not in opening(tokenizer):
        return
    wrong, right = tokenizer.eos_token, tokenizer.convert_ids_to_tokens(known[0])
    tokenizer.eos_token = right
    say(
        f"{source}: the tokenizer names {wrong!r} as end token, with which the chat template opens a turn; "
        f"{right!r} of the generation config is taken"
    )


def opening(tokenizer: Any) -> str:
    """What the chat template writes before the model's own turn; '' without a template."""
    if tokenizer.chat_template is None:
        return ""
    message = [{"role": "user", "content": "?"}]
    before, with_opening = (
        tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=opened)
        for opened in (False, True)
    )
    return with_opening.removeprefix(before)


def check_tokenizer(tokenizer: Any, vocab_size: int, name: str) -> None:
    """Raise ValueError without an EOS token, or where a token has no embedding."""
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of {name!r} has no EOS token, so no response would ever end: set eos_token in "
            f"its tokenizer_config.json"
        )
    largest = max(len(tokenizer) - 1, tokenizer.eos_token_id, tokenizer.pad_token_id or 0)
    if largest >= vocab_size:
        raise ValueError(
            f"tokenizer does not match the model {name!r}: its largest token is {largest}, but the model "
            f"has vocab_size = {vocab_size} embeddings (tokens 0 to {vocab_size - 1}); load the tokenizer "
            f"that was trained with the model"
        )


def pad_of(tokenizer: Any, pad_token: str | None) -> int:
    """The tokenizer's own pad token, else `pad_token`, else EOS."""
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    if pad_token is None:
        return tokenizer.eos_token_id
    if pad_token not in tokenizer.get_vocab():
        raise ValueError(
            f"pad_token = {pad_token!r} is no token of the tokenizer: choose one that is, or leave it out to "
            f"pad with EOS ({tokenizer.eos_token!r})"
        )
    return tokenizer.convert_tokens_to_ids(pad_token)


def ends_of(*named: int | Sequence[int] | None) -> tuple[int, ...]:
    """Every EOS token that the tokenizer or the generation config names, each once."""
    every = [e for ids in named if ids is not None for e in ([ids] if isinstance(ids, int) else ids)]
    return tuple(dict.fromkeys(every))
