"""Where in a user's own file an exception was raised.

The standard library alone: importing what is one's own must not wait for anything else.
"""

import sysconfig
import traceback
from pathlib import Path

PACKAGE = f"{Path(__file__).parents[1]}/"
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def place_of(error: BaseException) -> str:
    """`file, line n, in name` of the innermost frame that is neither ours nor a library's; '' without one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((PACKAGE, *LIBRARIES, "<")):
            return f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return ""


def said(error: BaseException) -> str:
    """The exception on one line, with its place in the user's file."""
    text = " ".join(str(error).split())
    place = place_of(error)
    return f"{type(error).__name__}: {text}" + (f" ({place})" if place else "")
