"""One row of a report, and what a page reads of a whole one."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

RowValue = bool | None


@dataclass(frozen=True)
class Row:
    """One claim about a loss, and whether it holds."""

    name: str
    claim: str
    """What would be true of a loss without this fault."""
    target: str = ""
    """What it is compared with."""
    number: float | None = None
    holds: RowValue = None
    """None: no answer; `detail` names what is missing."""
    how: str = ""
    """"exact", "in direction" or "as G grows", of a row that holds."""
    detail: str = ""
    """What was found, in words."""
    witness: str = ""
    """The smallest case that shows it, with its computation."""
    cause: str = ""
    cure: str = ""
    command: str = ""
    reference: str = ""

    @property
    def said(self) -> str:
        """holds, fails or no answer."""
        return {True: "holds", False: "FAILS", None: "no answer"}[self.holds]


@runtime_checkable
class Reported(Protocol):
    """What a page shows of a report."""

    @property
    def name(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def rows(self) -> tuple[Row, ...]: ...
    @property
    def conventions(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
