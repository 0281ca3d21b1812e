"""Claim: at theta = theta_old the trajectory ratio that a training log shows is not 1 but rounding.

    python experiments/ratio_noise.py                          # a small random Qwen3, on the CPU
    python experiments/ratio_noise.py --device cuda --model Qwen/Qwen3-1.7B-Base        # with its weights
    python experiments/ratio_noise.py --device cuda --hidden 2048 --layers 28 --heads 16 --kv-heads 8 \
        --head-dim 128 --intermediate 6144 --vocab-size 151936 --lengths 64 256 1024 2048    # its sizes

One network draws responses, and then says twice how likely they are; its weights never move, so log w' = 0 in
exact arithmetic. In floating point two evaluations differ where the same tokens are batched differently:

    same      the same rows together, twice
    alone     all rows together, and each row by itself
    wider     all rows together, and beside rows that are twice as long
    sampler   token by token through the cache as the sampler drew them, and in one forward pass

for weights and log-softmax in float32 ("fp32"), both in bfloat16 ("bf16"), and bfloat16 weights with a
log-softmax in float32 ("bf16, softmax fp32").

    sd, mean          of log w' = sum_t log w_t over the responses
    mean_error        standard error of the mean
    lognormal_mean    -sd^2 / 2, the mean of a normal log w' with E w' = 1
    per_token         sd / sqrt(length)
    worst             largest |w' - 1|

Where the tokens were drawn by one of the two policies, E w' = 1 and log w' leans to -sd^2 / 2: so it does
after a drift, and between sampler and trainer. Between two evaluations by the trainer neither of which drew
the tokens, it leans nowhere. The mean of a logged log w' tells which of the two the log shows.

The head of a random network is scaled until its mean entropy is `entropy`: with nearly uniform policies
logits are small, and so is their rounding. Writes results/ratio_noise.parquet, results/ratio_noise.json,
figures/ratio_noise.png.

Paper: arXiv:2508.02833 v2, Sec. 4 (w'), and the training logs published with it.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from llm.model import Architecture, LanguageModel, tiny
from llm.pretrained import load
from llm.sampling.local import Own
from llm.sampling.protocol import SampledResponses, SamplingDistribution
from llm.sampling.rollout import sample
from llm.sequences import Sequences
from llm.update.logprobs import Scoring, log_probabilities
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.plots import ratio_noise as plots_ratio_noise
from ticgrpo_theory.stats.rng import stream

PRECISIONS = {
    "fp32": (torch.float32, None),
    "bf16": (torch.bfloat16, torch.bfloat16),
    "bf16, softmax fp32": (torch.bfloat16, None),
}
"""Weights, and log-softmax (None: float32)."""

BATCHINGS = ("same", "alone", "wider", "sampler")


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    precisions: tuple[str, ...] = tuple(PRECISIONS)
    """"fp32", "bf16", "bf16, softmax fp32"."""
    batchings: tuple[str, ...] = BATCHINGS
    """"same", "alone", "wider", "sampler"."""
    lengths: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Tokens of a response: the first so many of the longest."""
    responses: int = 64
    """How many are drawn."""
    prompt_tokens: int = 8
    """Random tokens that they continue."""
    entropy: float = 0.5
    """Nats per token of the policy."""
    model: str | None = None
    """Hub name or folder of weights; without it, a random network of the sizes below."""
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    intermediate: int = 384
    vocab_size: int = 2048
    """Sizes of the random Qwen3."""
    seed: int = 0
    """Of weights, prompts and responses."""
    device: str = "cpu"
    """"cpu" or "cuda"."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "precisions", "batchings", "lengths")
    experiment.check_names(cfg, precisions=PRECISIONS, batchings=BATCHINGS)
    if min(cfg.lengths) < 1:
        raise ValueError(f"lengths = {cfg.lengths}: a response has at least 1 token")
    if cfg.responses < 2:
        raise ValueError(f"responses = {cfg.responses}: a standard deviation takes at least 2")
    if not 0 < cfg.entropy < math.log(cfg.vocab_size):
        raise ValueError(
            f"entropy = {cfg.entropy}: {cfg.vocab_size} tokens allow more than 0 and less than "
            f"{math.log(cfg.vocab_size):.2f} nats"
        )
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': PyTorch finds no GPU; give --device cpu")


def keys(cfg: Config) -> list[str]:
    return list(cfg.precisions)


def network(cfg: Config, dtype: torch.dtype) -> LanguageModel:
    """The policy; its responses never end, so that all have the length of the configuration."""
    if cfg.model is not None:
        return dataclasses.replace(load(cfg.model, dtype=dtype, device=cfg.device), eos=())
    random = tiny(
        Architecture(
            vocab_size=cfg.vocab_size,
            hidden=cfg.hidden,
            layers=cfg.layers,
            heads=cfg.heads,
            kv_heads=cfg.kv_heads,
            head_dim=cfg.head_dim,
            intermediate=cfg.intermediate,
            tied=False,
            eos=0,
            pad=0,
            max_positions=cfg.prompt_tokens + 2 * max(cfg.lengths),
        ),
        seed=cfg.seed,
        device=cfg.device,
    )
    sharpen(random, cfg)
    return dataclasses.replace(random, network=random.network.to(dtype), eos=())


def sharpen(model: LanguageModel, cfg: Config) -> None:
    """Multiplies the head until the mean entropy at random prefixes is cfg.entropy, by bisection."""
    ids = torch.tensor(prompts(cfg), device=cfg.device)
    head = model.network.get_output_embeddings()
    with torch.no_grad():
        logits = head(model.network.base_model(input_ids=ids).last_hidden_state).double()
        low, high = math.log(1e-3), math.log(1e6)
        for _ in range(60):
            middle = (low + high) / 2
            pi = (math.exp(middle) * logits).softmax(dim=-1)
            above = float(torch.special.entr(pi).sum(dim=-1).mean()) > cfg.entropy
            low, high = (middle, high) if above else (low, middle)
        head.weight.mul_(math.exp(low))


def prompts(cfg: Config) -> list[list[int]]:
    shape = (cfg.responses, cfg.prompt_tokens)
    return torch.randint(
        1, cfg.vocab_size, shape, generator=stream(cfg.seed, EXPERIMENT.name, "prompts")
    ).tolist()


def cell(cfg: Config, precision: str) -> list[dict[str, Any]]:
    dtype, softmax_dtype = PRECISIONS[precision]
    model, scoring = network(cfg, dtype), Scoring(softmax_dtype=softmax_dtype)
    drawn = sample(
        Own(model, max_rows=cfg.responses),
        prompts(cfg),
        1,
        SamplingDistribution(limit=2 * max(cfg.lengths)),
        generator=stream(cfg.seed, EXPERIMENT.name, "responses"),
    )
    return [
        row_of(precision, batching, length, log_ratio)
        for length in cfg.lengths
        for batching, log_ratio in log_ratios(cfg, model, scoring, drawn, length)
    ]


def log_ratios(
    cfg: Config, model: LanguageModel, scoring: Scoring, drawn: SampledResponses, length: int
) -> Iterator[tuple[str, Float[Tensor, " n"]]]:
    """log w' of the first `length` tokens of each response, for every batching."""
    cut = first_tokens(drawn.sequences, length)
    every = torch.arange(cfg.responses, device=cut.response.device)

    def token_logps(sequences: Sequences, parts: list[Tensor]) -> Tensor:
        return log_probabilities(model.network, sequences, parts, scoring).logp[: cfg.responses, :length]

    together = token_logps(cut, [every]).double()
    for batching in cfg.batchings:
        if batching == "same":
            again = token_logps(cut, [every])
        elif batching == "alone":
            again = token_logps(cut, [row[None] for row in every])
        elif batching == "wider":
            longer = first_tokens(drawn.sequences, 2 * length)
            both = beside(cut, longer)
            again = token_logps(both, [torch.arange(len(both), device=every.device)])
        else:
            again = drawn.logp[:, :length]  # there, since nothing is drawn greedily
        yield batching, (together - again.double()).sum(dim=-1)


