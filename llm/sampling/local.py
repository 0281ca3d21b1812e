"""Samplers that run the network itself: a loop with a cache of its own, and `generate` of transformers.

Both draw from `protocol.SamplingDistribution` and report the log-probabilities of what they drew.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from llm.model import LanguageModel, parts_of
from llm.sampling.protocol import SampledResponses, SamplingDistribution, integer
from llm.sequences import Sequences, response_mask
from llm.update.logprobs import precision

DROPPED = 1 / 8
"""Share of finished rows from which on their cache is given up: it costs a copy of what is left."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """No gradients, and no recomputation of activations, which would forbid the cache."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def rows_of(
    model: LanguageModel, prompts: Sequence[Sequence[int]], copies: int, limit: int
) -> Iterator[tuple[Sequences, Int[Tensor, " n"]]]:
    """At most `limit` rows at a time: the distinct prompts among them, and which of these each row continues.

    The responses of these `Sequences` are single pad tokens that nothing reads.
    """
    owners = torch.arange(len(prompts)).repeat_interleave(copies)
    for rows in owners.split(limit):
        distinct, owner = rows.unique(return_inverse=True)
        some = [prompts[p] for p in distinct.tolist()]
        yield (
            Sequences.of_lists(some, [[model.pad]] * len(some), model.pad, model.device),
            owner.to(model.device),
        )


@dataclass(frozen=True, eq=False)
class Own:
    """One forward pass for each prompt, then token by token; finished rows are dropped on the way."""

    model: LanguageModel
    max_rows: int
    """Responses drawn at once, each with its cache."""
    autocast: torch.dtype | None = None
    """Precision of matrix products, as in the update."""

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        copies: int,
        distribution: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses:
        device, parts = self.model.device, []
        if device.type != "cpu":
            generator = torch.Generator(device).manual_seed(integer(generator))
        with evaluating(self.model.network), precision(device, self.autocast):
            for some, owner in rows_of(self.model, prompts, copies, self.max_rows):
                parts.append(self.respond(some, owner, distribution, generator))
        return joined(self.model, prompts, copies, parts, distribution)

    def respond(
        self,
        prompts: Sequences,
        owner: Int[Tensor, " n"],
        distribution: SamplingDistribution,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "n t"], Float[Tensor, "n t"]]:
        """A response to the prompt `owner[row]` for each row, and the log-probabilities of its tokens."""
        limit, device = distribution.limit, owner.device
        eos = torch.tensor(self.model.eos, device=device)
        # On a GPU a look at which rows have ended waits for it; the tokens drawn in the meantime are cut off.
        look_every = 1 if device.type == "cpu" else 16
        rows = self.begin(prompts, owner, limit)
        tokens = torch.full((len(owner), limit), self.model.pad, device=device)
        logps = torch.zeros(len(owner), limit, device=device)
        _, head = parts_of(self.model.network)
        t = 0
        for t in range(limit):
            logits = distribution.log_probabilities(head(rows.hidden))
            rows.token, logp = draw(logits, distribution.temperature, generator)
            tokens[rows.row, t], logps[rows.row, t] = rows.token, logp.to(logps.dtype)
            rows.ended = rows.ended | torch.isin(rows.token, eos)
            if t + 1 == limit or (t % look_every == 0 and rows.all_ended()):
                break
            self.advance(rows, prompts.prompt.shape[-1] + t + 1)
        return tokens[:, : t + 1], logps[:, : t + 1]

    def begin(self, prompts: Sequences, owner: Int[Tensor, " n"], limit: int) -> "Unfinished":
        """One forward pass over the prompts; then each row goes on from the prompt that it continues."""
        body: Any = parts_of(self.model.network)[0]
        cache = DynamicCache(config=self.model.network.config)  # type: ignore[arg-type]
        hidden = body(
            input_ids=prompts.prompt,
            attention_mask=prompts.prompt_mask,
            position_ids=prompts.position_ids[:, : prompts.prompt.shape[-1]],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        cache.batch_select_indices(owner)
        padded = not bool(prompts.prompt_mask.all())
        mask = nn.functional.pad(prompts.prompt_mask[owner], (0, limit), value=True) if padded else None
        row = torch.arange(len(owner), device=owner.device)
        ended = torch.zeros_like(row, dtype=torch.bool)
        return Unfinished(cache, hidden[owner], row, prompts.prompt_lengths[owner], mask, ended, row)

    def advance(self, rows: "Unfinished", width: int) -> None:
        """The hidden state after the token that each row has just drawn, `width` columns in all."""
        body: Any = parts_of(self.model.network)[0]
        rows.hidden = body(
            input_ids=rows.token[:, None],
            attention_mask=None if rows.mask is None else rows.mask[:, :width],
            position_ids=rows.position[:, None],
            past_key_values=rows.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        rows.position = rows.position + 1


@dataclass(eq=False)
class Unfinished:
    """Responses that still grow, with the cache of all tokens before the last one of each."""

    cache: DynamicCache
    hidden: Float[Tensor, "m d"]
    """The state from which the next token is drawn."""
    row: Int[Tensor, " m"]
    """The row of the table that each continues."""
    position: Int[Tensor, " m"]
    """Of the last token drawn."""
    mask: Bool[Tensor, "m LT"] | None
    """False at the padding of prompts; None where there is none."""
    ended: Bool[Tensor, " m"]
    """Rows whose last token was an EOS token."""
    token: Int[Tensor, " m"]
    """The last token drawn; nothing reads it before the first."""

    def all_ended(self) -> bool:
        """Whether nothing is left to draw; once many rows have ended (DROPPED), they and their cache go."""
        if float(self.ended.float().mean()) < DROPPED:
            return False
        left = (~self.ended).nonzero().squeeze(-1)
        if not len(left):
            return True
        self.cache.batch_select_indices(left)
        self.row, self.token, self.position = self.row[left], self.token[left], self.position[left]
        self.ended, self.mask = self.ended[left], None if self.mask is None else self.mask[left]
        return False


@dataclass(frozen=True, eq=False)
class Generate:
    """`generate` of transformers, with nothing of the model's own generation config."""

    model: LanguageModel
    max_rows: int
    autocast: torch.dtype | None = None

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        copies: int,
        distribution: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses:
        device, parts = self.model.device, []
        devices = [] if device.type == "cpu" else [device]
        with (
            evaluating(self.model.network),
            precision(device, self.autocast),
            # The temperature is applied in `processed`, so that no order of processors matters.
            own_config(self.model, distribution, temperature=1.0) as config,
            torch.random.fork_rng(devices=devices),
        ):
            torch.manual_seed(integer(generator))
            for some, owner in rows_of(self.model, prompts, copies, self.max_rows):
                parts.append(self.respond(some, owner, distribution, config))
        return joined(self.model, prompts, copies, parts, distribution)

    def respond(
        self,
        prompts: Sequences,
        owner: Int[Tensor, " n"],
        distribution: SamplingDistribution,
        config: GenerationConfig,
    ) -> tuple[Int[Tensor, "n t"], Float[Tensor, "n t"]]:
        logps: list[Tensor] = []
        every: list[Tensor] = []

        def processed(ids: Tensor, logits: Tensor) -> Tensor:
            every[:] = [distribution.log_probabilities(logits)]
            return every[0]

        def recorded(ids: Tensor, scores: Any, **_: Any) -> Tensor:
            logps.append(every[0].gather(-1, ids[:, -1:]))
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)  # never a reason to stop

        network: Any = self.model.network
        ids = network.generate(
            prompts.prompt[owner],
            attention_mask=prompts.prompt_mask[owner].long(),
            generation_config=config,
            logits_processor=LogitsProcessorList([processed]),
            stopping_criteria=StoppingCriteriaList([recorded]),
        )
        return ids[:, prompts.prompt.shape[-1] :], torch.cat(logps, dim=-1).float()


@contextmanager
def own_config(
    model: LanguageModel, distribution: SamplingDistribution, temperature: float
) -> Iterator[GenerationConfig]:
    """A generation config with that distribution, in the place of the model's own, which would fill gaps."""
    network: Any = model.network
    config = GenerationConfig(
        do_sample=distribution.temperature != 0,
        max_new_tokens=distribution.limit,
        eos_token_id=list(model.eos),
        pad_token_id=model.pad,
        # Of greedy decoding transformers warns about parameters that it would not read.
        **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if distribution.temperature else {}),
        repetition_penalty=1.0,
    )
    models_own, network.generation_config = network.generation_config, config
    try:
        yield config
    finally:
        network.generation_config = models_own


