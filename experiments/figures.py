"""Draw the figure of every result again, from results/ alone: nothing is computed.

    python experiments/figures.py

A result is redrawn as figures/<script>.png if it is that of the EXPERIMENT of a script here; one that this
version of the experiment would not have made is refused.
"""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rich.console import Console

from ticgrpo_theory.experiment import experiment, results_file
from ticgrpo_theory.experiment.experiment import Folders

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config(Folders):
    """Every figure whose rows are there."""


DECLARED = re.compile(r'^EXPERIMENT = experiment\.\w+\(\s*name="(\w+)"', re.MULTILINE)
"""A script says what its result is called; it is read here because to import them all takes long."""


def drawable(results: Path) -> list[str]:
    """Scripts that can draw, and whose result is there."""
    there = {path.stem for path in results.glob("*.parquet")}
    named = {path.stem: DECLARED.findall(path.read_text()) for path in sorted(HERE.glob("*.py"))}
    return [script for script, names in named.items() if there.intersection(names)]


def load(name: str) -> ModuleType:
    """The experiment as a module, wherever Python was started."""
    spec = importlib.util.spec_from_file_location(f"experiments.{name}", HERE / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(cfg: Config) -> None:
    names = drawable(cfg.results)
    if not names:
        raise ValueError(f"{cfg.results} holds no result of an experiment; make them with `make results`")
    experiment.check_writable(cfg.figures, "figures")
    for name in names:
        made = load(name).EXPERIMENT
        command = f"python experiments/{name}.py"
        frame = results_file.read(
            made.name, results_version=made.version, folder=cfg.results, command=command
        )
        picture = cfg.figures / f"{name}.png"
        experiment.save(made.draw(frame), picture)
        Console().print(f"{picture} from {len(frame):,} rows")


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
