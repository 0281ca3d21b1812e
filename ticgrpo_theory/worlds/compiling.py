"""How the compiled passes are compiled, and kept on disk until anything that went into them changes."""

import hashlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any, NoReturn

import numba
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic


def index_of(function: Any) -> Any:
    """What numba knows of the machine code of `function` on disk."""
    return function._cache._cache_file


def kept(function: Any) -> Any:
    """`function`, its machine code on disk valid only while everything compiled into it is unchanged.

    numba looks at the file that a function stands in. Compiled functions of other files, which it calls and
    which become part of it, would be forgotten: after an update the old code would go on running. Here their
    marks, and the constants that it reads, belong to its own.
    """
    code, known = function.py_func.__code__, function.py_func.__globals__
    parts = {}
    for name in code.co_names:
        value = known.get(name)
        if isinstance(value, Dispatcher):
            parts[name] = index_of(value)._source_stamp
        elif isinstance(value, bool | int | float | str | tuple):
            parts[name] = repr(value)
    index = index_of(function)
    index._load_index = forgiving(index._load_index)
    whole = repr((index._source_stamp, sorted(parts.items())))
    index._source_stamp = hashlib.sha256(whole.encode()).hexdigest()
    return function


def forgiving(load: Callable[[], dict]) -> Callable[[], dict]:
    """numba's list of machine code on disk; empty, so that it is compiled again, where it cannot be read.

    An earlier version of this package may have left names in it that are no more.
    """

    def loaded() -> dict:
        try:
            return load()
        except (AttributeError, ImportError, EOFError, ValueError, pickle.UnpicklingError):
            return {}

    return loaded


def kernel(f: Callable) -> Callable:
    """f compiled by numba and kept on disk.

    Unwrapped first: the import hook that checks shapes in tests wraps functions before numba would see them.
    """
    return kept(numba.njit(inspect.unwrap(f), cache=True, nogil=True, error_model="numpy"))


class Inner(CPUDispatcher):
    """A compiled function without the part that Python would call."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{self.py_func.__name__} is compiled for kernels alone: call one of those")


def inner(f: Callable) -> Callable:
    """As `kernel`, for what kernels alone call with named tuples of arrays, which Python is slow to unpack.

    Half of the time to compile is saved. Called from Python it raises TypeError.
    """
    # The stubs of numba do not know these two.
    bare: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made = kept(numba.njit(inspect.unwrap(f), cache=True, nogil=True, error_model="numpy", **bare))
    made.__class__ = Inner
    return made


def reduction(f: Callable) -> Callable:
    """As `kernel`, for sums and maxima of numbers that are never NaN, which may be taken in vector order.

    The order is the same in every run on one machine; another vector width may change the last bits.
    """
    fastmath = {"reassoc", "nsz", "nnan"}
    return kept(numba.njit(inspect.unwrap(f), cache=True, error_model="numpy", fastmath=fastmath))


def _borrowed(context, fields):
    def without_owner(context, builder, kind, value):
        if not isinstance(kind, types.Array):
            return value
        array = context.make_array(kind)(context, builder, value)
        for owner in ("meminfo", "parent"):
            setattr(array, owner, getattr(array, owner).type(None))
        return array._getvalue()

    def generate(context, builder, signature, args):
        (whole,) = args
        for i, kind in enumerate(fields.types):
            part = without_owner(context, builder, kind, builder.extract_value(whole, i))
            whole = builder.insert_value(whole, part, i)
        return whole

    return fields(fields), generate


# A named tuple of arrays without their owners: views of them count no references, which threads would do one
# after another. The caller keeps the arrays alive.
borrowed = intrinsic(inspect.unwrap(_borrowed))
