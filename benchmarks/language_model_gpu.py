"""What a GPU reaches with a network of the sizes of Qwen3-1.7B and random weights: no data, no download.

    python benchmarks/language_model_gpu.py --out llm_gpu.json          # one GPU with 80 GB
    python benchmarks/language_model_gpu.py --device cpu --hidden 64 --layers 2 --vocab-size 512 \\
        --prompts 2 --group-size 4 --prompt-tokens 8 --tokens 32 --micro-batch-rows 4    # without one

Weights in float32, matrix products in bfloat16, gradient checkpointing as configured for the published runs,
or off with --keep-activations. For one rollout of P x G responses that all have the full length:

    tokens per second of every sampler that is installed; the others are named with the reason
    seconds and share of rollout, old log-probabilities and one update over all rows
    model FLOP utilisation of the update: 3 forward passes / (seconds x peak), recomputation not counted
    peak memory

Needs torch, transformers and rich; says what it skips.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from rich.console import Console

from llm.model import Architecture, LanguageModel, parameter_count, tiny
from llm.sampling import rollout
from llm.sampling.protocol import SampledResponses, Sampler, SamplingDistribution
from llm.update.groups import Groups
from llm.update.logprobs import Scoring
from llm.update.metrics import peak_flops, speed_metrics
from llm.update.microbatches import consecutive_rows
from llm.update.step import Recipe, score, update
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.stats.rng import stream

LOGITS = 2**29
"""Logits held at once, as in training."""

T = TypeVar("T")


def timed(device: torch.device, work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    made = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, made


def network(given: argparse.Namespace) -> LanguageModel:
    """The architecture; its responses never end, so that all have the length that is timed."""
    model = tiny(
        Architecture(
            vocab_size=given.vocab_size,
            hidden=given.hidden,
            layers=given.layers,
            heads=given.heads,
            kv_heads=given.kv_heads,
            head_dim=given.head_dim,
            intermediate=given.intermediate,
            eos=0,
            pad=0,
            max_positions=given.prompt_tokens + given.tokens,
        ),
        device=given.device,
    )
    if not given.keep_activations:
        model.network.gradient_checkpointing_enable({"use_reentrant": False})
    model.network.train()
    return dataclasses.replace(model, eos=())


def sampled(
    model: LanguageModel, given: argparse.Namespace, say: Callable[[str], None]
) -> tuple[SampledResponses, dict]:
    """Responses of the fastest sampler, and tokens per second of each."""
    shape = (given.prompts, given.prompt_tokens)
    prompts = torch.randint(1, given.vocab_size, shape, generator=stream(0, "gpu", "prompts")).tolist()
    distribution, rows = SamplingDistribution(given.tokens), given.prompts * given.group_size
    speeds: dict[str, Any] = {}
    best, drawn = 0.0, None

    def drawn_by(sampler: Sampler) -> SampledResponses:
        return rollout.sample(sampler, prompts, given.group_size, distribution, generator=stream(0, "gpu"))

    for name in given.samplers:
        try:
            sampler, _ = rollout.choose(name, model, max_rows=rows, autocast=torch.bfloat16)
            rollout.sample(sampler, prompts[:1], 2, SamplingDistribution(8), generator=stream(0, "warm"))
            seconds, made = timed(model.device, lambda s=sampler: drawn_by(s))
        except (ValueError, ImportError, torch.OutOfMemoryError) as reason:
            speeds[name] = {"skipped": str(reason).splitlines()[0]}
            say(f"sampler {name} skipped: {speeds[name]['skipped']}")
            continue
        tokens = int(made.sequences.lengths.sum())
        speeds[name] = {"tokens_per_second": tokens / seconds, "seconds": seconds}
        say(f"sampler {name}: {tokens / seconds:,.0f} tokens/s")
        if tokens / seconds > best:
            best, drawn = tokens / seconds, made
    if drawn is None:
        raise SystemExit(f"none of {', '.join(given.samplers)} could draw; see the reasons above")
    return drawn, speeds


SIZES = {"hidden": 2048, "layers": 28, "heads": 16, "kv_heads": 8, "head_dim": 128, "intermediate": 6144}
WORK = {"vocab_size": 151936, "prompts": 4, "group_size": 16, "prompt_tokens": 128, "tokens": 1920}
WORK |= {"micro_batch_rows": 8}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in {**SIZES, **WORK, "updates": 3}.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    parser.add_argument("--samplers", nargs="+", default=["own", "generate", "continuous", "vllm"])
    parser.add_argument("--estimator", default="tic_grpo", choices=sorted(ESTIMATORS))
    parser.add_argument("--keep-activations", action="store_true", help="no gradient checkpointing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peak-flops", type=float, help="of the device, where it is not known by name")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    return parser


def updated(
    model: LanguageModel, drawn: SampledResponses, given: argparse.Namespace
) -> tuple[Groups, float, float]:
    """The groups, seconds of their old log-probabilities, and of the fastest of the updates on them."""
    device, P, G = torch.device(given.device), given.prompts, given.group_size
    scoring = Scoring(autocast=torch.bfloat16, head_chunk=max(1, LOGITS // given.vocab_size))
    recipe = Recipe(ESTIMATORS[given.estimator], consecutive_rows(given.micro_batch_rows), scoring)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-6, fused=device.type == "cuda")
    every = [torch.arange(P, device=device)]
    score(model.network, drawn.sequences, G, every, recipe)  # warm
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds_old, scores = timed(device, lambda: score(model.network, drawn.sequences, G, every, recipe))
    # Rewards at random: every group has right and wrong responses, so that all rows are differentiated.
    reward = (torch.arange(P * G, device=device) % 2).reshape(P, G).double()
    groups = Groups(drawn.sequences, reward, scores.logp.reshape(P, G, -1), horizon=given.tokens)
    update(model.network, optimizer, groups, recipe)  # warm
    times = [
        timed(device, lambda: update(model.network, optimizer, groups, recipe))[0]
        for _ in range(given.updates)
    ]
    return groups, seconds_old, min(times)


def measured(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything that the head of this file lists."""
    device = torch.device(given.device)
    model = network(given)
    console.print(f"{parameter_count(model.network):,} parameters on {device}")
    drawn, speeds = sampled(model, given, console.print)
    groups, seconds_old, seconds_update = updated(model, drawn, given)
    peak = given.peak_flops or peak_flops(device)
    if peak is None:
        console.print("no utilisation: the peak of this device is not known, give --peak-flops")
    seconds = {
        "rollout": min(s["seconds"] for s in speeds.values() if "seconds" in s),
        "old_logp": seconds_old,
        "update": seconds_update,
    }
    return {
        "hardware": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sizes": {name: getattr(given, name) for name in (*SIZES, *WORK)},
        "gradient_checkpointing": not given.keep_activations,
        "samplers": speeds,
        "seconds": seconds,
        **speed_metrics(model.network, groups, seconds_update, peak),
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
        "share": {stage: s / sum(seconds.values()) for stage, s in seconds.items()},
    }


def main() -> None:
    parser = options()
    given = parser.parse_args()
    if torch.device(given.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that PyTorch can use; --device cpu with small sizes runs the same path")
    console = Console()
    found = measured(given, console)
    console.print_json(data=found)
    if given.out is not None:
        replace_files({given.out.resolve(): json.dumps(found, indent=1).encode()})


if __name__ == "__main__":
    main()
