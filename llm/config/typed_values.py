"""Frozen dataclasses from YAML and from the command line: names are checked here, values where all are read.

YAML values go through `build`; overrides go through tyro, which also prints `--help` from the docstrings.
Both end in a ValueError of one line.
"""

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ticgrpo_theory.experiment.typed_values import read
from ticgrpo_theory.experiment.yaml_fields import line_of

T = TypeVar("T")


def build(cls: type[T], written: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """`cls` with the fields of `written`, nested sections included; the defaults for what is not there."""
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    given = {}
    for name, value in written.items():
        place = line_of(written, name, where)
        if name not in names:
            raise ValueError(f"{place}: unknown field {prefix}{name}; {nearest(str(name), names, prefix)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ValueError(f"{place}: {prefix}{name} is a section of fields, not {value!r}")
            given[name] = build(hint, value, where, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            given[name] = read(value, hint, f"{place}: {prefix}{name}")
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def override(default: T, arguments: Sequence[str]) -> T:
    """`default` with `--section.field value` from `arguments`."""
    if not arguments:
        return default
    try:
        import tyro
    except ImportError as error:
        raise ValueError(
            f"{arguments[0]} on the command line takes tyro, which is not installed: "
            f"pip install 'ticgrpo-theory[llm]', or write the field into the YAML file"
        ) from error
    known = dotted(type(default))
    for argument in arguments:
        name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
        if argument.startswith("--") and name not in known and name != "help":
            raise ValueError(f"unknown field --{name}; {nearest(name, known, '--')}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(default),
                default=default,
                args=list(arguments),
                description="Every field, with its value where nothing is given.",
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):  # --help
            raise
        raise ValueError(one_line(said.getvalue())) from None


def one_line(box: str) -> str:
    """The sentence in the box that tyro prints: no frame, no advice below the rule, no wrapped lines."""
    inside = [line.strip("│ \t") for line in box.splitlines() if line.startswith("│")]
    rule = next((i for i, line in enumerate(inside) if line and not line.strip("─")), len(inside))
    sentence = " ".join(line for line in inside[:rule] if line) or " ".join(box.split())
    return re.sub(r"^Error parsing \w+: ", "", sentence)


def dotted(cls: Any, prefix: str = "") -> list[str]:
    """Names of all fields, those of sections as `section.field`."""
    hints, names = typing.get_type_hints(cls), []
    for f in dataclasses.fields(cls):
        inner = hints[f.name]
        names += dotted(inner, f"{prefix}{f.name}.") if dataclasses.is_dataclass(inner) else [prefix + f.name]
    return names


def nearest(name: str, names: Sequence[str], prefix: str = "") -> str:
    """`did you mean ...`, else all the names."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    near = near or [full for full in names if full.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(prefix + n for n in names)}"


def plain(value: Any) -> Any:
    """A dataclass as mappings, lists, numbers and strings."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
