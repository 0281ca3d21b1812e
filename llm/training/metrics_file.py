"""What a run writes down: one JSON line for each update, and the same numbers for TensorBoard.

A process that is killed leaves a torn last line, and lines of rollouts that its checkpoint does not know;
`repair` removes both, so that a resumed run writes what an uninterrupted one would have written, but for the
TIMINGS.
"""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ticgrpo_theory.experiment.atomic import replace_files

Line = dict[str, Any]

TIMINGS = ("seconds", "share", "tokens_per_second", "mfu", "peak_memory")
"""Beginnings of the keys that differ from run to run."""


def read(path: Path) -> list[Line]:
    """The whole lines of the file; a torn last one is left out, any other that is no JSON is a ValueError."""
    if not path.exists():
        return []
    pieces = path.read_bytes().split(b"\n")
    lines = []
    for number, piece in enumerate(pieces[:-1], start=1):  # behind the last line break stands what was torn
        try:
            lines.append(json.loads(piece))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {path} is not JSON ({error}): it was not written by a run; move it away"
            ) from error
    return lines


def repair(path: Path, rollouts: int) -> list[Line]:
    """Keep the whole lines of the first `rollouts` rollouts, and return them."""
    kept = [line for line in read(path) if line["rollout"] < rollouts]
    if path.exists():
        replace_files({path: b"".join(map(encoded, kept))})
    return kept


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add the lines in one write, and see them to the disk."""
    with path.open("ab") as file:
        file.write(b"".join(map(encoded, lines)))
        file.flush()
        os.fsync(file.fileno())


def encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def without_timings(line: Mapping[str, Any]) -> Line:
    """The numbers that a run with the same configuration repeats."""
    return {key: value for key, value in line.items() if not key.startswith(TIMINGS)}


class Board:
    """TensorBoard, where it is installed; otherwise nothing is written and `why` says so."""

    def __init__(self, folder: Path, updates: int) -> None:
        self.writer: Any = None
        self.why = "TensorBoard is not installed: metrics go to metrics.jsonl alone"
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted run wrote behind its checkpoint is hidden.
            self.writer = SummaryWriter(str(folder), purge_step=updates)
            self.why = f"TensorBoard: tensorboard --logdir {folder}"

    def write(self, line: Mapping[str, Any]) -> None:
        if self.writer is not None:
            for key, value in line.items():
                if isinstance(value, int | float) and key not in ("update", "rollout"):
                    self.writer.add_scalar(key, value, line["update"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
