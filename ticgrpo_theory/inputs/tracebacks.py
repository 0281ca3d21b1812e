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


def brief(text: str, longest: int = 1000) -> str:
    """The text on one line; of a long one the middle is left out, and how much of it."""
    line = " ".join(text.split())
    left_out = len(line) - longest
    if left_out <= 0:
        return line
    end = longest // 3
    return f"{line[: longest - end]} ... ({left_out:,} characters) ... {line[-end:]}"


def said(error: BaseException) -> str:
    """The exception on one line, with its place in the user's file."""
    text = brief(str(error))
    place = place_of(error)
    return f"{type(error).__name__}: {text}" + (f" ({place})" if place else "")
