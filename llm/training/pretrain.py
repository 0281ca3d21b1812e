"""A small network that solves some of the generated problems: where training starts without weights.

    python -m llm.pretrain --out runs/demo_cpu/start         # a minute or two on one CPU core

Supervised on worked multiplications (`arithmetic`) with AdamW, until it solves `target` of held-out problems:
then reinforcement has right and wrong responses to tell apart. Loss: -(1/n) sum_it log pi(a[i,t] | s[i,t-1]).
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llm.data import arithmetic
from llm.data.arithmetic import Multiplication
from llm.data.character_tokenizer import character_tokenizer
from llm.data.rewards import correct
from llm.model import Architecture, LanguageModel, tiny
from llm.sampling.collect import texts
from llm.sampling.local import Own
from llm.sampling.protocol import SamplingDistribution
from llm.sampling.rollout import sample
from llm.sequences import Sequences
from llm.update.logprobs import Scoring
from ticgrpo_theory.stats.rng import stream


@dataclass(frozen=True)
class Plan:
    """The network, its problems, and when to stop."""

    hidden: int = 96
    """Width; with 3 layers about 0.3 million parameters."""
    layers: int = 3
    heads: int = 4
    levels: tuple[int, ...] = (2, 3, 4)
    """Digits of the first factor."""
    problems: int = 30_000
    """Distinct problems to learn from, spread over the levels."""
    batch: int = 32
    """Problems of one step."""
    lr: float = 2e-3
    """Learning rate after 50 steps of warm-up."""
    target: float = 0.35
    """Stop when this share of held-out problems is solved by one sampled response."""
    held_out: int = 512
    """Held-out problems of each look; their share is known to +-0.04."""
    look_every: int = 50
    """Steps between two looks."""
    most_steps: int = 5_000
    """Give up after these."""
    max_response_tokens: int = 64
    seed: int = 0


def start(plan: Plan) -> LanguageModel:
    """A Qwen3 with a token for each character, not yet trained."""
    tokenizer: Any = character_tokenizer(arithmetic.ALPHABET)
    architecture = Architecture(
        vocab_size=len(tokenizer),
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        hidden=plan.hidden,
        layers=plan.layers,
        heads=plan.heads,
    )
    return tiny(architecture, seed=plan.seed, tokenizer=tokenizer)


def encoded(model: LanguageModel, text: str) -> list[int]:
    tokenizer: Any = model.tokenizer
    return tokenizer(text, add_special_tokens=False).input_ids


def worked(model: LanguageModel, problems: Sequence[Multiplication]) -> Sequences:
    """Questions and worked answers, each ended by EOS."""
    return Sequences.of_lists(
        [encoded(model, problem.question) for problem in problems],
        [[*encoded(model, problem.worked()), model.eos[0]] for problem in problems],
        model.pad,
    )


def solved(
    model: LanguageModel, problems: Sequence[Multiplication], limit: int, seed: int, *names: str | int
) -> float:
    """Share of the problems that one sampled response solves; `names` name the random numbers."""
    prompts = [encoded(model, problem.question) for problem in problems]
    drawn = sample(
        Own(model, max_rows=256),
        prompts,
        1,
        SamplingDistribution(limit=limit),
        generator=stream(seed, *names),
    )
    answers = zip(texts(model.tokenizer, drawn), problems, strict=True)
    return sum(correct(text, problem.answer) for text, problem in answers) / len(problems)


def pretrain(plan: Plan, say=print) -> tuple[LanguageModel, float]:
    """The network and the share of held-out problems that it solves.

    Raises ValueError where it does not reach the target.
    """
    model = start(plan)
    learned = arithmetic.problems("train", plan.problems, plan.levels, plan.seed)
    # Responses of a level have nearly the same length, so a batch of one level has little padding.
    by_level = [[p for p in learned if p.level == level] for level in plan.levels]
    held_out = arithmetic.problems("held_out", plan.held_out, plan.levels, plan.seed)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=plan.lr, betas=(0.9, 0.99), weight_decay=0.0)
    draw, scoring, began = stream(plan.seed, "pretrain", "batches"), Scoring(), time.perf_counter()
    for step in range(1, plan.most_steps + 1):
        same = by_level[int(torch.randint(len(by_level), (), generator=draw))]
        chosen = torch.randint(len(same), (plan.batch,), generator=draw).tolist()
        sequences = worked(model, [same[i] for i in chosen])
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * min(1.0, step / 50)
        loss = -scoring(model.network, sequences).logp.sum() / sequences.mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss of step {step} is {loss.item()}: lower lr = {plan.lr}")
        if step % plan.look_every == 0:
            share = solved(model, held_out, plan.max_response_tokens, plan.seed, "pretrain", "look", step)
            seconds = time.perf_counter() - began
            say(f"step {step}: loss {loss.item():.3f}, solves {share:.3f} of held-out, {seconds:.0f} s")
            if share >= plan.target:
                return model, share
    raise ValueError(
        f"{plan.most_steps} steps did not reach target = {plan.target}: raise most_steps, or lower the target"
    )


def save(model: LanguageModel, folder: Path) -> None:
    """Weights (safetensors), configuration and tokenizer, as `pretrained.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    network: Any = model.network
    tokenizer: Any = model.tokenizer
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of weights and tokenizer")
    parser.add_argument(
        "--target", type=float, default=Plan.target, help="share of held-out problems to solve"
    )
    parser.add_argument("--seed", type=int, default=Plan.seed)
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        model, _ = pretrain(Plan(target=given.target, seed=given.seed))
    except ValueError as error:
        sys.exit(f"error: {error}")
    save(model, given.out)
