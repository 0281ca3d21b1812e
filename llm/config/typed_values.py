"""Frozen dataclasses from YAML and from the command line: names and types are checked, nothing is guessed.

YAML values go through `build`; overrides go through tyro, which also prints `--help` from the docstrings.
Both end in a ValueError of one line.
"""

import contextlib
import dataclasses
import difflib
import io
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def build(cls: type[T], written: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """`cls` with the fields of `written`, nested sections included; the defaults for what is not there."""
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    given = {}
    for name, value in written.items():
        if name not in names:
            raise ValueError(f"{where}: unknown field {prefix}{name}; {nearest(str(name), names, prefix)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}: {prefix}{name} is a section of fields, not {value!r}")
            given[name] = build(hint, value, where, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            try:
                given[name] = typed(hint, value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{where}: {prefix}{name} is {value!r} where {described(hint)} belongs"
                ) from error
    try:
        return cls(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def typed(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`; TypeError or ValueError where it is another.

    YAML 1.1 reads 1e-6 as a string, so strings are tried as floats; a bool is never taken for a number.
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return typed(hint, value)
    if origin is Literal:
        if value not in options or isinstance(value, bool):
            raise ValueError(value)
        return value
    if origin is tuple:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise TypeError(value)
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
        if len(kinds) != len(value):
            raise ValueError(value)
        return tuple(typed(kind, entry) for kind, entry in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        number = float(value)
        if math.isnan(number):
            raise ValueError(value)
        return number
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(value)
    return value


def described(hint: Any) -> str:
    """The type as a sentence has it: `a number or nothing`."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return " or ".join(str(option) for option in options)
    if typing.get_origin(hint) is tuple:
        return "a list of " + described(options[0])
    if options:
        return " or ".join(described(option) for option in options)
    return {
        float: "a number",
        int: "a whole number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
        type(None): "nothing (null)",
    }[hint]


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
