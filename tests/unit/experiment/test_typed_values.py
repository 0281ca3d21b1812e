"""typed_values.py: values as YAML gives them, read as the type of a field, and what is refused."""

import typing
from pathlib import Path
from typing import Annotated, Literal

import pytest

from ticgrpo_theory.experiment.typed_values import is_tuple, read


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        ("1e-3", float, 0.001),
        ("inf", float, float("inf")),
        (True, bool, True),
        ("no", str, "no"),
        ("a/b", Path, Path("a/b")),
        (None, float | None, None),
        (3, float | None, 3.0),
        (3, typing.Union[int, str], 3),  # noqa: UP007
        ("b", Literal["a", "b"], "b"),
        (3, Annotated[int, "whole"], 3),
        ([1, "x"], tuple[int, str], (1, "x")),
        ([[1, 2], [3, 4]], tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
        ("xor", tuple[str, ...], ("xor",)),
    ],
)
def test_values_are_read_as_their_type(value, kind, expected):
    found = read(value, kind, "field")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (3, str, "quote it"),
        (1, bool, r"field = 1 \(int\) is not bool"),
        (0.5, int | None, r"field = 0.5 \(float\) is none of int, NoneType"),
        ("c", Literal["a", "b"], "field = 'c': choose from 'a', 'b'"),
        ([1], tuple[int, int], r"field = \[1\] has 1 values; it takes 2"),
        (True, Literal[0, 1], "field = True: choose from 0, 1"),
        ({}, dict[str, int], r"only bool, int, float, str, Path, Literal, tuples and unions"),
    ],
)
def test_values_of_another_type_are_refused(value, kind, message):
    with pytest.raises(ValueError, match=message):
        read(value, kind, "field")


def test_a_tuple_is_known_behind_an_annotation():
    assert is_tuple(Annotated[tuple[int, ...], "many"]) and not is_tuple(int)
