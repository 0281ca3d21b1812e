"""Values as they are written in YAML, read as the type of a field of a Config."""

import math
import types
import typing
from pathlib import Path
from typing import Any

from ticgrpo_theory.inputs.numbers import shown


def read(value: Any, kind: Any, field: str) -> Any:
    """The value as the type says; ValueError where it is of another one. Nothing is rounded or truncated.

    A single value is a tuple of one: `etas: 0.1` is (0.1,). Text that spells a number is one where a float is
    expected, because YAML takes 1e-3 and inf for text.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return read(value, arguments[0], field)
    if origin is typing.Literal:
        if not any(value == known and type(value) is type(known) for known in arguments):  # True == 1
            raise ValueError(f"{field} = {shown(value)}: choose from {', '.join(map(repr, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _first(value, arguments, field)
    if origin is tuple:
        return _tuple(value, arguments, field)
    if kind is float:
        return _float(value, field)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is types.NoneType and value is None:
        return None
    if kind in (bool, int, str) and type(value) is kind:
        return value
    way_out = ""
    if kind is str:
        way_out = f"; quote it, as in '\"{shown(value)}\"', if it is meant as text"
    elif kind not in (bool, int, Path, types.NoneType):
        way_out = "; only bool, int, float, str, Path, Literal, tuples and unions of them can be given"
    raise ValueError(f"{field} = {shown(value)} ({type(value).__name__}) is not {_name(kind)}{way_out}")


def is_tuple(kind: Any) -> bool:
    """Whether several values make one value of this type."""
    if typing.get_origin(kind) is typing.Annotated:
        return is_tuple(typing.get_args(kind)[0])
    return typing.get_origin(kind) is tuple


def _float(value: Any, field: str) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{field} = {shown(value)} is not a number") from None
    if type(value) not in (int, float):
        raise ValueError(f"{field} = {shown(value)} ({type(value).__name__}) is not a number")
    if math.isnan(value):
        raise ValueError(f"{field} = nan is not a value that could be found again in a table; leave it out")
    return float(value)


def _tuple(value: Any, arguments: tuple[Any, ...], field: str) -> tuple[Any, ...]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    kinds = list(arguments)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = [kinds[0]] * len(values)
    if len(values) != len(kinds):
        raise ValueError(f"{field} = {shown(value)} has {len(values)} values; it takes {len(kinds)}")
    return tuple(read(one, of, field) for one, of in zip(values, kinds, strict=True))


def _first(value: Any, kinds: tuple[Any, ...], field: str) -> Any:
    for kind in kinds:
        try:
            return read(value, kind, field)
        except ValueError:
            continue
    raise ValueError(
        f"{field} = {shown(value)} ({type(value).__name__}) is none of {', '.join(map(_name, kinds))}"
    )


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
