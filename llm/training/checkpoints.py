"""Checkpoints that are whole or not there: model, optimiser, random numbers, position in the data, counters.

    <output>/checkpoints/000010/      after 10 rollouts; a folder that `pretrained.load` and llm.evaluate take
        model.safetensors, config.json, tokenizer files
        training.pt                   optimiser and states of random number generators
        state.json                    rollouts, updates, position in the data, counters, configuration
        manifest.json                 size and SHA-256 of every other file

A checkpoint is written under another name, flushed to the disk and then renamed: killed at any moment, a run
leaves the checkpoints that it had. What a disk loses or turns afterwards is found by the manifest, said, and
the checkpoint before is taken.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import GenerationConfig

from llm.data.problems import Position

VERSION = 1
MANIFEST, STATE, TRAINING, WEIGHTS = "manifest.json", "state.json", "training.pt", "model.safetensors"

MAY_CHANGE = ("output", "outer_steps", "checkpoints", "evaluation")
"""Fields and sections that no weight depends on: a run may go on with others."""


@dataclass(frozen=True)
class State:
    """Where a run stands between two rollouts."""

    rollouts: int
    """Rollouts that are done."""
    updates: int
    """Updates that were made."""
    position: Position
    """The next prompt."""
    counters: dict[str, int]
    """What has been counted since the start, such as steps that were skipped."""


def save(
    folder: Path,
    state: State,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    tokenizer: Any | None,
    config: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write <folder>/<rollouts> and remove all but the newest `keep`; returns the new one.

    Raises OSError where the disk is full; the checkpoints that are there stay.
    """
    final = folder / f"{state.rollouts:06d}"
    part = final.with_suffix(".part")
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    part.mkdir()
    with tokens_only(network):
        network.save_pretrained(part, max_shard_size="100000GB")  # type: ignore[operator]
    if tokenizer is not None:
        tokenizer.save_pretrained(part)
    torch.save({"optimizer": optimizer.state_dict(), "random": random_states()}, part / TRAINING)
    written = {"version": VERSION, **asdict(state), "config": config}
    (part / STATE).write_text(json.dumps(written, indent=1))
    (part / MANIFEST).write_text(json.dumps(manifest(part), indent=1))
    for file in (path for path in part.rglob("*") if path.is_file()):
        flush(file)
    flush(part)
    if final.exists():  # damaged: otherwise the run would have begun behind it
        remove(final)
    os.replace(part, final)
    flush(folder)
    for old in found(folder)[keep:]:
        remove(old)
    return final


def clear(folder: Path) -> None:
    """Remove what a run left that was killed while it wrote or removed a checkpoint."""
    for left in folder.glob("*.part"):
        shutil.rmtree(left)


def remove(checkpoint: Path) -> None:
    """Renamed first, so that no folder without some of its files is ever taken for a checkpoint."""
    gone = checkpoint.with_suffix(".gone.part")
    os.replace(checkpoint, gone)
    shutil.rmtree(gone)


@contextmanager
def tokens_only(network: Any) -> Iterator[None]:
    """A generation config that says which tokens end and pad, and nothing else.

    transformers reads generation configs that contradict themselves, as some models have them, but refuses
    to write them.
    """
    models_own = network.generation_config
    named = {name: getattr(models_own, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    network.generation_config = GenerationConfig(**{f"{name}_token_id": n for name, n in named.items()})
    try:
        yield
    finally:
        network.generation_config = models_own


def flush(path: Path) -> None:
    """What was written to the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file but the manifest itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files
    }


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def found(folder: Path) -> list[Path]:
    """The checkpoints, newest first."""
    every = (path for path in folder.glob("*") if path.is_dir() and path.name.isdigit())
    return sorted(every, key=lambda path: int(path.name), reverse=True)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with its files; None where all are as they were written."""
    try:
        listed = json.loads((checkpoint / MANIFEST).read_text())
        for name, facts in listed.items():
            file = checkpoint / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != facts["bytes"]:
                return f"{name} has {file.stat().st_size:,} bytes of {facts['bytes']:,}"
            if sha256(file) != facts["sha256"]:
                return f"{name} is not what was written (SHA-256 differs)"
        absent = {STATE, TRAINING, WEIGHTS} - set(listed)
        return f"{', '.join(sorted(absent))} is missing" if absent else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"


def newest(folder: Path, say: Callable[[str], object]) -> Path | None:
    """The newest checkpoint that is whole, None where there is none at all; `say` hears of damaged ones.

    Raises ValueError where there are some and all are damaged.
    """
    candidates = found(folder)
    for number, checkpoint in enumerate(candidates):
        wrong = damage(checkpoint)
        if wrong is None:
            return checkpoint
        before = candidates[number + 1 : number + 2]
        say(
            f"checkpoint {checkpoint} is damaged: {wrong}; "
            + (f"trying the one before, {before[0].name}" if before else "there is none before it")
        )
    if candidates:
        raise ValueError(
            f"all {len(candidates)} checkpoints in {folder} are damaged: remove that folder to begin anew, "
            f"or name another with --output"
        )
    return None


def resume(
    checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer, config: Mapping[str, Any]
) -> State:
    """Put everything back as it was when the checkpoint was saved.

    Raises ValueError, with the fields, where the checkpoint was made under another configuration.
    """
    written = json.loads((checkpoint / STATE).read_text())
    if written["version"] != VERSION:
        raise ValueError(
            f"checkpoint {checkpoint} has version {written['version']}, this code reads {VERSION}: name "
            f"another folder with --output"
        )
    refuse_other(written["config"], config, checkpoint)
    load_weights(network, checkpoint / WEIGHTS)
    training = torch.load(checkpoint / TRAINING, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(training["optimizer"])
    set_random_states(training["random"])
    return State(
        written["rollouts"], written["updates"], Position(**written["position"]), dict(written["counters"])
    )


def refuse_other(made: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise ValueError for fields that differ, apart from MAY_CHANGE."""
    before, after = flat(made), flat(now)
    other = [
        f"{name} = {before.get(name)} (now {after.get(name)})"
        for name in sorted(before | after)
        if before.get(name) != after.get(name) and name.split(".")[0] not in MAY_CHANGE
    ]
    if other:
        raise ValueError(
            f"checkpoint {checkpoint} was made with {', '.join(other)}: give the same values to go on, or "
            f"name another folder with --output to begin anew"
        )


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of sections as `section.field`, as JSON has them."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy the tensors of the file into the network; one that is tied to another is saved once."""
    saved, own = load_file(path), network.state_dict()
    for name, tensor in saved.items():
        if name not in own or own[name].shape != tensor.shape or own[name].dtype != tensor.dtype:
            raise ValueError(
                f"{path} has {name} of shape {tuple(tensor.shape)} and {tensor.dtype}, which the model does "
                f"not have: it belongs to another model; name another folder with --output"
            )
    places = {own[name].data_ptr() for name in saved}
    absent = [name for name, tensor in own.items() if tensor.data_ptr() not in places]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}: it belongs to another model")
    with torch.no_grad():
        for name, tensor in saved.items():
            own[name].copy_(tensor)


def random_states() -> dict[str, Any]:
    """Of the global generators; rollouts and the order of the prompts have their own and do not read them."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
