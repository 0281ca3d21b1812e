"""Causal language models as the rest of `llm` wants them: `tiny` makes random ones; llm/pretrained.py loads.

Both return a `LanguageModel`, prepared so that its log-probabilities are a function of its weights and of the
tokens of a response alone: no dropout, no embedding row whose gradient is dropped, and in float64 no step in
single precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

from ticgrpo_theory.stats.rng import stream

QWEN = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}
"""Architectures that `tiny` builds: grouped queries, rotary positions; Qwen3 norms queries and keys."""


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A network and what it takes to end and to pad its responses."""

    network: nn.Module
    """A causal language model of transformers: `base_model` gives hidden states, a linear head logits."""
    tokenizer: Any | None
    """None where responses are read as token numbers, as in the exact checks."""
    eos: tuple[int, ...]
    """Tokens that end a response; the one that does is part of it."""
    pad: int
    """Fills up rows. It may equal an EOS token: masks come from lengths, never from token numbers."""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device


class DoubleRMSNorm(nn.Module):
    """weight * x / sqrt(mean(x^2) + eps), in the precision of x; transformers' own goes through float32."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.variance_epsilon = epsilon

    def forward(self, hidden_states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        variance = hidden_states.square().mean(dim=-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))


def device_named(name: str) -> str:
    """`auto` is a GPU where there is one; any other name stands for itself."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Architecture:
    """The sizes of a random network; raises ValueError for an unknown kind and for tokens that it lacks."""

    vocab_size: int
    """V."""
    eos: int
    """The token that ends a response."""
    pad: int
    """The token that fills up rows."""
    kind: str = "qwen3"
    """qwen2 or qwen3."""
    hidden: int = 64
    """Width of the hidden states."""
    layers: int = 2
    heads: int = 4
    """Queries of each layer."""
    kv_heads: int | None = None
    """Keys that the queries share; half as many by default."""
    head_dim: int | None = None
    """Width of a query; hidden / heads by default."""
    intermediate: int | None = None
    """Width of the gated layer; 3 hidden by default."""
    tied: bool = True
    """Whether the head is the matrix of embeddings."""
    max_positions: int = 4096
    """Tokens of a row at most."""
    attention: str = "sdpa"
    """Attention implementation of transformers."""

    def __post_init__(self) -> None:
        if self.kind not in QWEN:
            raise ValueError(f"kind = {self.kind!r}: choose one of {', '.join(sorted(QWEN))}")
        for name, token in (("eos", self.eos), ("pad", self.pad)):
            if not 0 <= token < self.vocab_size:
                raise ValueError(
                    f"{name} = {token} lies outside the vocabulary 0 to {self.vocab_size - 1}: "
                    f"choose one inside"
                )

    def config(self) -> Qwen2Config | Qwen3Config:
        """The same sizes by their names in transformers."""
        return QWEN[self.kind](
            vocab_size=self.vocab_size,
            hidden_size=self.hidden,
            intermediate_size=3 * self.hidden if self.intermediate is None else self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=max(1, self.heads // 2) if self.kv_heads is None else self.kv_heads,
            head_dim=self.hidden // self.heads if self.head_dim is None else self.head_dim,
            max_position_embeddings=self.max_positions,
            tie_word_embeddings=self.tied,
            eos_token_id=self.eos,
            bos_token_id=None,
            # In the config it would zero an embedding row and drop its gradient.
            pad_token_id=None,
        )


def tiny(
    architecture: Architecture,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    std: float = 0.02,
    device: str | torch.device = "cpu",
    tokenizer: Any | None = None,
) -> LanguageModel:
    """A random network of that architecture; the same weights in every dtype.

    Matrices and biases are normal with standard deviation `std` (transformers' own start is 0.02; the exact
    checks take more, so that policies are far from uniform), norms are 1.
    """
    # The values that transformers draws here are overwritten: its draws depend on the version and the dtype.
    with torch.random.fork_rng(devices=[]):
        network = AutoModelForCausalLM.from_config(
            architecture.config(), attn_implementation=architecture.attention, dtype=dtype
        )
    network.generation_config.pad_token_id = architecture.pad
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                drawn = torch.empty(parameter.shape, dtype=torch.float64)
                drawn.normal_(0.0, std, generator=stream(seed, "tiny", name))
                parameter.copy_(drawn)
    network = prepared(network.to(device))
    return LanguageModel(network, tokenizer, (architecture.eos,), architecture.pad)


def prepared(network: nn.Module) -> nn.Module:
    """The network without dropout, with every embedding row trained, and in float64 throughout where it is
    float64.

    Raises ValueError where the logits are not a linear head on the last hidden state.
    """
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.Embedding):
            # torch drops the gradient of this row, also where the pad token is an ordinary or the EOS token.
            module.padding_idx = None
    if next(network.parameters()).dtype == torch.float64:
        for name, found in list(network.named_modules()):
            norm: Any = found
            if type(norm).__name__.endswith("RMSNorm"):
                parent, _, own = name.rpartition(".")
                double = DoubleRMSNorm(norm.weight, norm.variance_epsilon)
                setattr(network.get_submodule(parent), own, double)
    network.train()
    check_head(network)
    return network


def parts_of(network: Any) -> tuple[nn.Module, nn.Module]:
    """The transformer, which gives hidden states, and the linear head, which gives their logits."""
    return network.base_model, network.get_output_embeddings()


def check_head(network: nn.Module) -> None:
    """Raise ValueError unless logits = head(last hidden state), which is how they are computed in chunks."""
    ids = torch.arange(2, device=next(network.parameters()).device)[None]
    body, head = parts_of(network)
    with torch.no_grad():
        own = network(input_ids=ids, use_cache=False).logits
        linear = head(body(input_ids=ids, use_cache=False).last_hidden_state)
    gap = (own - linear).abs().max().item()
    if not gap <= 1e-2 * max(1.0, linear.abs().max().item()):
        raise ValueError(
            f"{type(network).__name__} does something to its logits after the linear head (they differ by "
            f"{gap:.3g}), which chunked log-probabilities would leave out: use an architecture such as "
            f"Qwen2, Qwen3 or Llama, whose logits are the head's output"
        )


def parameter_count(network: nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def forward_flops(network: nn.Module, prompt_lengths: Sequence[int], lengths: Sequence[int]) -> float:
    """2 (matrices) tokens + 2 (layers heads head_dim) sum of length^2 + 2 (d V) response tokens.

    Floating-point operations (a multiplication and its addition are two) of one forward pass over rows of
    `prompt_lengths` prompt and `lengths` response tokens: padding and recomputation do not count, attention
    counts its causal half (two products of length^2 / 2 each), the head counts where logits are needed. A
    gradient costs three times as much.
    """
    config: Any = network.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    body = sum(m.weight.numel() for m in parts_of(network)[0].modules() if isinstance(m, nn.Linear))
    rows = [p + r for p, r in zip(prompt_lengths, lengths, strict=True)]
    attention = config.num_hidden_layers * config.num_attention_heads * head_dim
    return float(
        2 * body * sum(rows)
        + 2 * attention * sum(n * n for n in rows)
        + 2 * config.hidden_size * config.vocab_size * sum(lengths)
    )
