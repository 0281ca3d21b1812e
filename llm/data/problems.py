"""Prompts with integer answers: loaded, deduplicated, filtered, and drawn in an order that can be resumed.

    rows -> distinct problems with an integer answer -> instruction -> template -> tokens of at most the limit

What is dropped on the way is counted, and nothing left is an error. The order of the prompts is a permutation
for each epoch, drawn from the seed; a `Position` in it is all that a checkpoint needs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from llm.data import arithmetic, dataset_schemas, rewards
from ticgrpo_theory.stats.rng import stream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llm.config.sections import DataConfig

ANSWER_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
ANSWER_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'
BOXED_AFTER = " Let's think step by step and output the final answer within \\boxed{}."

INSTRUCTIONS = {
    "none": ("", ""),
    # Data set card of BytedTsinghua-SIA/DAPO-Math-17k (Apache-2.0): its prompts carry this already.
    "answer": (ANSWER_BEFORE, ANSWER_AFTER),
    # verl, examples/data_preprocess (Apache-2.0).
    "boxed": ("", BOXED_AFTER),
    # Prompts in the authors' training log, github.com/pangleipll/dynamic_sen_clip: both, in this order.
    "answer_and_boxed": (ANSWER_BEFORE, ANSWER_AFTER + BOXED_AFTER),
}
"""What is written before and after the problem."""


@dataclass(frozen=True)
class Problem:
    """A problem with its prompt."""

    name: str
    """What the data set calls it, else its number."""
    messages: tuple[tuple[str, str], ...]
    """(role, content), instruction included."""
    answer: int
    """The ground truth."""
    tokens: tuple[int, ...]
    """The prompt."""


@dataclass(frozen=True)
class Counts:
    """What became of the rows."""

    rows: int
    duplicates: int
    """Rows whose problem occurred before, whatever their answer: the first one counts."""
    conflicting: int
    """Of the duplicates, those with another answer than the first."""
    not_integer: int
    """Distinct problems whose ground truth is no integer."""
    too_long: int
    """Distinct problems with a prompt above the limit."""
    kept: int

    def sentence(self) -> str:
        """All of them in one line."""
        return (
            f"{self.kept:,} prompts of {self.rows:,} rows: {self.duplicates:,} duplicates "
            f"({self.conflicting:,} with another answer), {self.not_integer:,} without an integer answer, "
            f"{self.too_long:,} too long"
        )


@dataclass(frozen=True)
class Prompts:
    """The problems in the order of their source, and what was dropped."""

    problems: tuple[Problem, ...]
    counts: Counts


@dataclass(frozen=True)
class Position:
    """Where a run stands: the next prompt is number `index` of the permutation of `epoch`."""

    epoch: int = 0
    index: int = 0


def load(config: "DataConfig", tokenizer: "PreTrainedTokenizerBase") -> Prompts:
    """The problems of the configured source, or a ValueError with the counts where none is left."""
    if config.source == "arithmetic":
        made = arithmetic.problems(config.split, config.problems, config.levels, config.seed)
        source: Iterable[dataset_schemas.Row] = (
            dataset_schemas.Row((("user", p.question),), p.answer, f"{p.a}*{p.b}") for p in made
        )
    else:
        source = dataset_schemas.read(config.source, config.split)
    read = duplicates = conflicting = not_integer = too_long = 0
    first: dict[tuple[tuple[str, str], ...], int | None] = {}
    problems = []
    for row in source:
        read += 1
        answer = rewards.as_integer(row.answer)
        if row.messages in first:
            duplicates += 1
            conflicting += first[row.messages] != answer
            continue
        first[row.messages] = answer
        if answer is None:
            not_integer += 1
            continue
        messages = instructed(row.messages, config.instruction)
        tokens = encode(tokenizer, messages, config.template)
        if len(tokens) > config.max_prompt_tokens:
            too_long += 1
            continue
        problems.append(Problem(row.name or str(len(problems)), messages, answer, tokens))
    counts = Counts(read, duplicates, conflicting, not_integer, too_long, len(problems))
    if not problems:
        raise ValueError(
            f"{config.source} leaves nothing to train on: {counts.sentence()}; raise data.max_prompt_tokens "
            f"= {config.max_prompt_tokens}, or choose other data"
        )
    return Prompts(tuple(problems), counts)


def instructed(messages: tuple[tuple[str, str], ...], instruction: str) -> tuple[tuple[str, str], ...]:
    """The messages with the instruction around the last one; ValueError where it is there already."""
    before, after = INSTRUCTIONS[instruction]
    role, content = messages[-1]
    if (before and content.startswith(before)) or (after and content.endswith(after)):
        raise ValueError(
            f"data.instruction = {instruction}, but the prompts carry it already ({content[:40]!r}...): set "
            f"instruction to none, or to the part that they lack (boxed)"
        )
    return (*messages[:-1], (role, before + content + after))


def encode(
    tokenizer: "PreTrainedTokenizerBase", messages: tuple[tuple[str, str], ...], template: str
) -> tuple[int, ...]:
    """Tokens of the prompt: in the chat template, up to the turn of the model, or of the plain text.

    Raises ValueError for a tokenizer without chat template, and for characters that it does not know.
    """
    if template == "chat":
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"data.template = chat, but the tokenizer {tokenizer.name_or_path!r} has no chat template; "
                f"set data.template = raw, or load a tokenizer that has one"
            )
        chat = [{"role": role, "content": content} for role, content in messages]
        tokens: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    else:
        tokens = tokenizer("\n\n".join(content for _, content in messages))["input_ids"]
    # Tokenizers with byte fallback have no unknown token, or never use it.
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has no token for a character of the prompt "
            f"{messages[-1][1][:80]!r}; load the tokenizer that belongs to the model"
        )
    return tuple(tokens)


def order(size: int, seed: int, epoch: int) -> list[int]:
    """The permutation of the prompts in an epoch."""
    return torch.randperm(size, generator=stream(seed, "order of the prompts", epoch)).tolist()


def draw(size: int, count: int, seed: int, position: Position) -> tuple[list[int], Position]:
    """Numbers of the next `count` of `size` prompts, and the position behind them; epoch follows epoch.

    A rollout never holds a prompt twice within an epoch, and may where it runs over the end of one.
    """
    if not (size >= 1 and count >= 1 and position.epoch >= 0 and 0 <= position.index <= size):
        raise ValueError(
            f"{count} prompts at {position} of {size}: the position belongs to other data; begin anew at "
            f"Position()"
        )
    drawn: list[int] = []
    epoch, index = position.epoch, position.index
    while len(drawn) < count:
        part = order(size, seed, epoch)[index : index + count - len(drawn)]
        drawn += part
        index += len(part)
        if index == size:
            epoch, index = epoch + 1, 0
    return drawn, Position(epoch, index)
