"""One rollout: prompts, their groups of responses, and their rewards.

With dynamic sampling, groups whose responses are all right or all wrong are replaced by those of new prompts:

    kept: 0 < number of right responses < G

Source: arXiv:2503.14476 v2 (DAPO), Eq. 11. Whether a response is right decides, not its reward, in which an
overlong penalty may differ within a group.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from llm.config.config import Config
from llm.config.sections import RewardConfig
from llm.data import problems as data
from llm.data import rewards
from llm.data.character_tokenizer import decode
from llm.data.math_verify_process import Counts, Verifier
from llm.data.problems import Position, Problem
from llm.sampling import rollout
from llm.sampling.protocol import SampledResponses, Sampler, SamplingDistribution
from llm.sequences import Sequences
from llm.update.groups import rows_of
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.stats.rng import stream


@dataclass(frozen=True, eq=False)
class Judge:
    """Which responses are right: strict integers, or math-verify in its guarded process."""

    verifier: Verifier | None

    @classmethod
    @contextmanager
    def of(cls, config: RewardConfig) -> Iterator["Judge"]:
        """As configured; leaves no process behind."""
        if config.kind == "integer":
            yield cls(None)
        else:
            with Verifier(config.deadline) as verifier:
                yield cls(verifier)

    def __call__(self, responses: Sequence[str], truths: Sequence[int]) -> list[bool]:
        if self.verifier is not None:
            return self.verifier.all_correct(responses, truths)
        return [rewards.correct(response, truth) for response, truth in zip(responses, truths, strict=True)]

    def counted(self) -> dict[str, int]:
        """What the verifier could not judge since the last call of this; nothing of strict integers."""
        if self.verifier is None:
            return {}
        counts, self.verifier.counts = self.verifier.counts, Counts()
        return {"verifier_timeouts": counts.timeouts, "verifier_crashes": counts.crashes}


@dataclass(frozen=True, eq=False)
class Collected:
    """P groups of G responses with their rewards; row p G + i is response i to prompt p."""

    drawn: SampledResponses
    reward: Float[Tensor, "P G"]
    right: Bool[Tensor, "P G"]
    position: Position
    """Behind the last prompt that was drawn."""
    counts: dict[str, int]
    """Of this rollout, groups that were replaced included."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where rollouts come from."""

    problems: tuple[Problem, ...]
    tokenizer: object
    sampler: Sampler
    judge: Judge
    config: Config

    @property
    def distribution(self) -> SamplingDistribution:
        return SamplingDistribution(
            self.config.sampling.max_response_tokens, self.config.sampling.temperature
        )

    def collect(self, number: int, position: Position) -> Collected:
        """Rollout `number`, from the prompt at `position` on: a function of these and of the weights.

        Dynamic sampling that runs out of rounds goes on with the groups that it has, and as many of equal
        rewards as fill up the mini-batches.

        Raises ValueError for rewards that are not finite.
        """
        G, dynamic = self.config.sampling.group_size, self.config.dynamic_sampling
        missing, rounds = self.config.sampling.prompts, 0
        counts = {"groups_replaced": 0, "responses": 0, "cut": 0, "empty": 0}
        parts: list[tuple[SampledResponses, Tensor]] = []
        while missing and rounds < (dynamic.max_rounds if dynamic.enabled else 1):
            numbers, position = data.draw(len(self.problems), missing, self.config.data.seed, position)
            problems = [self.problems[i] for i in numbers]
            generator = stream(self.config.seed, "rollout", number, rounds)
            prompts = [problem.tokens for problem in problems]
            drawn = rollout.sample(self.sampler, prompts, G, self.distribution, generator=generator)
            right = self.judged(drawn, problems)
            varied = right.any(dim=1) & ~right.all(dim=1) if dynamic.enabled else torch.ones(len(right)) > 0
            rounds, missing = rounds + 1, missing - int(varied.sum())
            kept = varied.nonzero().squeeze(1)
            if rounds == dynamic.max_rounds and missing:
                equal = (~varied).nonzero().squeeze(1)
                kept = torch.cat([kept, equal[: self.lacking(self.config.sampling.prompts - missing)]])
            if len(kept):
                parts.append((drawn.select(rows_of(kept, G)), right[kept]))
            counts["groups_replaced"] += len(problems) - len(kept)
            counts["responses"] += len(drawn.sequences)
            counts["cut"] += int((~drawn.ended).sum())
            counts["empty"] += int((drawn.ended & (drawn.sequences.lengths == 1)).sum())
        counts |= {"rounds": rounds, **self.judge.counted()}
        drawn, right = stacked([part for part, _ in parts]), torch.cat([right for _, right in parts])
        return Collected(drawn, self.rewards(drawn, right), right, position, counts)

    def lacking(self, groups: int) -> int:
        """How many groups are missing for mini-batches of equal size, at least one group in each."""
        updates = self.config.updates
        B = Batches.of(updates.batches).drawn(updates.inner_steps)
        return -groups % B if groups else B

    def rewards(self, drawn: SampledResponses, right: Bool[Tensor, "P G"]) -> Float[Tensor, "P G"]:
        """The rewards of the responses; raises ValueError for a reward that is NaN or infinite."""
        config = self.config
        values = rewards.rewards(
            right.flatten().tolist(),
            drawn.sequences.lengths.tolist(),
            config.reward.values,
            config.sampling.max_response_tokens,
            config.reward.overlong_buffer,
            config.reward.overlong_factor,
        )
        bad = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
        if bad is not None:
            raise ValueError(
                f"the reward of response {bad} of the rollout is {values[bad]}: rewards must be finite "
                f"numbers; mend the reward function, no update was made"
            )
        return torch.tensor(values, dtype=torch.float64, device=drawn.ended.device).reshape(right.shape)

    def judged(self, drawn: SampledResponses, problems: Sequence[Problem]) -> Bool[Tensor, "P G"]:
        """Which responses are right."""
        G = self.config.sampling.group_size
        truths = [problem.answer for problem in problems for _ in range(G)]
        found = self.judge(texts(self.tokenizer, drawn), truths)
        return torch.tensor(list(found), dtype=torch.bool).reshape(-1, G)


def texts(tokenizer: object, drawn: SampledResponses) -> list[str]:
    """What the responses say, without special tokens."""
    lengths = drawn.sequences.lengths.tolist()
    rows = drawn.sequences.response.tolist()
    return decode(tokenizer, [row[:n] for row, n in zip(rows, lengths, strict=True)])  # type: ignore[arg-type]


def stacked(parts: Sequence[SampledResponses]) -> SampledResponses:
    """The rows of all parts, one below the other, padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    L = max(part.sequences.prompt.shape[-1] for part in parts)
    T = max(part.sequences.mask.shape[-1] for part in parts)

    def prompts(tables: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(table, (L - table.shape[-1], 0)) for table in tables])

    def responses(tables: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(table, (0, T - table.shape[-1])) for table in tables])

    sequences = Sequences(
        prompts([part.sequences.prompt for part in parts]),
        prompts([part.sequences.prompt_mask for part in parts]),
        responses([part.sequences.response for part in parts]),
        responses([part.sequences.mask for part in parts]),
    )
    logps = [part.logp for part in parts if part.logp is not None]
    logp = responses(logps) if len(logps) == len(parts) else None
    return SampledResponses(sequences, logp, torch.cat([part.ended for part in parts]))
