"""What all experiments do alike: refuse, compute cell by cell, write the rows, read them back, show, draw.

An experiment is a script with NAME, RESULTS_VERSION, a frozen Config that extends `Folders`, a pure
rows(cfg), draw(frame), which makes its figure from its rows alone, and main(cfg), which ends in `run`.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.cells import Cells
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.plots import style


@dataclass(frozen=True)
class Folders:
    """Where an experiment writes; neither changes its rows."""

    results: Path = field(default=Path("results"), metadata=UNRECORDED, kw_only=True)
    """Folder of the table of results."""
    figures: Path = field(default=Path("figures"), metadata=UNRECORDED, kw_only=True)
    """Folder of the figure."""


C = TypeVar("C", bound=Folders)


def check_lists(cfg: Any, *options: str) -> None:
    """Raise ValueError where one of these tuples of a Config is empty or holds a value twice."""
    for option in options:
        given = getattr(cfg, option)
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{option} = {given}: give at least one, and none twice")


def check_writable(folder: Path, option: str) -> None:
    """Raise ValueError before the computation where its results could not be written at the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{option} = {folder} cannot be written ({error.strerror}): name another folder with --{option}"
        ) from error


def run(
    name: str,
    cfg: C,
    *,
    results_version: int,
    keys: Iterable[Any],
    cell: Callable[[Any], Sequence[Mapping[str, Any]]],
    show: Callable[[C, pd.DataFrame, Console], None],
    draw: Callable[[pd.DataFrame], Figure],
    what: str,
    may_be_missing: Sequence[str] = (),
) -> None:
    """Compute the missing cells, write <results>/<name>.parquet and .json, show, draw <figures>/<name>.png.

    `cell(key)` gives the rows of one key; `what` says what a key is. Killed and started again, a run computes
    only the cells that it lacks. Table and figure are made from the rows as they lie on the disk.
    """
    console = Console()
    check_writable(cfg.results, "results")
    check_writable(cfg.figures, "figures")
    torch.set_num_threads(1)  # the tables are too small for more, and sums keep one order
    identity = {"config": cfg, "results_version": results_version, "folder": cfg.results}
    work = Cells(name, keys, **identity, may_be_missing=may_be_missing)
    for key in track(work.missing, description=what, console=console):
        began = time.perf_counter()
        work.finish(key, cell(key), seconds=time.perf_counter() - began)
    written = work.write()
    made = results_file.read(name, **identity)
    show(cfg, made, console)
    picture = cfg.figures / f"{name}.png"
    style.save(draw(made), picture)
    console.print(f"{len(made):,} rows in {written}, drawn in {picture}")


def command(main: Callable[[C], None], config: type[C], about: str | None) -> None:
    """Run `main` with a `config` read from the command line; bad input ends in one line, no traceback."""
    try:
        main(tyro.cli(config, description=about))
    except ValueError as error:
        sys.exit(f"error: {error}")
