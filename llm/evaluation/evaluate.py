"""Held-out accuracy: k responses to each problem, avg@k and pass@k with intervals, a table of the problems.

    python -m llm.evaluate --model Qwen/Qwen3-1.7B-Base --data aime_2024.jsonl --k 32
    python -m llm.evaluate --model runs/demo_cpu/start --data arithmetic --split held_out --template raw --k 4

Writes <results>/<name>.parquet, a row for each problem, and <name>.json beside it. Killed and started again,
it draws only for the problems that are missing, and the table is that of an uninterrupted run.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from llm import model, pretrained
from llm.config import typed_values
from llm.config.sections import DataConfig, RewardConfig
from llm.data import problems as data
from llm.data import rewards
from llm.data.problems import Problem
from llm.evaluation import pass_at_k
from llm.sampling import rollout
from llm.sampling.collect import Judge, texts
from llm.sampling.protocol import Sampler, SamplingDistribution
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.cells import Cells, one_by_one, run_cells
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.stats.rng import stream

RESULTS_VERSION = 1


@dataclass(frozen=True)
class Response:
    """What was drawn."""

    text: str
    length: int
    """Tokens, EOS included."""
    ended: bool
    """False where it was cut at the limit."""


Respond = Callable[[Sequence[Problem], int, torch.Generator], Sequence[Sequence[Response]]]
"""respond(problems, k, generator): k responses to each problem."""


@dataclass(frozen=True)
class Evaluation:
    model: str = ""
    """Hub name or local folder."""
    gguf_file: str | None = None
    """Name of a GGUF file in it, whose weights are taken (extra `gguf`)."""
    data: str = ""
    """Hub name of a data set, a .parquet or .jsonl file, or `arithmetic`."""
    split: str = "test"
    """Split of a hub data set; of generated problems `held_out`."""
    template: Literal["chat", "raw"] = "chat"
    """`chat`: the chat template of the tokenizer; `raw`: the text as it stands."""
    instruction: Literal["none", "answer", "boxed", "answer_and_boxed"] = "none"
    """The request around the problem: how to give the answer."""
    max_prompt_tokens: int = 2048
    """Longer prompts are dropped and counted."""
    problems: int | None = None
    """How many of them, the first; all where left out."""
    levels: tuple[int, ...] = (2, 3, 4)
    """Digits of the first factor of generated problems."""
    k: int = 8
    """Responses to each problem."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    max_response_tokens: int = 8192
    """A response is cut here."""
    reward: Literal["integer", "math_verify"] = "integer"
    """How an answer is judged."""
    seed: int = 0
    """Of the draws and of generated problems."""
    chunk: int = 16
    """Problems drawn for together; a killed run loses one chunk at most."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the weights."""
    sampler: Literal["auto", "continuous", "vllm", "generate", "own"] = "auto"
    """Which sampler draws."""
    max_rows: int = 128
    """Responses sampled at once by `generate` and `own`."""
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=UNRECORDED)
    """`auto` takes a GPU where there is one."""
    name: str = field(default="", metadata=UNRECORDED)
    """Of the table; made from model and data where left out."""
    results: Path = field(default=Path("results/evaluations"), metadata=UNRECORDED)
    """Folder of the table."""

    def __post_init__(self) -> None:
        for name, least in {
            "k": 1,
            "max_response_tokens": 1,
            "chunk": 1,
            "max_rows": 1,
            "problems": 1,
        }.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} = {value}: it must be at least {least}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature = {self.temperature}: it must be at least 0 and finite")
        if self.temperature == 0 and self.k > 1:
            raise ValueError(f"k = {self.k} at temperature 0 repeats one response; take k = 1")


def rows(
    problems: Sequence[Problem], k: int, respond: Respond, judge: Judge, generator: torch.Generator
) -> list[dict[str, Any]]:
    """One row for each problem: how many of k responses are right, ended and how long they are."""
    drawn = respond(problems, k, generator)
    if [len(responses) for responses in drawn] != [k] * len(problems):
        raise ValueError(
            f"the sampler returned {[len(responses) for responses in drawn]} responses to {len(problems)} "
            f"problems; it must return k = {k} to each"
        )
    return [
        {
            "problem": problem.name,
            "answer": problem.answer,
            "drawn": k,
            "right": sum(judge([response.text for response in responses], [problem.answer] * k)),
            "answered": sum(rewards.given_answer(response.text) is not None for response in responses),
            "cut": sum(not response.ended for response in responses),
            "mean_length": math.fsum(response.length for response in responses) / k,
        }
        for problem, responses in zip(problems, drawn, strict=True)
    ]


