"""The configuration that verl prints before training: a dictionary, wrapped over many lines by pprint."""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ticgrpo_theory.training_logs.runs import SETTINGS

STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
OPENS = re.compile(r"^\{['\"]\w+['\"]:")


def settings_in(lines: Sequence[tuple[str, str]], left_out: list[str]) -> dict[int, dict[str, Any]]:
    """Line at which a printed configuration ends -> its settings; `lines` are (process, text).

    Lines of other processes in between are passed over. One that never closes or cannot be read is named in
    `left_out`: another configuration may then be the run's, or none.
    """
    found: dict[int, dict[str, Any]] = {}
    i = 0
    while i < len(lines):
        who, text = lines[i]
        if not OPENS.match(text.strip()):
            i += 1
            continue
        kept, depth, end = [], 0, i
        for end in range(i, len(lines)):
            if lines[end][0] != who:
                continue
            if end > i and (text := lines[end][1]).lstrip().startswith("step:"):
                break
            text = lines[end][1]
            kept.append(text)
            bare = STRING.sub("", text)
            depth += sum(map(bare.count, "{[(")) - sum(map(bare.count, "}])"))
            if depth <= 0:
                break
        whole = _literal("\n".join(kept)) if depth == 0 else None
        if isinstance(whole, dict):
            settings = short(whole)
            if settings:
                found[end] = settings
        else:
            left_out.append(
                f"line {i + 1}: a printed dictionary of {len(kept)} lines is cut off or damaged; "
                f"its settings are left out"
            )
        i = max(end, i + 1) if depth else end + 1
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return None


def short(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of SETTINGS that a nested configuration holds, under their short names."""
    settings = {}
    for name, path in SETTINGS.items():
        here: Any = config
        for key in path.split("."):
            here = here.get(key) if isinstance(here, Mapping) else None
        if here is not None:
            settings[name] = here
    return settings
