"""Memory: what a run used at most, and what to lower where it was too little."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llm.config.config import Config
from llm.config.rules import value

GIB = 2**30

SIZES = {
    "rollout": ("sampling.max_rows", "sampling.max_response_tokens", "sampling.sampler"),
    "old log-probabilities": ("updates.micro_batch_rows", "updates.micro_batch_tokens"),
    "update": ("updates.micro_batch_rows", "updates.micro_batch_tokens", "model.gradient_checkpointing"),
    "evaluation": ("sampling.max_rows", "sampling.max_response_tokens"),
}
"""The fields that decide how much memory each stage takes."""


@contextmanager
def naming_sizes(stage: str, config: Config) -> Iterator[None]:
    """Turn an out-of-memory error of the GPU into a MemoryError that names the sizes to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        sizes = ", ".join(f"{name} = {value(config, name)}" for name in SIZES[stage])
        raise MemoryError(
            f"the GPU's memory did not suffice for the {stage} ({str(error).splitlines()[0]}): lower or "
            f"change {sizes}; the last checkpoint is kept"
        ) from error


def peak_memory(device: torch.device) -> float:
    """GiB at most so far: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
