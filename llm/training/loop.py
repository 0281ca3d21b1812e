"""The stages of one rollout in their order: draw, judge, old log-probabilities, K updates, a line for each.

stage                    what it may end with
rollout, rewards         ValueError: a reward that is no number
old log-probabilities    MemoryError: names the sizes to lower
update                   NonFinite: the batch lies in <output>, no weight was touched
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from llm.config.config import Config
from llm.config.sections import OptimizerConfig
from llm.sampling.collect import Collected, Source
from llm.sequences import Sequences
from llm.training.checkpoints import State
from llm.training.memory import naming_sizes, peak_memory
from llm.training.metrics_file import Line
from llm.update.groups import Groups, minibatches
from llm.update.inner_steps import updates
from llm.update.logprobs import Scoring
from llm.update.metrics import speed_metrics, update_metrics
from llm.update.microbatches import Partition, consecutive_rows, padded_tokens
from llm.update.step import NonFinite, Recipe, score
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import kl_exact, kl_loss

LOGITS = 2**29
"""Logits that are held at once, in float32 2 GiB: of a vocabulary of 151,936 those of 3,533 tokens."""


@dataclass(frozen=True)
class tokens_and_rows:
    """Micro-batches of at most `tokens` tokens, padding counted, and of at most `rows` rows."""

    tokens: int
    rows: int

    def __call__(self, sequences: Sequences) -> list[Tensor]:
        return [piece for part in padded_tokens(self.tokens)(sequences) for piece in part.split(self.rows)]


def microbatches(config: Config) -> Partition:
    """By rows, and by tokens too where a limit on them is given."""
    rows, tokens = config.updates.micro_batch_rows, config.updates.micro_batch_tokens
    return consecutive_rows(rows) if tokens is None else tokens_and_rows(tokens, rows)


def autocast(config: Config) -> torch.dtype | None:
    """Of matrix products; weights and optimiser are in float32, where a step of 1e-6 is not lost."""
    return torch.bfloat16 if config.model.dtype == "bfloat16" else None


def scoring(config: Config, vocabulary: int) -> Scoring:
    """How all log-probabilities of a run are computed."""
    chunk = max(1, LOGITS // vocabulary)
    return Scoring(config.sampling.temperature, None, autocast(config), chunk, entropy=True)


def learning_rate(config: OptimizerConfig, updates: int) -> float:
    """lr min(1, (n + 1) / warmup_steps) at update n = 0, 1, ...: linear to a constant."""
    return config.lr * min(1.0, (updates + 1) / max(1, config.warmup_steps))


@dataclass(eq=False)
class Loop:
    """A run between two rollouts; `rollout` makes one more and moves `state`."""

    config: Config
    network: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    source: Source
    reference: nn.Module | None
    state: State
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the rollout that is being made, by stage."""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def rollout(self) -> list[Line]:
        """One rollout and its updates; a line for each update, or one alone where there was none to make."""
        self.seconds = {}
        self.optimizer.zero_grad(set_to_none=True)  # the memory of gradients is the sampler's meanwhile
        with self.stage("rollout"):
            got = self.source.collect(self.state.rollouts, self.state.position)
        groups = self.groups(got)
        made = [] if self.nothing_to_learn(groups) else list(self.updates(groups))
        counted = {**got.counts, "rollouts_skipped": int(not made)}
        self.state = State(
            self.state.rollouts + 1,
            self.state.updates + len(made),
            got.position,
            {name: self.state.counters.get(name, 0) + n for name, n in counted.items()},
        )
        about = {**self.about(got), **counted, **self.times(got)}
        number, first = self.state.rollouts - 1, self.state.updates - len(made)
        lines = made or [{"reward": got.reward.mean().item()}]
        return [
            {
                "rollout": number,
                "update": first + k,
                **about,
                **line,
                "right": got.right.double().mean().item(),
            }
            for k, line in enumerate(lines)
        ]

    def groups(self, got: Collected) -> Groups:
        """What the updates read; old and reference log-probabilities by the update's own micro-batches."""
        sequences, shape = got.drawn.sequences, (*got.reward.shape, -1)
        G = got.reward.shape[1]
        parts = minibatches(
            got.reward.shape[0], self.config.updates.inner_steps, self.config.updates.batches, self.device
        )
        with self.stage("old log-probabilities"):
            logp_old = score(self.network, sequences, G, parts, self.recipe).logp.reshape(shape)
            logp_ref = None
            if self.reference is not None:
                logp_ref = score(self.reference, sequences, G, parts, self.recipe).logp.reshape(shape)
        return Groups(
            sequences,
            got.reward,
            logp_old,
            logp_ref,
            None if got.drawn.logp is None else got.drawn.logp.reshape(shape),
            self.config.sampling.max_response_tokens,
        )

    def nothing_to_learn(self, groups: Groups) -> bool:
        """Whether every advantage is 0, so that the step would be momentum and weight decay alone.

        Of a callable, whose advantages nobody knows: whether all rewards of the rollout are equal.
        """
        estimator = self.recipe.estimator
        if not isinstance(estimator, Estimator):
            return bool(groups.reward.max() == groups.reward.min())
        if isinstance(estimator.penalty, kl_loss | kl_exact):
            return False
        return not bool(estimator.advantages(groups.batch(groups.logp_old)).any())

    def updates(self, groups: Groups) -> Iterator[Line]:
        """The K updates, each with its metrics."""
        K, first = self.config.updates.inner_steps, self.state.updates
        steps = updates(self.network, self.optimizer, groups, self.recipe, K, self.config.updates.batches)
        for k in range(K):
            lr = learning_rate(self.config.optimizer, first + k)
            for parameters in self.optimizer.param_groups:
                parameters["lr"] = lr
            before = self.seconds.get("update", 0.0)
            try:
                with self.stage("update"):
                    mini, done = next(steps)
            except NonFinite as error:
                raise NonFinite(self.kept(error, k), error.groups) from error
            seconds = self.seconds["update"] - before
            yield {
                "inner_step": k,
                "lr": lr,
                **update_metrics(mini, done, self.recipe, first=k == 0),
                **speed_metrics(self.network, mini, seconds),
                "seconds_this_update": seconds,
            }

    def kept(self, error: NonFinite, inner_step: int) -> str:
        """Save the batch of the failed update, and say where it lies."""
        path = self.config.output / f"failed-rollout-{self.state.rollouts}-step-{inner_step}.pt"
        save_batch(error.groups, path)
        return (
            f"rollout {self.state.rollouts}, inner step {inner_step}: {error}; the batch is saved as {path}, "
            f"the last checkpoint is kept"
        )

    def about(self, got: Collected) -> Line:
        """What is the same for all updates of a rollout."""
        return {
            "rollout_reward": got.reward.mean().item(),
            "share_cut": 1 - got.drawn.ended.double().mean().item(),
            "epoch": got.position.epoch,
            "peak_memory_gib": peak_memory(self.device),
        }

    def times(self, got: Collected) -> Line:
        """Seconds and shares of the stages, and response tokens per second of the rollout."""
        total = math.fsum(self.seconds.values())
        name = {"rollout": "rollout", "old log-probabilities": "old_logp", "update": "update"}
        return {
            **{f"seconds_{name[stage]}": s for stage, s in self.seconds.items()},
            **{f"share_{name[stage]}": s / total for stage, s in self.seconds.items()},
            "tokens_per_second_rollout": int(got.drawn.sequences.lengths.sum()) / self.seconds["rollout"],
        }

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of a stage, and name the sizes to lower where memory does not suffice."""
        began = time.perf_counter()
        with naming_sizes(name, self.config):
            yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def save_batch(groups: Groups, path: Path) -> None:
    """The tensors of the batch by their names, for torch.load(path, weights_only=True)."""
    tensors = {
        **{f"sequences.{f.name}": getattr(groups.sequences, f.name) for f in dataclasses.fields(Sequences)},
        **{f.name: getattr(groups, f.name) for f in dataclasses.fields(Groups) if f.name != "sequences"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: t.cpu() if isinstance(t, Tensor) else t for name, t in tensors.items()}, path)
