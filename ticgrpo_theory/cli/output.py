"""An answer as JSON or as tables on stdout; whatever else is said goes to stderr."""

import contextlib
import json as json_text
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ticgrpo_theory.cli.options import Drift
from ticgrpo_theory.experiment.terminal import Terminal, needed

Answer = dict[str, Any]

FEW = 4
"""Most estimators that have a column each."""

T = TypeVar("T")


def give(answer: Callable[[], Answer], show: Callable[[Answer, Console], None], json: bool) -> int:
    """Find the answer and print it; the exit code of a command that has one."""
    # A module of a user's own may print what it likes, and stdout is for the answer alone.
    with contextlib.redirect_stdout(sys.stderr):
        found = answer()
    if json:
        print(json_text.dumps(plain(found), indent=1, allow_nan=False))
    else:
        show(found, Terminal(markup=False, highlight=False))
    return 0


def plain(value: Any) -> Any:
    """What JSON can hold; numbers that it has no word for are the strings "inf", "-inf" and "nan"."""
    if isinstance(value, torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def number(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return "-"
    return (
        f"{value:.5g}"
        if isinstance(value, float)
        else str(value).replace("dynamic_programming", "dynamic programming")
    )


def table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """A column for each name, with its heading; the first one is to the left."""
    made = Table()
    for position, heading in enumerate(columns.values()):
        made.add_column(heading, justify="left" if position == 0 else "right")
    for row in rows:
        made.add_row(*(number(row[name]) for name in columns))
    return made


def print_beside(console: Console, columns: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> None:
    """A column for each entry, in as many tables as the width takes; more than FEW entries are rows."""
    if len(entries) > FEW:
        console.print(table(columns, entries))
        return
    count = len(entries)
    while count > 1 and needed(beside(columns, entries[:count])) > console.width:
        count -= 1
    for first in range(0, len(entries), count):
        console.print(beside(columns, entries[first : first + count]))


def beside(columns: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> Table:
    """The first of the columns heads the others, as many as there are entries."""
    first, *others = columns
    heads = {"": columns[first], **{str(i): str(entry[first]) for i, entry in enumerate(entries)}}
    rows = [
        {"": columns[name], **{str(i): entry[name] for i, entry in enumerate(entries)}} for name in others
    ]
    return table(heads, rows)


def heading(answer: Answer) -> str:
    """World, sizes and group, where theta is, and who draws."""
    world = answer["world"]
    prompts = f", {world['prompts']} prompts" if world["prompts"] > 1 else ""
    drawn = f"; drawn by {answer['sampler']}" if "sampler" in answer else ""
    return (
        f"{world['name']}: {world['rows']} rows of {world['vocab_size']} logits, "
        f"T = {world['horizon']}{prompts}; G = {answer['group_size']}{whole_updates(answer)}"
        f"{answer.get('where', '')}{drawn}"
    )


def whole_updates(answer: Answer) -> str:
    """Of what updates are, and that a callable is given all of one, where the answer is about updates."""
    P, whole = answer.get("prompts"), answer.get("scope") == "batch"
    if P is None:
        return "; updates given whole" if whole else ""
    said = "each prompt once" if P == "each" else f"{P:,} prompt{'s' if P > 1 else ''}"
    return f"; updates of {said}{', given whole' if whole else ''}"


def placed(drift: Drift) -> Answer:
    """The steps that were taken, and in words where theta is."""
    where = "; theta = theta_old"
    if drift.theta is not None:
        where = f"; theta of {drift.theta}"
    elif drift.inner_steps:
        where = f"; theta after {drift.inner_steps} steps of {drift.learning_rate:g}"
    steps = {"inner_steps": drift.inner_steps, "learning_rate": drift.learning_rate}
    return {**steps, "where": where}


def say_first(entries: Sequence[Mapping[str, Any]], console: Console) -> None:
    """What has to be said before any number; what leads downhill goes first."""
    for first in (True, False):
        for entry in entries:
            notes = entry["notes"]
            ahead = notes[:1] if entry["downhill"] else []
            for note in ahead if first else notes[len(ahead) :]:
                console.print(note, soft_wrap=True)


def within(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry, with `value +- half width` where it is sampled, or is no more than its rounding."""
    shown = dict(entry)
    for name in entry:
        half, lost = entry.get(f"{name}_half_width"), entry.get(f"{name}_rounding")
        if not half and lost and isinstance(entry[name], float) and abs(entry[name]) <= lost:
            shown[name] = f"{entry[name]:.1g} +- {lost:.1g}"
        if half and isinstance(entry[name], float):
            shown[name] = f"{entry[name]:.5g} +- {half:.2g}"
    return shown


def one_by_one(entries: Sequence[T], what: Callable[[T], str]) -> Iterator[T]:
    """The entries, with a bar on stderr while they are worked on, where that is a terminal."""
    with bar() as progress:
        task = progress.add_task("", total=len(entries))
        for entry in entries:
            progress.update(task, description=what(entry))
            yield entry
            progress.advance(task)


def bar() -> Progress:
    """A bar on stderr that leaves nothing behind."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