def first_tokens(sequences: Sequences, length: int) -> Sequences:
    return dataclasses.replace(
        sequences, response=sequences.response[:, :length], mask=sequences.mask[:, :length]
    )


def beside(rows: Sequences, longer: Sequences) -> Sequences:
    """`rows` and then `longer` as one batch."""
    more = longer.response.shape[1] - rows.response.shape[1]
    padded = torch.nn.functional.pad
    return Sequences(
        torch.cat([rows.prompt, longer.prompt]),
        torch.cat([rows.prompt_mask, longer.prompt_mask]),
        torch.cat([padded(rows.response, (0, more)), longer.response]),
        torch.cat([padded(rows.mask, (0, more)), longer.mask]),
    )


def row_of(precision: str, batching: str, length: int, log_ratio: Float[Tensor, " n"]) -> dict[str, Any]:
    sd = float(log_ratio.std())
    return {
        "precision": precision,
        "batching": batching,
        "length": length,
        "responses": len(log_ratio),
        "sd": sd,
        "mean": float(log_ratio.mean()),
        "mean_error": sd / math.sqrt(len(log_ratio)),
        "lognormal_mean": -(sd**2) / 2,
        "per_token": sd / math.sqrt(length),
        "worst": float(log_ratio.expm1().abs().max()),
    }


def growth(made: pd.DataFrame, precision: str, batching: str) -> tuple[float, float]:
    """(b, sd at the longest) of the least-squares line log sd = log a + b log length; b = 0 without noise."""
    part = made[(made.precision == precision) & (made.batching == batching)].sort_values("length")
    if len(part) < 2 or not (part.sd > 0).all():
        return 0.0, float(part.sd.max())
    exponent, _ = np.polyfit(np.log(part.length.to_numpy()), np.log(part.sd.to_numpy()), 1)
    return float(exponent), float(part.sd.iloc[-1])


def show(cfg: Config, made: pd.DataFrame, console: Console) -> None:
    """sd of log w' at the longest responses and its growth, precision down, batching across."""
    longest = max(cfg.lengths)
    table = Table("", *cfg.batchings, title=f"sd of log w' at {longest} tokens (exponent in the length)")
    for precision in cfg.precisions:
        found = [growth(made, precision, batching) for batching in cfg.batchings]
        table.add_row(precision, *(f"{sd:.2e} ({power:.2f})" if sd > 0 else "0" for power, sd in found))
    console.print(table)
    leans = Table("", "mean of log w'", "-sd^2 / 2", "largest |w' - 1|", title=f"at {longest} tokens")
    for row in made[(made.length == longest) & (made.sd > 1e-3)].itertuples():
        spread = f"{row.mean:+.4f} +- {row.mean_error:.4f}"
        leans.add_row(
            f"{row.precision}: {row.batching}", spread, f"{row.lognormal_mean:+.4f}", f"{row.worst:.2f}"
        )
    console.print(leans)


def draw(made: pd.DataFrame) -> Figure:
    return plots_ratio_noise.ratio_noise(made)


# One row for each (precision, batching, length).
EXPERIMENT = experiment.Experiment(
    name="ratio_noise",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="precisions",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
