"""Draw the figure of every result again, from results/ alone: nothing is computed.

    python experiments/figures.py

A result is redrawn if experiments/<name>.py has a draw(frame); one that this version of the experiment would
not have made is refused.
"""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rich.console import Console

from ticgrpo_theory import experiment, plots, record
from ticgrpo_theory.experiment import Folders

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config(Folders):
    """Every figure whose rows are there."""


def drawable(results: Path) -> list[str]:
    """Names of the results whose experiment can draw them."""
    scripts = [HERE / f"{path.stem}.py" for path in sorted(results.glob("*.parquet"))]
    return [path.stem for path in scripts if path.is_file() and "\ndef draw(" in path.read_text()]


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
        frame = record.read(name, results_version=made.RESULTS_VERSION, folder=cfg.results)
        picture = cfg.figures / f"{name}.png"
        plots.save(made.draw(frame), picture)
        Console().print(f"{picture} from {len(frame):,} rows")


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