def table(
    config: Evaluation, problems: Sequence[Problem], respond: Respond, judge: Judge, name: str
) -> pd.DataFrame:
    """All rows, chunk by chunk; finished chunks of an earlier run are kept.

    The random numbers of a chunk are a stream of its own, so that it does not matter which ones were drawn
    before. Raises ValueError for chunks that were drawn with another configuration or for other problems.
    """
    chunks = [problems[at : at + config.chunk] for at in range(0, len(problems), config.chunk)]
    digest = results_file.digest([[problem.tokens, problem.answer] for problem in problems])
    about = {**results_file.plain_config(config), "digest_of_problems": digest}
    identity = {"config": about, "results_version": RESULTS_VERSION, "folder": config.results}
    work = Cells(name, range(len(chunks)), **identity)

    def drawn(number: int) -> list[dict[str, Any]]:
        return rows(chunks[number], config.k, respond, judge, stream(config.seed, "evaluation", number))

    for done in run_cells(work, one_by_one(work.missing, drawn)):
        print(f"{min((done.key + 1) * config.chunk, len(problems))} of {len(problems)} problems", flush=True)
    work.write()
    return results_file.read(name, **identity, command="python -m llm.evaluate")


def summary(made: pd.DataFrame) -> list[str]:
    """avg@k and pass@1, 2, 4, ..., k with intervals over problems, then lengths."""
    drawn, right = int(made["drawn"].iloc[0]), made["right"].tolist()
    lines = [f"avg@{drawn}   " + percent(*pass_at_k.average(right, drawn))]
    powers = [2**i for i in range(1, drawn.bit_length()) if 2**i < drawn] + [drawn] * (drawn > 1)
    lines += [f"pass@{k}  " + percent(*pass_at_k.solved(right, drawn, k)) for k in powers]
    total = drawn * len(made)
    lines.append(
        f"{len(made)} problems, {drawn} responses each: {made['mean_length'].mean():.1f} tokens, "
        f"{100 * made['cut'].sum() / total:.1f} % cut at the limit, "
        f"{100 * made['answered'].sum() / total:.1f} % give an answer"
    )
    return lines


def percent(value: float, low: float, high: float) -> str:
    """The value and its interval in percent."""
    return f"{100 * value:5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]"


def responding(sampler: Sampler, tokenizer: Any, distribution: SamplingDistribution) -> Respond:
    """The responses of that sampler with their texts."""

    def respond(problems: Sequence[Problem], k: int, generator: torch.Generator) -> list[list[Response]]:
        prompts = [problem.tokens for problem in problems]
        drawn = rollout.sample(sampler, prompts, k, distribution, generator=generator)
        lengths, ended = drawn.sequences.lengths.tolist(), drawn.ended.tolist()
        every = [Response(*of) for of in zip(texts(tokenizer, drawn), lengths, ended, strict=True)]
        return [every[at : at + k] for at in range(0, len(every), k)]

    return respond


def drawn_by(config: Evaluation) -> tuple[Respond, Any]:
    """The model's responses, and its tokenizer."""
    language_model = pretrained.load(
        config.model,
        dtype=getattr(torch, config.dtype),
        device=model.device_named(config.device),
        gguf_file=config.gguf_file,
    )
    longest = config.max_prompt_tokens + config.max_response_tokens
    sampler, why = rollout.choose(
        config.sampler, language_model, max_rows=config.max_rows, path=config.model, longest=longest
    )
    print(why)
    distribution = SamplingDistribution(limit=config.max_response_tokens, temperature=config.temperature)
    return responding(sampler, language_model.tokenizer, distribution), language_model.tokenizer


def evaluate(config: Evaluation) -> pd.DataFrame:
    """Load, draw, judge, write the table and print what it says."""
    for name in ("model", "data"):
        if not getattr(config, name):
            raise ValueError(f"--{name} is missing: for instance --model Qwen/Qwen3-1.7B-Base --data x.jsonl")
    respond, tokenizer = drawn_by(config)
    source = DataConfig(
        source=config.data,
        split=config.split,
        template=config.template,
        instruction=config.instruction,
        max_prompt_tokens=config.max_prompt_tokens,
        levels=config.levels,
        problems=config.problems or 1024,
        seed=config.seed,
    )
    prompts = data.load(source, tokenizer)
    print(prompts.counts.sentence())
    with Judge.of(RewardConfig(kind=config.reward)) as judge:
        made = table(
            config, prompts.problems[: config.problems], respond, judge, config.name or named(config)
        )
        for name, count in judge.counted().items():
            print(f"{name.replace('_', ' ')}: {count}")
    print("\n".join(summary(made)))
    return made


def named(config: Evaluation) -> str:
    """A file name from the ends of model and data."""
    parts = [Path(config.model).name, Path(config.data).stem, f"k{config.k}", config.reward, str(config.seed)]
    return "-".join(parts)


def main() -> None:
    """`python -m llm.evaluate`; bad input ends in one line, no traceback."""
    try:
        evaluate(typed_values.override(Evaluation(), sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
