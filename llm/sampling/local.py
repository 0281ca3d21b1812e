"""Samplers that run the network itself: a loop with a cache of its own, and `generate` of transformers.

Both draw from the law that `draws.Law` states and report the log-probabilities of what they drew.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from llm.model import LanguageModel
from llm.sampling.protocol import SampledResponses, SamplingDistribution, integer
from llm.sequences import Sequences, response_mask

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
        law: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses:
        device, parts = self.model.device, []
        if device.type != "cpu":
            generator = torch.Generator(device).manual_seed(integer(generator))
        with evaluating(self.model.network), precision(device, self.autocast):
            for some, owner in rows_of(self.model, prompts, copies, self.max_rows):
                parts.append(self.respond(some, owner, law, generator))
        return joined(self.model, prompts, copies, parts, law)

    def respond(
        self,
        prompts: Sequences,
        owner: Int[Tensor, " n"],
        law: SamplingDistribution,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "n t"], Float[Tensor, "n t"]]:
        """A response to the prompt `owner[row]` for each row, and the log-probabilities of its tokens."""
        network: Any = self.model.network
        n = len(owner)
        eos = torch.tensor(self.model.eos, device=owner.device)
        # On a GPU asking whether rows have ended waits for it; the tokens drawn in the meantime are cut off.
        asked_every = 1 if owner.device.type == "cpu" else 16
        cache = DynamicCache(config=network.config)
        L = prompts.prompt.shape[-1]
        hidden = network.base_model(
            input_ids=prompts.prompt,
            attention_mask=prompts.prompt_mask,
            position_ids=prompts.position_ids[:, :L],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        cache.batch_select_indices(owner)
        hidden, position = hidden[owner], prompts.prompt_lengths[owner]
        mask = nn.functional.pad(prompts.prompt_mask[owner], (0, law.limit), value=True)
        padded = not bool(prompts.prompt_mask.all())
        row, ended = (
            torch.arange(n, device=owner.device),
            torch.zeros(n, dtype=torch.bool, device=owner.device),
        )
        tokens = torch.full((n, law.limit), self.model.pad, device=owner.device)
        logps = torch.zeros(n, law.limit, device=owner.device)
        head = network.get_output_embeddings()
        t = 0
        for t in range(law.limit):
            token, logp = draw(law.log_probabilities(head(hidden)), law.temperature, generator)
            tokens[row, t], logps[row, t] = token, logp.to(logps.dtype)
            ended = ended | torch.isin(token, eos)
            if t + 1 == law.limit:
                break
            if t % asked_every == 0 and float(ended.float().mean()) >= DROPPED:
                left = (~ended).nonzero().squeeze(-1)
                if not len(left):
                    break
                cache.batch_select_indices(left)
                row, ended, token, position, mask = (
                    row[left],
                    ended[left],
                    token[left],
                    position[left],
                    mask[left],
                )
            hidden = network.base_model(
                input_ids=token[:, None],
                attention_mask=mask[:, : L + t + 1] if padded else None,
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            position = position + 1
        return tokens[:, : t + 1], logps[:, : t + 1]


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
        law: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses:
        device, parts = self.model.device, []
        devices = [] if device.type == "cpu" else [device]
        with (
            evaluating(self.model.network),
            precision(device, self.autocast),
            # The temperature is applied in `processed`, so that no order of processors matters.
            own_config(self.model, law, temperature=1.0) as config,
            torch.random.fork_rng(devices=devices),
        ):
            torch.manual_seed(integer(generator))
            for some, owner in rows_of(self.model, prompts, copies, self.max_rows):
                parts.append(self.respond(some, owner, law, config))
        return joined(self.model, prompts, copies, parts, law)

    def respond(
        self,
        prompts: Sequences,
        owner: Int[Tensor, " n"],
        law: SamplingDistribution,
        config: GenerationConfig,
    ) -> tuple[Int[Tensor, "n t"], Float[Tensor, "n t"]]:
        logps: list[Tensor] = []
        every: list[Tensor] = []

        def processed(ids: Tensor, logits: Tensor) -> Tensor:
            every[:] = [law.log_probabilities(logits)]
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
    model: LanguageModel, law: SamplingDistribution, temperature: float
) -> Iterator[GenerationConfig]:
    """A generation config that states the law, in the place of the model's own, which would fill gaps."""
    network: Any = model.network
    config = GenerationConfig(
        do_sample=law.temperature != 0,
        max_new_tokens=law.limit,
        eos_token_id=list(model.eos),
        pad_token_id=model.pad,
        # Of greedy decoding transformers warns about parameters that it would not read.
        **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if law.temperature else {}),
        repetition_penalty=1.0,
    )
    models_own, network.generation_config = network.generation_config, config
    try:
        yield config
    finally:
        network.generation_config = models_own


def precision(device: torch.device, autocast: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if autocast is None else torch.autocast(device.type, autocast)


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
    law: SamplingDistribution,
) -> SampledResponses:
    """The parts one below the other, cut at the first EOS token of each row."""
    responses, logps = [], []
    for tokens, logp in parts:
        lengths = response_mask(tokens, model.eos).sum(dim=-1).tolist()
        responses += [row[:n] for row, n in zip(tokens.tolist(), lengths, strict=True)]
        logps += [row[:n] for row, n in zip(logp.tolist(), lengths, strict=True)]
    rows = [prompt for prompt in prompts for _ in range(copies)]
    given = logps if law.temperature else None
    return SampledResponses.of_lists(rows, responses, given, model.eos, model.pad, model.device)
