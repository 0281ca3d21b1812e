"""Runs small enough for tests: a random network with a character tokenizer, saved as a model is.

Rewards of a random network differ only by an overlong penalty over the whole length, so that there is
something to learn from.
"""

import io
import json
from pathlib import Path

import torch
from rich.console import Console

from llm.config.config import Config, load
from llm.data import arithmetic
from llm.data.character_tokenizer import character_tokenizer
from llm.model import Architecture, tiny
from llm.training import checkpoints, train

SMALL = {
    "data.template": "raw",
    "data.source": "arithmetic",
    "data.problems": 40,
    "data.max_prompt_tokens": 16,
    "sampling.prompts": 4,
    "sampling.group_size": 3,
    "sampling.max_response_tokens": 8,
    "reward.overlong_buffer": 8,
    "updates.inner_steps": 2,
    "updates.micro_batch_rows": 5,
    "model.dtype": "float32",
    "model.gradient_checkpointing": "False",
    "model.device": "cpu",
    "optimizer.lr": 1e-2,
    "checkpoints.every": 1,
    "outer_steps": 3,
}


def save_model(folder: Path, alphabet: str = arithmetic.ALPHABET, std: float = 0.2, **sizes) -> Path:
    tokenizer = character_tokenizer(alphabet)
    sizes = {"hidden": 16, "layers": 1, "heads": 2, **sizes}
    made = tiny(
        Architecture(
            vocab_size=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id, **sizes
        ),
        std=std,
    )
    made.network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def arguments(model: Path, output: Path, **changes: object) -> list[str]:
    """The command line of a small run; `optimizer__lr=1` changes optimizer.lr."""
    fields = {"model.path": model, "output": output, **SMALL}
    fields |= {name.replace("__", "."): value for name, value in changes.items()}
    return [part for name, value in fields.items() for part in (f"--{name}", str(value))]


def config(model: Path, output: Path, **changes: object) -> Config:
    return load(None, arguments(model, output, **changes))


def run(cfg: Config) -> str:
    """What the run said."""
    said = io.StringIO()
    train.train(cfg, Console(file=said, width=200))
    return said.getvalue()


def lines(cfg: Config) -> list[dict]:
    """Of the metrics."""
    return [json.loads(line) for line in (cfg.output / "metrics.jsonl").read_text().splitlines()]


def weights(cfg: Config) -> torch.Tensor:
    """Of the newest checkpoint."""
    newest = checkpoints.newest(cfg.output / "checkpoints", print)
    saved = checkpoints.load_file(newest / "model.safetensors")
    return torch.cat([saved[name].flatten() for name in sorted(saved)])
