"""Every benchmark side by side with its baseline, as ratios; nothing here is a test.

    python benchmarks/run.py --json ratios.json                     # all of them, some minutes on two cores
    python benchmarks/run.py --only tree_vs_numpy tree_vs_floor

A benchmark is a function without arguments that returns one ratio, listed in BENCHMARKS of its module; the
first line of its docstring says what is divided by what. Both sides run in one process, warm.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import groups
import language_model
import moments
import passes
import simulator
import torch
import tyro
import updates
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.experiment.atomic import replace_files

MODULES = (passes, groups, updates, moments, simulator, language_model)
BENCHMARKS = {name: f for module in MODULES for name, f in module.BENCHMARKS.items()}


@dataclass(frozen=True)
class Config:
    json: Path | None = None
    """File that gets {name: ratio} of what has run."""
    only: tuple[str, ...] = ()
    """Names to run; all where none is given."""


def main(cfg: Config) -> None:
    unknown = [name for name in cfg.only if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"unknown benchmarks {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    table = Table("benchmark", "ratio", "what is divided by what", "seconds")
    ratios = {}
    for name in cfg.only or BENCHMARKS:
        start = time.perf_counter()
        ratios[name] = BENCHMARKS[name]()
        meaning = (BENCHMARKS[name].__doc__ or "").partition("\n")[0]
        table.add_row(name, f"{ratios[name]:.3g}", meaning, f"{time.perf_counter() - start:.0f}")
        if cfg.json is not None:
            replace_files({cfg.json.resolve(): json.dumps(ratios, indent=2).encode() + b"\n"})
    console = Console()
    console.print(table)
    console.print(f"float64; torch may use {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
