"""The request to a sampler and what it gives back, whichever of them draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llm.sequences import Sequences


@dataclass(frozen=True)
class SamplingDistribution:
    """Tokens are drawn from softmax(logits / temperature), all V of them, until EOS or the limit.

    There is no top-k, no top-p and no repetition penalty, whatever the generation config of a model says: the
    log-probabilities of an update would be those of another distribution than the one that drew the
    responses.
    """

    limit: int
    """Tokens of a response at most, EOS included."""
    temperature: float = 1.0
    """0 takes the likeliest token."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit = {self.limit}: a response has at least 1 token, its EOS")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature = {self.temperature}: give 0 for the likeliest token, or a number > 0"
            )

    def log_probabilities(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """log softmax(logits / temperature), in float32 at least; at temperature 0 that of the logits."""
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (exact / self.temperature if self.temperature not in (0, 1) else exact).log_softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class SampledResponses:
    """Responses as they were drawn; row p * copies + i is response i to prompt p."""

    sequences: Sequences
    logp: Float[Tensor, "B T"] | None
    """Log-probabilities of the tokens as the sampler saw them; None where it took the likeliest."""
    ended: Bool[Tensor, " B"]
    """False where a response was cut at the limit."""

    @classmethod
    def of_lists(
        cls,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        logps: Sequence[Sequence[float]] | None,
        eos: Sequence[int],
        pad: int,
        device: str | torch.device,
    ) -> "SampledResponses":
        """One prompt and one response for each row; ValueError for log-probabilities that are no numbers."""
        sequences = Sequences.of_lists(prompts, responses, pad, device)
        ended = torch.tensor([response[-1] in eos for response in responses], device=device)
        if logps is None:
            return cls(sequences, None, ended)
        T = sequences.mask.shape[-1]
        table = torch.tensor([list(row) + [0.0] * (T - len(row)) for row in logps], device=device)
        bad = ~torch.isfinite(table).all(dim=-1)
        if bool(bad.any()):
            raise ValueError(
                f"{int(bad.sum())} of {len(bad)} responses have tokens whose log-probability is not finite: "
                f"the weights of the model, or its activations, are not; go back to a checkpoint before they "
                f"diverged"
            )
        return cls(sequences, table, ended)

    def select(self, rows: Int[Tensor, " m"]) -> "SampledResponses":
        """These rows, cut to the longest prompt and response among them."""
        rows = rows.to(self.ended.device)
        sequences = self.sequences.select(rows)
        logp = None if self.logp is None else self.logp[rows][:, : sequences.mask.shape[-1]]
        return SampledResponses(sequences, logp, self.ended[rows])

    def check(self, prompts: int, copies: int, limit: int) -> None:
        """Raise ValueError unless the sampler gave prompts * copies responses of at most `limit` tokens."""
        rows, longest = len(self.sequences), int(self.sequences.lengths.max())
        if rows != prompts * copies or longest > limit:
            raise ValueError(
                f"the sampler gave {rows} responses of up to {longest} tokens where {prompts} x {copies} of "
                f"up to {limit} were due: take another sampler"
            )


@runtime_checkable
class Sampler(Protocol):
    """Draws `copies` responses to each prompt; the same generator state gives the same responses on a CPU."""

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        copies: int,
        distribution: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses: ...


def integer(generator: torch.Generator) -> int:
    """A seed in [0, 2^31) for random numbers that another library keeps."""
    return int(torch.randint(2**31 - 1, (), generator=generator))
