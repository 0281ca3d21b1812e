"""The files of a user's own that numbers depend on: a script and what it imports, each by its SHA-256.

Followed are imports of files below the folder of the script, or below the one where Python was started. Not
followed are installed packages, whose versions a result records, and this package, whose numbers the version
of a result stands for. What a script reads while it runs, a table for instance, is not known here.

The standard library alone: workers of a sweep import this file before their first cell.
"""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ticgrpo_theory.inputs.tracebacks import LIBRARIES

OURS = tuple(f"{Path(__file__).parents[2] / name}/" for name in ("ticgrpo_theory", "llm"))

Files = Mapping[str, str]
"""SHA-256 of each file by its path, seen from the folder of the script where it lies below."""


def files_of(script: Path, folder: Path | None = None) -> dict[str, str]:
    """The script and every file of the user's own that it imports, directly or through another one."""
    script = script.absolute()
    roots = [script.parent] if folder is None else [script.parent, folder.absolute()]
    found: dict[Path, bytes] = {}
    left = [script]
    while left:
        path = left.pop()
        if path not in found:
            found[path] = path.read_bytes()
            left += imports_of(path, found[path], roots)
    return {
        named(path, script.parent): hashlib.sha256(data).hexdigest() for path, data in sorted(found.items())
    }


def files_named(*values: Any) -> dict[str, str]:
    """The files of every `file.py:name` or `module:name` in a configuration, seen from the current folder.

    Paths are as they are written, those of imports beside them; values that name no file count for nothing.
    """
    found: dict[str, str] = {}
    for value in values:
        if isinstance(value, Mapping):
            found |= files_named(*value.values())
        elif isinstance(value, list | tuple):
            found |= files_named(*value)
        elif isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
            file = place_of_module(match[1])
            if file is not None and file.is_file():
                found |= {str(file.parent / name): sha for name, sha in files_of(file, Path.cwd()).items()}
    return found


def together(script: Files, own: Files) -> dict[str, str]:
    """Both; a name that stands for two files is the whole path of the second."""
    return {**script, **{str(Path(x).absolute()) if x in script else x: sha for x, sha in own.items()}}


REFERENCE = re.compile(r"([^:]+\.py|[\w.]+):\w+")
"""Something of a user's own in Python, by file or module and name."""


def place_of_module(where: str) -> Path | None:
    """The file that is written so, or that holds the module; None where it is none of the user's own."""
    if where.endswith(".py"):
        return Path(where)
    below = Path(*where.split("."))
    for file in (below.with_suffix(".py"), below / "__init__.py"):
        if file.is_file():
            return file
    try:
        spec = importlib.util.find_spec(where)
    except (ImportError, ValueError, AttributeError):
        return None
    file = Path(str(spec.origin)) if spec is not None and spec.has_location else None
    return file if file is not None and is_own(file) else None


def named(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def imports_of(path: Path, data: bytes, roots: Iterable[Path]) -> list[Path]:
    """The files of the user's own that the code of this one imports; none where it is not Python."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return []
    made = [file for node in ast.walk(tree) for file in candidates(node, path, roots)]
    return [file for file in dict.fromkeys(made) if file.is_file() and is_own(file)]


def candidates(node: ast.AST, path: Path, roots: Iterable[Path]) -> Iterator[Path]:
    """Where the modules that a statement imports may lie, with the packages around them."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            for root in roots:
                yield from along(root, alias.name.split("."))
    elif isinstance(node, ast.ImportFrom):
        module = node.module.split(".") if node.module else []
        here = [path.parents[node.level - 1]] if 0 < node.level <= len(path.parents) else []
        for root in here if node.level else roots:
            for alias in node.names:
                yield from along(root, [*module, alias.name])


def along(root: Path, parts: list[str]) -> Iterator[Path]:
    """a.py, a/__init__.py, a/b.py, ... below the root; the last part may be no module but a name in one."""
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        yield place.with_name(f"{place.name}.py")
        yield place / "__init__.py"


def is_own(path: Path) -> bool:
    """Whether it is no file of this package, of Python, or of what is installed."""
    return not str(path.resolve()).startswith((*OURS, *(f"{library}/" for library in LIBRARIES)))


def edited(before: Files | None, now: Files) -> list[str]:
    """The files that are not what they were, gone and new ones included; all where nothing is known."""
    before = before or {}
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def said_of(files: Iterable[str]) -> str:
    """`mine.py was edited`, with at most three names."""
    names = list(files)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} {'was' if len(names) == 1 else 'were'} edited"
