"""YAML as people write it: two entries with one name are refused, and so are names that mean nothing."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"
"""Tag of the name `<<`."""

MOST = 1_000_000
"""Values of a file once its aliases are written out: ten lines can stand for thousands of millions."""

MOST_MERGED = 10_000
"""Entries that a mapping takes over from others by `<<`."""


class Fields(dict[Any, Any]):
    """A mapping of a file, with the file and the line of each name."""

    lines: dict[Any, int]
    origin: str


class GivenTwice(yaml.constructor.ConstructorError):
    """Two entries of a mapping have one name."""


class TooMany(Exception):
    """More than this."""


class Contained(Exception):
    """A list or mapping that holds itself."""


class Distinct(yaml.SafeLoader):
    """SafeLoader, which would keep the last of two entries with one name and say nothing."""

    origin = ""
    """What is read, as errors name it."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        # As written: what `<<` takes from another mapping is put in later, and gives way to these.
        vars(node)["own"] = [name for name, _ in node.value if name.tag != MERGE]
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        before = len(node.value)
        super().flatten_mapping(node)
        if len(node.value) > before + MOST_MERGED:
            raise TooMany(f"{MOST_MERGED:,} entries in one mapping")

    def construct_yaml_map(self, node: yaml.MappingNode) -> Iterator[Fields]:
        fields = Fields()
        yield fields
        named = [(self.construct_object(name, deep=True), name.start_mark) for name in vars(node)["own"]]
        names = [name for name, _ in named]
        for at, (name, mark) in enumerate(named):
            if name in names[:at]:
                first = named[names.index(name)][1].line + 1
                raise GivenTwice(None, None, f"{name!r} is given twice, first in line {first}", mark)
        fields.update(self.construct_mapping(node))
        fields.lines = {name: mark.line + 1 for name, mark in named}
        fields.origin = self.origin


Distinct.add_constructor("tag:yaml.org,2002:map", Distinct.construct_yaml_map)


def parsed(text: str, where: str) -> Any:
    """The value that the text spells; ValueError where it is not YAML. Nothing in it is run."""
    try:
        loader = Distinct(text)
        loader.origin = where
        value = loader.get_single_data()
        check_written_out(value)
        return value
    except TooMany as most:
        raise ValueError(
            f"{where} holds more than {most} once its aliases (*) are written out; write fewer"
        ) from None
    except Contained:
        raise ValueError(f"{where} contains itself: an alias (*) stands inside its own anchor (&)") from None
    except RecursionError:
        raise ValueError(
            f"{where} contains itself, or nests too deeply; write it with fewer levels"
        ) from None
    except GivenTwice as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{where}, line {line}: {error.problem}; keep one of them") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # of a number or a date
        raise ValueError(f"{where} is not YAML: {error}") from None


def check_written_out(value: Any) -> None:
    """Raise `Contained` where a list or mapping holds itself, `TooMany` for more than MOST values.

    What several aliases stand for counts once for each.
    """
    around: set[int] = set()
    """The lists and mappings that hold the present one."""
    left, count = [(value, False)], 0
    while left:
        one, done = left.pop()
        if done:
            around.remove(id(one))
            continue
        count += 1
        if count > MOST:
            raise TooMany(f"{MOST:,} values")
        if isinstance(one, dict | list):
            if id(one) in around:
                raise Contained
            around.add(id(one))
            left.append((one, True))
            left += [(part, False) for part in (one.values() if isinstance(one, dict) else one)]


def line_of(written: Any, name: Any, where: str) -> str:
    """`where`, with the line of that name in a mapping that was read from a file."""
    lines = getattr(written, "lines", {})
    return f"{where}, line {lines[name]}" if name in lines else where


def spot(written: Any, name: Any) -> str:
    """A name with the file and line where it stands; alone, where it comes from no file."""
    lines = getattr(written, "lines", {})
    return f"{written.origin}, line {lines[name]}: {name}" if name in lines else str(name)


def without(written: dict[Any, Any], names: Iterable[Any]) -> Fields:
    """The mapping without these names; the others keep their lines."""
    left = Fields({name: value for name, value in written.items() if name not in set(names)})
    left.lines = {name: line for name, line in getattr(written, "lines", {}).items() if name in left}
    left.origin = getattr(written, "origin", "")
    return left


def of_file(path: Path, what: str) -> Any:
    """What a file holds; ValueError where it cannot be read, with `what` it should be."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); give {what}") from None
    return parsed(text, str(path))


def refuse_unknown(given: Iterable[Any], known: Sequence[str], what: str, where: str) -> None:
    """Raise ValueError for the first name that is not known, with the nearest one."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            nearest = f"the nearest is {near[0]!r}" if near else "leave it out"
            place = line_of(given, name, where)
            raise ValueError(f"{place} has no {what} {name!r}; {nearest} (it has {', '.join(known)})")


def options(given: Sequence[str], option: str) -> dict[str, list[Any]]:
    """`field=value,...` for each use of --grid or --set: the values, read as YAML."""
    found: dict[str, list[Any]] = {}
    for text in given:
        field, equals, values = text.partition("=")
        if not (equals and field and values):
            raise ValueError(f"--{option} {text}: write --{option} field=value, as in --{option} etas=0.1")
        if field in found:
            raise ValueError(f"--{option} {text}: {field} is given twice; give all its values at once")
        found[field] = parsed(f"[{values}]", f"--{option} {text}")
    return found
