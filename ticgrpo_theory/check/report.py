"""What a check found: rows, the sentence on top, and its forms for programs and people."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ticgrpo_theory.check import pages
from ticgrpo_theory.check.row import Row

SCHEMA = 1
"""Version of the JSON of a report; raised when a field changes its meaning or goes."""


@dataclass(frozen=True)
class Report:
    """The rows of one loss, and their sentence.

    `rows[i].holds` = True, False, or None where the question could not be put; the verdict is that of the
    first row that fails, in the order of blame. Ours. Numbers are angles to grad J [S, V] in degrees, or
    relative changes of token weights [G, T]. `row` raises ValueError for a name that it has not.
    """

    name: str
    form: str
    verdict: str
    rows: tuple[Row, ...]
    conventions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False
    answered: bool = True
    """Whether the loss gave a number on any world."""

    def row(self, name: str) -> Row:
        """The row of that name. Raises ValueError where there is none, naming those there are."""
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f"unknown row {name!r}: this report has {', '.join(r.name for r in self.rows)}")

    def failing(self, required: Iterable[str]) -> list[Row]:
        """Required rows that fail or have no answer. Raises ValueError for an unknown name."""
        return [row for name in required if (row := self.row(name)).holds is not True]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values: {schema, name, form, verdict, rows, ...}."""
        found = dataclasses.asdict(self)
        return {"schema": SCHEMA, **found, "rows": [dataclasses.asdict(row) for row in self.rows]}

    def to_json(self) -> str:
        """{schema: 1, name, form, verdict, conventions, notes, versions, seconds, interrupted, answered,
        rows}, each row with name, claim, target, number, holds (true, false or null), how, detail, witness,
        cause, cure, command, reference.
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_markdown(self) -> str:
        """A page for a pull request or a step summary."""
        return pages.markdown([self])

    def to_html(self) -> str:
        """One self-contained page."""
        return pages.html([self])
