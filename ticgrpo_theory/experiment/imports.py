"""`module:attribute` and `path/to/file.py:attribute`: something of a user's own, imported by name.

The standard library alone: workers of a sweep import this file before anything else.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ticgrpo_theory.inputs.tracebacks import place_of, said


def module_at(place: str, folder: str) -> ModuleType:
    """The module of a dotted name, searched from `folder` too, or of an absolute path that ends in .py."""
    search(folder)
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place)
    search(str(path.parent))  # for what lies beside a script, as when Python runs it
    # A name of its own: a script may be called like a module of the standard library.
    spec = importlib.util.spec_from_file_location(f"_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a file that Python can import")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def search(folder: str) -> None:
    """Let modules of `folder` be imported, after all others."""
    if folder not in sys.path:
        sys.path.append(folder)


def imported(reference: str, what: str, *, folder: Path | None = None) -> Any:
    """The attribute of the module or file, seen from `folder` (the current one); `what` names it in errors.

    Raises ValueError where there is none, or where the import fails.
    """
    where, _, attribute = reference.rpartition(":")
    folder = (folder or Path.cwd()).resolve()
    place = str(folder / where) if where.endswith(".py") else where
    try:
        return getattr(module_at(place, str(folder)), attribute)
    # A module of a user's own can fail to load in any way, and may even leave with exit().
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{what} = {reference} cannot be imported ({said(error)}); write "
            f"module:attribute or file.py:attribute, with the module on the path or the file in {folder}"
        ) from error


def refuse_nameless(reference: str, what: str) -> None:
    """Raise ValueError for a file without the name of something in it, with the names that it defines."""
    file = reference.removesuffix(":")
    if not file.endswith(".py"):
        return
    try:
        body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{what} = {file} cannot be read as Python ({said(error)}); write {file}:NAME"
        ) from error
    defined = [name for statement in body for name in names_of(statement) if not name.startswith("_")]
    listed = f"write {file}:NAME, with one of {', '.join(defined)}" if defined else "it defines none"
    raise ValueError(f"{what} = {file} names no {what} in it; {listed}")


def names_of(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module defines or gives a value."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def called(function: Callable[[], Any], reference: str, what: str) -> Any:
    """What a function of a user's own returns, called without arguments; ValueError where it raises."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        if isinstance(error, ValueError) and not place_of(error):
            raise
        raise ValueError(f"{what} = {reference} raised {said(error)}; mend it there") from error
