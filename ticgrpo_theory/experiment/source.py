"""Where the rows(cfg) of a sweep comes from: a script, a path or a module, and the name of the function.

Every worker imports this file before its first cell: no more than the standard library.
"""

import dataclasses
import difflib
import functools
import importlib.util
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticgrpo_theory.experiment.imports import module_at, search
from ticgrpo_theory.experiment.own_files import files_of
from ticgrpo_theory.inputs.tracebacks import said


@dataclass(frozen=True)
class Source:
    """What a worker needs to load an experiment in another process."""

    place: str
    """Absolute path of a file, or dotted name of a module."""
    function: str
    """Name of the function in it."""
    search: str
    """Folder from which a module is imported, as from the one where Python was started."""


@dataclass(frozen=True)
class Loaded:
    """rows(cfg), and what its module says about the rows."""

    source: Source
    label: str
    """Name in results: the same wherever the file lies."""
    rows: Callable[[Any], Any]
    config: type
    """The dataclass by which the parameter of rows is annotated."""
    results_version: int
    may_be_missing: tuple[str, ...]
    check: Callable[[Any], None] | None
    """Refuses a configuration before anything is computed, where the module has such a function."""


def find(reference: str, folder: Path | None = None) -> Source:
    """The source that `bias_vs_K`, `path/to/mine.py`, `package.module`, or one with `:function`, names.

    A bare name is a script of experiments/, below `folder` or beside this package, else a module.
    """
    folder = (folder or Path.cwd()).resolve()
    where, _, function = reference.partition(":")
    if where.endswith(".py"):
        path = folder / where
        if not path.is_file():
            raise ValueError(f"{path} does not exist; give the path of a Python file with a rows(cfg)")
        return Source(str(path), function or "rows", str(folder))
    shelves = [folder / "experiments", Path(__file__).parents[2] / "experiments"]
    for shelf in shelves:
        if where.isidentifier() and (shelf / f"{where}.py").is_file():
            return Source(str(shelf / f"{where}.py"), function or "rows", str(folder))
    search(str(folder))
    if not _is_module(where):
        scripts = sorted({path.stem for shelf in shelves for path in shelf.glob("*.py")})
        near = difflib.get_close_matches(where, scripts, n=3, cutoff=0.4) or scripts
        raise ValueError(
            f"unknown experiment {where!r}; nearest names: {', '.join(near) or 'none'}; "
            f"give a script of experiments/, the path of a .py file, or a module that can be imported"
        )
    return Source(where, function or "rows", str(folder))


@functools.cache
def load(source: Source) -> Loaded:
    """Import the module and look its function up; once in each process."""
    try:
        module = module_at(source.place, source.search)
    # A module of a user's own can fail to load in any way, and may even leave with exit().
    except (Exception, SystemExit) as error:
        raise ValueError(f"{source.place} cannot be imported ({said(error)}); mend it there") from error
    rows = getattr(module, source.function, None)
    if not callable(rows):
        raise ValueError(f"{source.place} has no function {source.function!r}; name it as in mine.py:rows")
    name = Path(source.place).stem if source.place.endswith(".py") else source.place
    label = name if source.function == "rows" else f"{name}:{source.function}"
    declared: Any = getattr(rows, "__self__", None)
    if declared is not None and declared is getattr(module, "EXPERIMENT", None):
        stated = (declared.config, declared.version, declared.may_be_missing, declared.check)
        return Loaded(source, label, rows, *stated)
    config = _parameter(source, rows)
    version = getattr(module, "RESULTS_VERSION", None)
    if type(version) is not int:
        raise ValueError(
            f"{source.place} has no whole number RESULTS_VERSION, but {version!r}; set it to 1, and raise it "
            f"when the rows change, so that old and new ones are never mixed"
        )
    missing = tuple(getattr(module, "MAY_BE_MISSING", ()))
    check = getattr(module, "check", None) if source.function == "rows" else None
    return Loaded(source, label, rows, config, version, missing, check)


def files(source: Source) -> dict[str, str]:
    """The file of the experiment and those of the user's own that it imports, each by its SHA-256."""
    place, folder = source.place, Path(source.search)
    if not place.endswith(".py"):
        spec = importlib.util.find_spec(place)
        place = str(spec.origin) if spec is not None and spec.has_location else ""
    return files_of(Path(place), folder) if place else {}


def _parameter(source: Source, rows: Callable[..., Any]) -> type:
    """The dataclass by which the one parameter of the function is annotated."""
    annotated = [kind for name, kind in typing.get_type_hints(rows).items() if name != "return"]
    config = annotated[0] if annotated else None
    if len(inspect.signature(rows).parameters) == 1 and (
        isinstance(config, type) and dataclasses.is_dataclass(config)
    ):
        return config
    raise ValueError(
        f"{source.place}: {source.function}{inspect.signature(rows)} does not take one dataclass; "
        f"write it as `def {source.function}(cfg: Config)`"
    )


def _is_module(name: str) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
