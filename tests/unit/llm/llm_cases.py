"""Small networks and groups of responses for the tests of `llm`, and log-probabilities one by one."""

import copy
import dataclasses
from functools import cache

import torch
from torch import Tensor

from llm.model import Architecture, LanguageModel, tiny
from llm.sequences import Sequences
from llm.update.groups import Groups
from ticgrpo_theory.stats.rng import stream

PROMPTS = [[2], [4, 0, 5], [3, 3, 1, 6, 2]]
"""Unequal lengths; the pad token 0 and the EOS token 1 occur inside."""

RESPONSES = [
    [[3, 1], [4, 4, 0, 5, 6, 2], [1], [6, 5, 1]],
    [[0, 0, 1], [2, 1], [5, 3, 2, 1], [7, 7, 7, 7, 7, 1]],
    [[6, 1], [1], [2, 2, 2, 2, 2, 2], [0, 3, 1]],
]
"""One group of four for each prompt: ended, cut at six tokens, and EOS alone."""

REWARDS = [[1.0, 0.0, 0.25, 0.0], [0.0, 1.0, 1.0, 0.5], [0.5, 0.0, -1.0, 1.0]]
HORIZON = 6


@cache
def model(kind: str = "qwen3", dtype: torch.dtype = torch.float64, seed: int = 0) -> LanguageModel:
    """V = 8, far from uniform; shared between tests, which must not change its weights."""
    return tiny(
        Architecture(vocab_size=8, hidden=16, layers=2, heads=4, eos=1, pad=0, kind=kind),
        dtype=dtype,
        seed=seed,
        std=0.3,
    )


def fresh(kind: str = "qwen3", dtype: torch.dtype = torch.float64, seed: int = 0) -> LanguageModel:
    """The same with weights of its own."""
    kept = model(kind, dtype, seed)
    return dataclasses.replace(kept, network=copy.deepcopy(kept.network))


def sequences() -> Sequences:
    prompts = [prompt for prompt in PROMPTS for _ in range(4)]
    return Sequences.of_lists(prompts, [response for group in RESPONSES for response in group], pad=0)


def groups(dtype: torch.dtype = torch.float64, drift: float = 0.3) -> Groups:
    """Log-ratios of about `drift` at every token, so that clips act; at padding NaN."""
    given = sequences()
    logp_old = one_by_one(model(dtype=torch.float64), given).to(dtype)
    steps = torch.randn(logp_old.shape, generator=stream(0, "cases", "old"), dtype=torch.float64).to(dtype)
    apart = torch.randn(logp_old.shape, generator=stream(0, "cases", "ref"), dtype=torch.float64).to(dtype)
    engine = torch.randn(logp_old.shape, generator=stream(0, "cases", "engine"), dtype=torch.float64).to(
        dtype
    )
    mask = given.mask
    return Groups(
        given,
        torch.tensor(REWARDS, dtype=dtype),
        (logp_old - drift * steps).where(mask, torch.nan).reshape(3, 4, -1),
        (logp_old - drift * apart).where(mask, torch.nan).reshape(3, 4, -1),
        (logp_old - drift * steps - 0.1 * engine).where(mask, torch.nan).reshape(3, 4, -1),
        horizon=HORIZON,
    )


@torch.no_grad()
def distributions(lm: LanguageModel, given: Sequences, temperature: float = 1.0) -> list[list[Tensor]]:
    """The distribution of every response token, each from a forward pass over the tokens before it."""
    found = []
    for b in range(len(given)):
        prompt = given.prompt[b][given.prompt_mask[b]]
        response = given.response[b][given.mask[b]]
        row = []
        for t in range(len(response)):
            before = torch.cat([prompt, response[:t]])[None]
            row.append(
                (lm.network(input_ids=before, use_cache=False).logits[0, -1] / temperature).softmax(-1)
            )
        found.append(row)
    return found


def one_by_one(lm: LanguageModel, given: Sequences, temperature: float = 1.0) -> Tensor:
    """[B, T] log-probabilities by the definition; 0 on padding."""
    table = torch.zeros(given.mask.shape, dtype=torch.float64)
    for b, row in enumerate(distributions(lm, given, temperature)):
        for t, probability in enumerate(row):
            table[b, t] = probability[given.response[b, t]].log()
    return table


def gradient(lm: LanguageModel) -> Tensor:
    """Everything that lies in .grad, as one vector."""
    return torch.cat([p.grad.flatten() for p in lm.network.parameters() if p.grad is not None])
