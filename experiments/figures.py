"""Draw the figure of every result again, from results/ alone: nothing is computed.

    python experiments/figures.py

A result is redrawn as figures/<script>.png if a script here has a draw(frame) and that result's NAME; one
that this version of the experiment would not have made is refused.
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
from ticgrpo_theory.plots import style

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config(Folders):
    """Every figure whose rows are there."""


NAMED = re.compile(r'^NAME = "(\w+)"$', re.MULTILINE)


def drawable(results: Path) -> list[str]:
    """Scripts that can draw, and whose result is there."""
    there = {path.stem for path in results.glob("*.parquet")}
    scripts = [path for path in sorted(HERE.glob("*.py")) if "\ndef draw(" in path.read_text()]
    return [path.stem for path in scripts if there.intersection(NAMED.findall(path.read_text()))]


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
        made = load(name)
        command = f"python experiments/{name}.py"
        frame = results_file.read(
            made.NAME, results_version=made.RESULTS_VERSION, folder=cfg.results, command=command
        )
        picture = cfg.figures / f"{name}.png"
        style.save(made.draw(frame), picture)
        Console().print(f"{picture} from {len(frame):,} rows")


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
