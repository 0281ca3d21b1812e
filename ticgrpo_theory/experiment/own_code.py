"""What a function of a user's own says: a run must not be taken up with another one of the same name.

Followed are its bytecode and constants, defaults, what it closes over, and the functions and values of its
module that it names. A module of the user's own that it names counts with its file and what that imports;
what it reaches through a library is known by name only.
"""

import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from ticgrpo_theory.experiment.own_files import files_of

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def own_code(x: Any) -> str:
    """One word for all functions and classes of the user's own that `x` is made of; "" where it has none."""
    parts = list(walk(x, False, {}))
    return hashlib.sha256(repr(parts).encode()).hexdigest() if parts else ""


def own_files(x: Any) -> dict[str, str]:
    """SHA-256 of the files from which the functions and modules of the user's own come."""
    seen: dict[int, Any] = {}
    list(walk(x, False, seen))
    functions = (
        f for f in seen.values() if isinstance(f, FunctionType) and not of_library(f.__module__ or "")
    )
    places = {f.__code__.co_filename for f in functions}
    places |= {str(m.__file__) for m in seen.values() if isinstance(m, ModuleType) and is_followed(m)}
    return {str(path): sha for place in places if Path(place).is_file() for path, sha in by_path(Path(place))}


def by_path(file: Path) -> Iterator[tuple[Path, str]]:
    """The file and what it imports, by their whole paths."""
    return ((file.parent / name, sha) for name, sha in files_of(file).items())


def is_followed(module: ModuleType) -> bool:
    """Whether a module is a file of the user's own."""
    file = getattr(module, "__file__", None)
    return file is not None and file.endswith(".py") and not of_library(module.__name__)


def of_library(module: str) -> bool:
    """Whether functions of this module are known by name: of this package, Python or what is installed."""
    root = module.partition(".")[0]
    if root == "__main__":
        return False
    if root in ("ticgrpo_theory", "builtins") or root in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def walk(x: Any, own: bool, seen: dict[int, Any]) -> Iterator[str]:
    """What is own about x, in a fixed order; values count only where `own` code holds them."""
    if isinstance(x, PLAIN):
        yield from [repr(x)] if own else []
    elif isinstance(x, Tensor | np.ndarray):
        array = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
        yield from [repr((array.shape, array.dtype.str, array.tobytes()))] if own else []
    elif isinstance(x, tuple):
        # Equal constants may be one object or two, by how the code was loaded.
        yield from each(x, own, seen)
    elif isinstance(x, frozenset):
        yield from each(sorted(x, key=repr), own, seen)
    elif isinstance(x, CodeType):
        yield from each((x.co_code, x.co_names, x.co_consts), own, seen)
    elif id(x) not in seen:
        # Kept alive: the address of what is gone may be given to another.
        seen[id(x)] = x
        yield from followed(x, own, seen)


def followed(x: Any, own: bool, seen: dict[int, Any]) -> Iterator[str]:
    """The same for what has parts, each visited once."""
    if isinstance(x, Mapping):
        yield from each((part for pair in x.items() for part in pair), own, seen)
    elif isinstance(x, list):
        yield from each(x, own, seen)
    elif isinstance(x, set):
        yield from each(sorted(x, key=repr), own, seen)
    elif isinstance(x, functools.partial):
        yield from each((x.func, x.args, x.keywords), True, seen)
    elif isinstance(x, MethodType | classmethod | staticmethod):
        yield from each((x.__func__, getattr(x, "__self__", None)), own, seen)
    elif isinstance(x, property):
        yield from each((x.fget, x.fset), own, seen)
    elif isinstance(x, FunctionType):
        yield from function(x, own, seen)
    elif isinstance(x, type):
        yield from of_class(x, own, seen)
    elif isinstance(x, ModuleType) and is_followed(x):
        yield repr((x.__name__, files_of(Path(str(x.__file__))))) if own else ""
    elif isinstance(x, ModuleType | BuiltinFunctionType):
        yield from [x.__name__] if own else []
    else:
        mine = own or not of_library(type(x).__module__)
        slots = [
            getattr(x, name, None) for name in getattr(type(x), "__slots__", ()) if name != "__weakref__"
        ]
        yield from each((type(x), slots, getattr(x, "__dict__", {})), mine, seen)


def each(parts: Any, own: bool, seen: dict[int, Any]) -> Iterator[str]:
    for part in parts:
        yield from walk(part, own, seen)


def function(f: FunctionType, own: bool, seen: dict[int, Any]) -> Iterator[str]:
    """Name, code, defaults, closure, and the globals that the code names."""
    cells = [cell.cell_contents for cell in f.__closure__ or ()]
    if of_library(f.__module__ or ""):
        yield from [f.__qualname__] if own else []
        # One that a library made inside another may hold functions of one's own.
        yield from each(cells if "<locals>" in f.__qualname__ else (), own, seen)
        return
    yield f.__qualname__
    yield from each((f.__code__, f.__defaults__, f.__kwdefaults__, cells), True, seen)
    known = [f.__globals__[name] for name in sorted(names(f.__code__)) if name in f.__globals__]
    yield from each(known, True, seen)


def names(block: CodeType) -> set[str]:
    """The names that a function and those inside it look up."""
    inside = (constant for constant in block.co_consts if isinstance(constant, CodeType))
    return set(block.co_names).union(*map(names, inside))


def of_class(x: type, own: bool, seen: dict[int, Any]) -> Iterator[str]:
    """A class of one's own: its bases, methods and class attributes."""
    if of_library(x.__module__):
        yield from [x.__qualname__] if own else []
        return
    yield x.__qualname__
    kept = {name: value for name, value in vars(x).items() if not name.startswith("__") or callable(value)}
    yield from each((x.__bases__, kept), True, seen)
