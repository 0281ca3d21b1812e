"""Claim by claim: what the paper says, whether it holds, and the number that decides it.

    python experiments/paper_checks.py
    python experiments/paper_checks.py --claim E7            # one row, on the screen; nothing is written
    python experiments/paper_checks.py --page README.md      # the list of findings of the front page as well

Every verdict is computed here, none is typed: exact expectations over all groups in float64, and a second
time in ball arithmetic wherever something is said to be unequal, not to vanish or to be greater. Nothing is
sampled, so there are no error bars, and two runs write the same bytes.

Writes paper_checks.md and results/certified/<id>.json; another page only where it is named.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console

from ticgrpo_theory.claims.claim import Claim
from ticgrpo_theory.claims.front_page import with_findings
from ticgrpo_theory.claims.table import (
    COLUMNS,
    cells,
    certificates,
    counted,
    document,
    findings,
    one_claim,
)
from ticgrpo_theory.experiment.atomic import replace_files


@dataclass(frozen=True)
class Config:
    """Where the table and the certificates go."""

    table: Path = Path("paper_checks.md")
    """The table of verdicts."""
    certificates: Path = Path("results/certified")
    """Folder of the certificates; those of claims that have none any more are removed."""
    page: Path | None = None
    """A page whose list of findings is written anew, README.md for one."""
    claim: str | None = None
    """The id of one claim: its row is printed, and nothing is written."""


def read(page: Path) -> str:
    try:
        return page.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"page = {page} cannot be read ({error.strerror}): name one that exists") from error


def show(claim: Claim) -> None:
    """One row, a line for each cell."""
    for name, cell in zip(COLUMNS, cells(claim, claim.decide()), strict=True):
        print(f"{name}: {cell}")


def main(cfg: Config) -> None:
    torch.set_num_threads(1)  # the tables are too small for more, and sums keep one order
    if cfg.claim is not None:
        show(one_claim(cfg.claim))
        return
    found = findings()
    page = None if cfg.page is None else with_findings(read(cfg.page), found)
    balls = certificates(found)
    files = {cfg.certificates / name: text.encode() for name, text in balls.items()}
    replace_files(files)
    for left_over in set(cfg.certificates.glob("*.json")) - set(files):
        left_over.unlink()
    replace_files({cfg.table: document(found).encode()})
    if cfg.page is not None and page is not None:
        replace_files({cfg.page: page.encode()})
    console = Console()
    console.print(f"{len(found)} claims: {counted(found.values())}.")
    console.print(f"{cfg.table} and {len(balls)} certificates in {cfg.certificates}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
