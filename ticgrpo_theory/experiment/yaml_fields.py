"""YAML as people write it: two entries with one name are refused, and so are names that mean nothing."""

import difflib
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml


class Distinct(yaml.SafeLoader):
    """SafeLoader, which would keep the last of two entries with one name and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [self.construct_object(name, deep=True) for name, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def parsed(text: str, where: str) -> Any:
    """The value that the text spells; ValueError where it is not YAML. Nothing in it is run."""
    try:
        return yaml.load(text, Loader=Distinct)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from None


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
            raise ValueError(f"{where} has no {what} {name!r}; {nearest} (it has {', '.join(known)})")


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
