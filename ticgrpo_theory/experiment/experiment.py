"""What all experiments do alike: refuse, compute cell by cell, write the rows, read them back, show, draw.

An experiment is a script with a frozen Config that extends `Folders`, and

    EXPERIMENT = Experiment(name=..., version=1, config=Config, ...)
    rows, main = EXPERIMENT.rows, EXPERIMENT.main

    if __name__ == "__main__":
        EXPERIMENT.command(__doc__)

The Makefile and `experiments/figures.py` find scripts, and what they say of themselves, by these words.
"""

import difflib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.atomic import check_writable, replace_files
from ticgrpo_theory.experiment.cells import Cells, one_by_one, run_cells
from ticgrpo_theory.experiment.own_files import files_named, files_of, together
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.experiment.terminal import Terminal, by_interrupt, interrupts_heard, write_plainly
from ticgrpo_theory.inputs.tracebacks import brief
from ticgrpo_theory.plots import style


@dataclass(frozen=True)
class Folders:
    """Where an experiment writes; neither changes its rows."""

    results: Path = field(default=Path("results"), metadata=UNRECORDED, kw_only=True)
    """Folder of the table of results."""
    figures: Path = field(default=Path("figures"), metadata=UNRECORDED, kw_only=True)
    """Folder of the figure."""


C = TypeVar("C", bound=Folders)

INTERRUPTED = 130
"""As a shell counts a process that ended by Ctrl-C."""


def check_lists(cfg: Any, *options: str) -> None:
    """Raise ValueError where one of these tuples of a Config is empty or holds a value twice."""
    for option in options:
        given = getattr(cfg, option)
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{option} = {given}: give at least one, and none twice")


def check_names(cfg: Any, **known: Collection[str]) -> None:
    """Raise ValueError where one of these tuples of a Config holds a name that is not known."""
    for option, names in known.items():
        for name in getattr(cfg, option):
            if name not in names and option == "estimators" and (":" in name or name.endswith(".py")):
                raise ValueError(
                    f"estimators: {name}, and this experiment is about its own ({', '.join(names)}); what is "
                    f"in a file of yours is taken by bias_vs_K.py, reuse_bias.py and tic_vs_grpo.py of "
                    f"experiments/, and by ticgrpo bias, gradient, moments and simulate"
                )
            if name not in names:
                near, *_ = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
                raise ValueError(
                    f"unknown entry {name!r} of {option}; the nearest is {near!r} "
                    f"({option}: {', '.join(names)})"
                )


def save(figure: Figure, path: Path) -> None:
    """Write the picture; the old one stays where the new one cannot be written, which is an OSError."""
    replace_files({path: style.picture(figure)})


@dataclass(frozen=True, kw_only=True)
class Result:
    """A table of results that a script makes and can draw again."""

    name: str
    """Of the files <results>/<name>.parquet and .json."""
    version: int
    """Raised when the rows change, so that old and new ones are never mixed."""
    draw: Callable[[pd.DataFrame], Figure]
    """The figure, from the rows alone."""
    slow: bool = False
    """Whether it takes longer than a minute: `make results` leaves it out."""
    needs_data: bool = False
    """Whether it reads files that do not come with the project."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Result, Generic[C]):
    """A table that is computed from a configuration cell by cell, and how it is shown."""

    config: type[C]
    check: Callable[[C], None]
    """Raises ValueError for a configuration that cannot be run: value, limit, way out."""
    keys: Callable[[C], Sequence[Any]]
    """The cells, each the argument of `cell` after the configuration, or a tuple of its arguments."""
    cell: Callable[..., Sequence[Mapping[str, Any]]]
    """The rows of one cell, a pure function: cell(cfg, *key)."""
    show: Callable[[C, pd.DataFrame, Console], None]
    """Prints what the rows say."""
    what: str
    """What the cells are, beside the progress bar."""
    may_be_missing: tuple[str, ...] = ()
    """Columns that may be empty."""

    def rows(self, cfg: C) -> list[Mapping[str, Any]]:
        """All rows, computed at once: nothing is written."""
        self.check(cfg)
        return [row for key in self.keys(cfg) for row in self._of(cfg, key)]

    def main(self, cfg: C) -> None:
        """Compute the missing cells, write <results>/<name>.*, show, draw <figures>/<name>.png.

        Killed and started again, a run computes only the cells that it lacks. Table and figure are made from
        the rows as they lie on the disk.
        """
        self.check(cfg)
        console = Terminal()
        check_writable(cfg.results, "results")
        check_writable(cfg.figures, "figures")
        torch.set_num_threads(1)  # the tables are too small for more, and sums keep one order
        identity = {"config": cfg, "results_version": self.version, "folder": cfg.results}
        picture = cfg.figures / f"{self.name}.png"
        if picture.is_dir():
            raise ValueError(f"{picture} is a folder, in the place of the figure; move it, or name --figures")
        work = Cells(
            self.name,
            self.keys(cfg),
            **identity,
            may_be_missing=self.may_be_missing,
            sources=together(self.sources, files_named(results_file.plain_config(cfg))),
        )
        missing = work.missing
        computed = run_cells(work, one_by_one(missing, partial(self._of, cfg)))
        try:
            for _ in track(computed, description=self.what, total=len(missing), console=console):
                pass
        except BaseException as error:
            if not by_interrupt(error):
                raise
            raise KeyboardInterrupt(work.kept) from None
        written = work.write()
        made = results_file.read(self.name, **identity)
        self.show(cfg, made, console)
        save(self.draw(made), picture)
        console.print(f"{len(made):,} rows in {written}, drawn in {picture}")

    @property
    def sources(self) -> dict[str, str]:
        """The script and the files of its own that it imports; empty where it is in no file."""
        script = getattr(sys.modules[self.config.__module__], "__file__", None)
        return {} if script is None else files_of(Path(script))

    def command(self, about: str | None) -> None:
        """`main` with a configuration from the command line; see `command`."""
        command(self.main, self.config, about)

    def _of(self, cfg: C, key: Any) -> Sequence[Mapping[str, Any]]:
        return self.cell(cfg, *key) if isinstance(key, tuple) else self.cell(cfg, key)


def command(main: Callable[[C], None], config: type[C], about: str | None) -> None:
    """Run `main` with a `config` read from the command line.

    Bad input, a disk that is full and Ctrl-C end in one line, no traceback.
    """
    write_plainly()
    with interrupts_heard():
        try:
            main(tyro.cli(config, description=about))
        except BaseException as error:
            if by_interrupt(error):
                kept = str(error) if isinstance(error, KeyboardInterrupt) else ""
                print(f"interrupted: {kept or 'the same command goes on with what is kept'}", file=sys.stderr)
                sys.exit(INTERRUPTED)
            if not isinstance(error, ValueError | OSError):
                raise
            sys.exit(f"error: {brief(str(error))}")
