"""The whole configuration of a training run: one frozen dataclass for each concern.

    python -m llm.config --config llm/configs/dapo.yaml --optimizer.lr 2e-6      # prints what a run would use

A YAML file has the same names; a command line overrides any of them as `--section.field value`. Unknown and
contradictory fields are refused here, before a model is loaded. The defaults are those of the published runs
(`llm/configs/`, where every value carries its source) and not of this machine.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm.config import rules, typed_values
from llm.config.sections import Sections
from ticgrpo_theory.experiment.yaml_fields import of_file


@dataclass(frozen=True)
class Config(Sections):
    """The whole configuration, checked as it is made."""

    def __post_init__(self) -> None:
        rules.check(self)

    @property
    def mini_batch(self) -> int:
        """Prompts of one optimiser step."""
        return rules.mini_batch(self)


def load(path: Path | str | None, overrides: Sequence[str] = ()) -> Config:
    """The YAML file, then `--section.field value` from the command line; the defaults where neither says.

    Raises ValueError for an unreadable file, for an unknown field (with the nearest name), for a value of
    another type, and for fields that contradict each other. `--help` in `overrides` prints every field.
    """
    written = {} if path is None else read(Path(path))
    return typed_values.override(typed_values.build(Config, written, str(path)), list(overrides))


def read(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file."""
    shipped = ", ".join(sorted(p.name for p in (Path(__file__).parents[1] / "configs").glob("*.yaml")))
    written = of_file(path, f"a YAML file of a configuration; llm/configs/ has {shipped or 'none'}")
    if not isinstance(written, dict):
        raise ValueError(f"{path} holds {type(written).__name__}, not a mapping of sections to fields")
    return written


def dump(config: Config) -> str:
    """The configuration as YAML that `load` takes back."""
    return yaml.safe_dump(typed_values.plain(config), sort_keys=False, allow_unicode=True)


def from_command_line(arguments: Sequence[str]) -> Config:
    """`load` with the file named by `--config FILE`; everything else overrides."""
    path, overrides, left = None, [], iter(arguments)
    for argument in left:
        name, equals, file = argument.partition("=")
        if name != "--config":
            overrides.append(argument)
        elif not (path := file if equals else next(left, "")):
            raise ValueError("--config lacks its file: for instance --config llm/configs/demo_cpu.yaml")
    return load(path, overrides)


def main() -> None:
    """Print the configuration that a run would use; bad input ends in one line, no traceback."""
    try:
        print(dump(from_command_line(sys.argv[1:])), end="")
    except ValueError as error:
        sys.exit(f"error: {error}")
