"""The grid of a sweep: one Config for each combination of the values of its fields.

    experiment: bias_vs_K             # a script of experiments/, a path, a module; any of them with :function
    fixed: {worlds: [xor, bigram], K: 4}
    grid:
      etas: [0.1, 1.0]                # a list of values; for a field that is a tuple, 0.1 is (0.1,)
      group_size: [4, 8]

The path of an experiment is seen from the YAML file. On the command line `--grid etas=0.1,1.0` and
`--set K=4` say the same, in the same notation: each item between commas is YAML.
"""

import dataclasses
import itertools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.source import Loaded, find, load
from ticgrpo_theory.experiment.typed_values import is_tuple, read
from ticgrpo_theory.experiment.yaml_fields import of_file, refuse_unknown, spot

MAX_CELLS = 100_000
"""Cells of a grid: each is a file, and all lie in one folder."""

PARTS = ("experiment", "fixed", "grid")


@dataclass(frozen=True)
class Grid:
    """Checked: every field exists, every value is of its type, no two cells are the same."""

    experiment: Loaded
    fixed: Mapping[str, Any]
    """Fields that are the same in all cells; what is not named has its default."""
    values: Mapping[str, tuple[Any, ...]]
    """Fields that vary, each with its values."""

    def configs(self) -> list[dict[str, Any]]:
        """What Config is called with, for each cell; the last field varies fastest."""
        combinations = itertools.product(*self.values.values())
        return [{**self.fixed, **dict(zip(self.values, x, strict=True))} for x in combinations]

    def key(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The varying fields of a cell, as JSON holds them."""
        return results_file.plain_config({field: config[field] for field in self.values})

    def identity(self) -> dict[str, Any]:
        """Everything that its rows depend on, but for the code."""
        first = results_file.plain_config(self.experiment.config(**self.configs()[0]))
        return {
            "experiment": self.experiment.label,
            "grid": {field: list(values) for field, values in self.values.items()},
            "fixed": {field: value for field, value in first.items() if field not in self.values},
        }

    def columns(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`swept_<field>` for each varying field: the value where all are numbers or text, else as text.

        A tuple of one is its element. Without these columns rows of different cells could not be told apart.
        """
        columns = {}
        for field, values in self.values.items():
            single = all(isinstance(value, tuple) and len(value) == 1 for value in values)
            shown = [value[0] for value in values] if single else list(values)
            kinds = {type(value) for value in shown}
            plain = kinds in ({bool}, {int}, {float}, {str}, {int, float})
            value = config[field][0] if single else config[field]
            columns[f"swept_{field}"] = value if plain else _text(value)
        return columns


def from_yaml(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Experiment, fixed fields and grid of a file; the fields are not yet compared with those of Config."""
    found = of_file(path, "a YAML file of a sweep")
    if not isinstance(found, dict) or "experiment" not in found:
        raise ValueError(f"{path} names no experiment; begin with a line like `experiment: bias_vs_K`")
    refuse_unknown(found, PARTS, "part", str(path))
    reference = found["experiment"]
    if not isinstance(reference, str):
        raise ValueError(f"{path}: experiment = {reference!r} is not a name, a path or a module")
    where, _, _ = reference.partition(":")
    if where.endswith(".py"):
        reference = str(path.resolve().parent / reference)
    fixed, grid = found.get("fixed") or {}, found.get("grid") or {}
    for name, part in (("fixed", fixed), ("grid", grid)):
        if not isinstance(part, dict):
            raise ValueError(f"{path}: {name} = {part!r} is not a mapping; write `{name}: {{field: ...}}`")
    return reference, fixed, grid


def make(
    reference: str, fixed: Mapping[str, Any], grid: Mapping[str, Any], *, folder: Path | None = None
) -> Grid:
    """The grid of an experiment, or a ValueError that says which value is refused and what to write."""
    experiment = load(find(reference, folder))
    kinds = typing.get_type_hints(experiment.config, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(experiment.config) if field.init}
    recorded = [name for name, field in fields.items() if field.metadata.get("recorded", True)]
    for part in (fixed, grid):
        refuse_unknown(part, recorded, "field", experiment.label)
    if both := sorted(set(fixed) & set(grid)):
        raise ValueError(f"{both[0]} is both fixed and in the grid; keep one of them")
    if not grid:
        raise ValueError("the grid is empty; vary at least one field, as in --grid etas=0.1,0.2")
    values = {}
    for name, listed in grid.items():
        if not isinstance(listed, list) or not listed:
            raise ValueError(
                f"grid: {spot(grid, name)} = {listed!r} is not a list of values; write {name}: [...]"
            )
        values[name] = tuple(read(value, kinds[name], spot(grid, name)) for value in listed)
        if len(set(values[name])) < len(values[name]):
            twice = next(value for value in values[name] if values[name].count(value) > 1)
            raise ValueError(f"grid: {name} holds {twice!r} twice; no cell is computed twice, drop one")
    cells = math.prod(map(len, values.values()))
    if cells > MAX_CELLS:
        raise ValueError(f"the grid has {cells:,} cells, more than MAX_CELLS = {MAX_CELLS:,}; split it")
    same = {name: read(value, kinds[name], spot(fixed, name)) for name, value in fixed.items()}
    made = Grid(experiment, same, values)
    absent = dataclasses.MISSING
    for name, field in fields.items():
        if field.default is absent and field.default_factory is absent and name not in {**fixed, **grid}:
            raise ValueError(f"{experiment.label}: {name} has no default; give it with --set {name}=...")
    for config in made.configs():
        _check(made, config)
    return made


def fixed_values(experiment: Loaded, given: Mapping[str, list[Any]]) -> dict[str, Any]:
    """What --set gives: all values of a field that is a tuple, the only one of any other field."""
    kinds = typing.get_type_hints(experiment.config, include_extras=True)
    fixed = {}
    for name, values in given.items():
        several = name in kinds and is_tuple(kinds[name])
        if len(values) > 1 and not several:
            raise ValueError(
                f"--set {name}: takes one value, not {len(values)}; to vary it, use --grid {name}=..."
            )
        nested = len(values) == 1 and isinstance(values[0], list)
        fixed[name] = values if several and not nested else values[0]
    return fixed


def _check(grid: Grid, config: Mapping[str, Any]) -> None:
    try:
        cfg = grid.experiment.config(**config)
        if grid.experiment.check is not None:
            grid.experiment.check(cfg)
    except ValueError as error:
        raise ValueError(f"the cell {grid.key(config)} is refused: {error}") from error


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
