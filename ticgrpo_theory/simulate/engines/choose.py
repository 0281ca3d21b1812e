"""Which engine moves the replicates: the fastest that can evaluate the estimator, or the one named."""

from dataclasses import dataclass

import torch

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.simulate.engines.engine import Engine
from ticgrpo_theory.simulate.engines.engine_compiled import Fused, obstacle
from ticgrpo_theory.simulate.engines.engine_tensors import Tensors
from ticgrpo_theory.simulate.engines.engine_torch_formula import Hybrid
from ticgrpo_theory.simulate.settings import Settings
from ticgrpo_theory.simulate.state import State

CHUNK = {"cpu": 512, "cuda": 65536}
"""Replicates worked on together: enough to fill the formula's tensors, few enough for cache or memory."""


@dataclass(frozen=True)
class Choice:
    """An engine by name, where it runs and in which precision."""

    name: str
    device: torch.device
    dtype: torch.dtype

    @property
    def chunk(self) -> int:
        return CHUNK[self.device.type]


def choose_engine(engine: str, device: str, dtype: torch.dtype, settings: Settings) -> Choice:
    """The engine to use; ValueError for unknown names, and where the named one cannot serve the request."""
    names = ("auto", "compiled", "hybrid", "tensors")
    if engine not in names:
        raise ValueError(f"engine = {engine!r}: choose one of {', '.join(names)}")
    kind = device.partition(":")[0]
    if kind not in CHUNK or (kind == "cuda" and not torch.cuda.is_available()):
        raise ValueError(
            f"device = {device!r} is not there (CUDA available: {torch.cuda.is_available()}): "
            f"choose 'cpu', or 'cuda' on a machine with a GPU that PyTorch was built for"
        )
    place = torch.device(device)
    if dtype not in (torch.float64, torch.float32):
        raise ValueError(f"dtype = {dtype!r}: choose torch.float64 or torch.float32")
    if settings.sampler is not None and engine not in ("auto", "tensors"):
        raise ValueError(
            f"engine = {engine!r} draws from theta_old alone, and there is a sampler: use engine='tensors' "
            f"or 'auto'"
        )
    on_tensors = place.type == "cuda" or dtype is not torch.float64 or settings.sampler is not None
    if on_tensors and engine not in ("auto", "tensors"):
        raise ValueError(
            f"engine = {engine!r} runs on the CPU in float64, not on {device!r} in {dtype}; "
            f"use engine='tensors' or 'auto'"
        )
    reason = obstacle(settings) if engine in ("auto", "compiled") and not on_tensors else ""
    if engine == "compiled" and reason:
        raise ValueError(
            f"the estimator {name_of(settings.estimator)} cannot be compiled: {reason}; use engine='hybrid'"
        )
    if engine == "auto":
        engine = "tensors" if on_tensors else "hybrid" if reason else "compiled"
    return Choice(engine, place, dtype)


def engine_of(choice: Choice, settings: Settings, state: State, first_replicate: int) -> Engine | Tensors:
    """The engine at the state."""
    if choice.name == "tensors":
        return Tensors(settings, state, first_replicate, choice.device, choice.dtype)
    return {"compiled": Fused, "hybrid": Hybrid}[choice.name](settings, state, first_replicate)