def draw(
    logp: Float[Tensor, "n V"], temperature: float, generator: torch.Generator
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """argmax of logp[a] - log E[a], E independent exponentials: each a with probability exp(logp[a]).

    Source: the race of exponential variables; at temperature 0 the argmax of logp. The second number is the
    log-probability of the first.
    """
    if temperature == 0:
        token = logp.argmax(dim=-1)
    else:
        token = (logp - torch.empty_like(logp).exponential_(generator=generator).log()).argmax(dim=-1)
    return token, logp.gather(-1, token[:, None]).squeeze(-1)


def joined(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    copies: int,
    parts: Sequence[tuple[Int[Tensor, "_ _"], Float[Tensor, "_ _"]]],
    distribution: SamplingDistribution,
) -> SampledResponses:
    """The parts one below the other, cut at the first EOS token of each row."""
    responses, logps = [], []
    for tokens, logp in parts:
        lengths = response_mask(tokens, model.eos).sum(dim=-1).tolist()
        responses += [row[:n] for row, n in zip(tokens.tolist(), lengths, strict=True)]
        logps += [row[:n] for row, n in zip(logp.tolist(), lengths, strict=True)]
    rows = [prompt for prompt in prompts for _ in range(copies)]
    given = logps if distribution.temperature else None
    return SampledResponses.of_lists(rows, responses, given, model.eos, model.pad, model.device)
