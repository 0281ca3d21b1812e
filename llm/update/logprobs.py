"""log pi(a[i,t] | s[i,t-1]) of every response token: one function for old, reference and current policies.

The hidden state after the last prompt token gives the distribution of the first response token, the state
after response token t - 1 that of token t. Only those states meet the head: prompts and padding cost no
logits.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llm.model import parts_of
from llm.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network says about responses; 0 on padding."""

    logp: Float[Tensor, "B T"]
    """log pi(a[i,t] | s[i,t-1]) of the distribution that tokens are drawn from, temperature included."""
    entropy: Float[Tensor, "B T"] | None = None
    """- sum_a pi(a | s[i,t-1]) log pi(a | s[i,t-1]), without gradient; None unless `Scoring.entropy`."""


def precision(device: torch.device, autocast: torch.dtype | None) -> AbstractContextManager:
    """Matrix products in `autocast`; None leaves them in the precision of the parameters."""
    return nullcontext() if autocast is None else torch.autocast(device.type, autocast)


@dataclass(frozen=True)
class Scoring:
    """How log-probabilities are computed; the old ones in the same way as those of an update."""

    temperature: float = 1.0
    """Log-probabilities are those of softmax(logits / temperature), from which tokens are drawn."""
    softmax_dtype: torch.dtype | None = None
    """Precision of the log-softmax: None is float32 (float64 where the logits are), and bfloat16 is for
    measuring the noise that it makes."""
    autocast: torch.dtype | None = None
    """Precision of matrix products where it is not that of the parameters, such as bfloat16 over float32."""
    head_chunk: int | None = None
    """Response tokens whose logits are held at once; each chunk is computed again on the way back."""
    entropy: bool = False
    """Whether the entropy is computed too, at the price of another pass over the logits."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(
                f"temperature = {self.temperature}: log-probabilities exist for temperatures > 0 only; "
                f"greedy decoding has none, evaluate it without training on it"
            )
        if self.head_chunk is not None and self.head_chunk < 1:
            raise ValueError(
                f"head_chunk = {self.head_chunk}: give at least 1 token, or None for all at once"
            )

    def __call__(self, network: nn.Module, sequences: Sequences) -> Scores:
        """One forward pass over all rows; differentiable in the weights where gradients are enabled."""
        with precision(sequences.response.device, self.autocast):
            states, tokens = self.states(network, sequences), sequences.response[sequences.mask]
            _, head = parts_of(network)
            size = self.head_chunk or len(tokens)
            parts = [
                self.chunk(
                    head, states[first : first + size], tokens[first : first + size], len(tokens) > size
                )
                for first in range(0, len(tokens), size)
            ]
        logp = spread(torch.cat([logp for logp, _ in parts]), sequences.mask)
        if not self.entropy:
            return Scores(logp)
        return Scores(logp, spread(torch.cat([entropy for _, entropy in parts]), sequences.mask))

    def states(self, network: nn.Module, sequences: Sequences) -> Float[Tensor, "n d"]:
        """The hidden state from which each response token was drawn, row after row."""
        ids = sequences.aligned()
        # The last token of the longest row predicts nothing that is read. Without a mask attention is causal,
        # which is all that rows padded on the right need.
        body, _ = parts_of(network)
        hidden = body(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        row, t = sequences.mask.nonzero(as_tuple=True)
        column = sequences.prompt_lengths[row] + t - 1
        return hidden.flatten(0, 1).index_select(0, row * hidden.shape[1] + column)

    def chunk(
        self, head: nn.Module, states: Float[Tensor, "m d"], tokens: Int[Tensor, " m"], again: bool
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """(log-probability, entropy) of some tokens; `again`: logits are not kept but made twice."""
        if again and torch.is_grad_enabled():
            return checkpoint(self.head_scores, head, states, tokens, use_reentrant=False)
        return self.head_scores(head, states, tokens)

    def head_scores(
        self, head: nn.Module, states: Float[Tensor, "m d"], tokens: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """log_softmax(head(state) / temperature)[token] and the entropy of that softmax."""
        logits = head(states)
        exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
        logits = logits.to(self.softmax_dtype or exact)
        # Autocast would take a low-precision log-softmax back to float32.
        with torch.autocast(states.device.type, enabled=False):
            every = (logits if self.temperature == 1.0 else logits / self.temperature).log_softmax(dim=-1)
            logp = every.gather(-1, tokens[:, None]).squeeze(-1).to(exact)
            if not self.entropy:
                return logp, logp.detach()
            # entr(0) = 0, where 0 log 0 would be NaN.
            return logp, torch.special.entr(every.detach().exp()).sum(dim=-1).to(exact)


def spread(values: Float[Tensor, " n"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """The values of the tokens at their places, row after row; 0 on padding."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)


def log_probabilities(
    network: nn.Module, sequences: Sequences, parts: Sequence[Tensor], scoring: Scoring
) -> Scores:
    """Scores of all rows without gradient, one forward pass for each of `parts` (micro-batches of row
    numbers).

    Rows in no part get 0. The parts must be those of the update that follows: in low precision another
    batching of the same weights gives other log-probabilities.
    """
    logp = entropy = None
    with torch.no_grad():
        for rows in parts:
            scores = scoring(network, sequences.select(rows))
            width = scores.logp.shape[-1]
            if logp is None:
                logp = torch.zeros(sequences.mask.shape, dtype=scores.logp.dtype, device=scores.logp.device)
                entropy = None if scores.entropy is None else torch.zeros_like(logp)
            logp[rows, :width] = scores.logp
            if entropy is not None and scores.entropy is not None:
                entropy[rows, :width] = scores.entropy
    if logp is None:
        raise ValueError("parts is empty: give at least one micro-batch of rows")
    return Scores(logp, entropy)
