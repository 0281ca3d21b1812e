"""Claim: the code that trains a language model computes the gradient that its estimator's name stands for.

    python -m llm.exactness                    # about 20 s on one core
    python -m llm.exactness --kind qwen2 --horizon 4

On a toy world (`llm.exactness.toy_world`): random weights, float64, nothing sampled. Each row is a
relative difference of two gradients in all weights of the network (or of probabilities), which must be below
LIMIT; the partners are deliberate mistakes and estimators that are biased, which must differ by more than
VISIBLE.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm.exactness.toy_world import (
    Toy,
    expectation,
    gap,
    padded_further,
    per_microbatch,
    response_log_probabilities,
    shifted_by_one,
    table,
    tabular_expectation,
    true_gradient,
    without_eos,
)
from llm.sequences import Sequences
from llm.update.logprobs import Scoring
from llm.update.microbatches import consecutive_rows, padded_tokens
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, FIRST
from ticgrpo_theory.estimators.penalties import k1, k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import none, token, trajectory

LIMIT = 1e-9
"""Largest relative difference of what must be equal: float64 sums over hundreds of rows in another order."""

VISIBLE = 1e-2
"""Least relative difference of what must differ."""


@dataclass(frozen=True)
class Check:
    """One number, and on which side of its limit it must lie."""

    name: str
    value: float
    equal: bool

    @property
    def holds(self) -> bool:
        return self.value <= LIMIT if self.equal else self.value >= VISIBLE


def checks(toy: Toy) -> Iterator[Check]:
    """Every check in turn; the first of them stand for all the others that follow."""
    unbiased = ESTIMATORS["trajectory_is"]
    yield Check("probabilities of all responses add to 1", probability_error(toy, Scoring()), True)
    yield Check("log-probabilities = those after each prefix alone", prefix_error(toy, Scoring()), True)
    truth = true_gradient(toy)
    reached = expectation(toy, unbiased)
    yield Check("E[g_hat] of trajectory_is = grad J", gap(reached, truth), True)
    for rows in (1, 3):
        found = expectation(with_short_responses(toy), unbiased, microbatches=consecutive_rows(rows))
        small = true_gradient(with_short_responses(toy))
        yield Check(f"the same, {rows} row(s) in a micro-batch", gap(found, small), True)
    longest = max(map(len, toy.prompts)) + toy.horizon
    by_length = expectation(toy, unbiased, microbatches=padded_tokens(40 * longest))
    yield Check("the same, micro-batches by length", gap(by_length, truth), True)
    yield Check(
        "the same, more padding", gap(expectation(toy, unbiased, write=padded_further(3)), truth), True
    )
    chunked = expectation(toy, unbiased, scoring=Scoring(head_chunk=50))
    yield Check("the same, head in chunks", gap(chunked, truth), True)
    warm = expectation(toy, unbiased, scoring=Scoring(temperature=0.7))
    yield Check("the same at temperature 0.7", gap(warm, true_gradient(toy, 0.7)), True)
    for name in FIRST:
        estimator = ESTIMATORS[name]
        found = expectation(toy, estimator)
        yield Check(
            f"E[g_hat] of {name} = that of its tables", gap(found, tabular_expectation(toy, estimator)), True
        )
    for penalty in (kl_loss(k3, 0.3), kl_loss(k1, 0.3, trajectory), kl_reward(k1, 0.3)):
        penalised = replace(ESTIMATORS["dapo"], penalty=penalty)
        found = gap(expectation(toy, penalised), tabular_expectation(toy, penalised))
        yield Check(f"the same, dapo with {label(penalty)}", found, True)
    yield from partners(toy, truth)


def partners(toy: Toy, truth: torch.Tensor) -> Iterator[Check]:
    """What the checks above must notice."""
    unbiased, dapo = ESTIMATORS["trajectory_is"], ESTIMATORS["dapo"]
    yield Check("PARTNER grpo against grad J", gap(expectation(toy, ESTIMATORS["grpo"]), truth), False)
    # grpo has another scale than grad J; this partner differs from the unbiased estimator in the ratio alone.
    by_token = expectation(toy, replace(unbiased, ratio=token))
    yield Check("PARTNER trajectory_is with token ratios against grad J", gap(by_token, truth), False)
    for what, scoring, write in (
        ("shifted by one", shifted_by_one(), Sequences.of_lists),
        ("EOS left out of the mask", Scoring(), without_eos),
    ):
        yield Check(f"PARTNER {what}: probabilities", probability_error(toy, scoring, write=write), False)
        found = expectation(toy, unbiased, scoring=scoring, write=write)
        yield Check(f"PARTNER {what}: gradient", gap(found, truth), False)
    split = expectation(toy, per_microbatch(dapo, 1))
    yield Check("PARTNER dapo normalised per micro-batch", gap(split, tabular_expectation(toy, dapo)), False)
    wrong_temperature = expectation(toy, unbiased, scoring=Scoring(temperature=0.7))
    yield Check("PARTNER another temperature", gap(wrong_temperature, truth), False)


def with_short_responses(toy: Toy) -> Toy:
    """The world with responses of at most two tokens: micro-batches of one row each take their time."""
    return replace(toy, horizon=min(2, toy.horizon))


def label(penalty: kl_loss | kl_reward) -> str:
    inside = (
        f", ratio {penalty.ratio.__name__}"
        if isinstance(penalty, kl_loss) and penalty.ratio is not none
        else ""
    )
    return f"{type(penalty).__name__}({penalty.k.__name__}{inside})"


def probability_error(toy: Toy, scoring: Scoring, **options) -> float:
    """max over prompts and over theta, theta_old of |sum_y pi(y) - 1|."""
    with torch.no_grad():
        sums = [
            response_log_probabilities(toy, network, scoring, **options).sum(dim=-1).exp().sum(dim=-1)
            for network in (toy.current, toy.old.network)
        ]
    return (torch.stack(sums) - 1).abs().max().item()


def prefix_error(toy: Toy, scoring: Scoring) -> float:
    """Largest difference of a log-probability from the softmax of the logits after its prefix alone."""
    found = response_log_probabilities(toy, toy.current, scoring)
    largest = 0.0
    for p, (prompt, world) in enumerate(zip(toy.prompts, toy.worlds, strict=True)):
        row = {prefix: s for s, prefix in enumerate(world.prefixes)}
        with torch.no_grad():
            logp = table(toy.current, prompt, world, scoring.temperature).log_softmax(dim=-1)
        for n, response in enumerate(world.responses):
            for t, a in enumerate(response):
                largest = max(largest, abs(float(found[p, n, t] - logp[row[response[:t]], a])))
    return largest


def main(toy: Toy) -> int:
    """Print every check with its number; 1 where one fails."""
    shown = Table("check", "difference", "must be", "", title=f"{toy.kind}, {len(toy.responses)} responses")
    failed = 0
    for check in checks(toy):
        failed += not check.holds
        limit = f"<= {LIMIT:g}" if check.equal else f">= {VISIBLE:g}"
        shown.add_row(escape(check.name), f"{check.value:.2e}", limit, "holds" if check.holds else "FAILS")
    Console().print(shown)
    return 1 if failed else 0


def command() -> None:
    """What `python -m` runs, with the options of the command line."""
    sys.exit(main(tyro.cli(Toy)))
