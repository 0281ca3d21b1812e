"""Claim by claim: what the paper says, whether it holds, and the number that decides it.

    python experiments/paper_checks.py

Every verdict is computed here, none is typed: exact expectations over all groups in float64, and a second
time in ball arithmetic wherever something is said to be unequal, not to vanish or to be greater. Nothing is
sampled, so there are no error bars, and two runs write the same bytes.

Writes paper_checks.md, results/certified/<id>.json, and the list of findings in README.md.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console

from ticgrpo_theory.claims.front_page import with_findings
from ticgrpo_theory.claims.table import certificates, counted, document, findings
from ticgrpo_theory.experiment.atomic import replace_files


@dataclass(frozen=True)
class Config:
    """Where the table and the certificates go."""

    table: Path = Path("paper_checks.md")
    """The table of verdicts."""
    certificates: Path = Path("results/certified")
    """Folder of the certificates; those of claims that have none any more are removed."""
    page: Path = Path("README.md")
    """The page whose list of findings is written anew."""


def main(cfg: Config) -> None:
    torch.set_num_threads(1)  # the tables are too small for more, and sums keep one order
    found = findings()
    try:
        page = with_findings(cfg.page.read_text(encoding="utf-8"), found)
    except OSError as error:
        raise ValueError(
            f"page = {cfg.page} cannot be read ({error.strerror}): name it with --page"
        ) from error
    balls = certificates(found)
    files = {cfg.certificates / name: text.encode() for name, text in balls.items()}
    replace_files(files)
    for left_over in set(cfg.certificates.glob("*.json")) - set(files):
        left_over.unlink()
    replace_files({cfg.table: document(found).encode()})
    replace_files({cfg.page: page.encode()})
    console = Console()
    console.print(f"{len(found)} claims: {counted(found.values())}.")
    console.print(f"{cfg.table} and {len(balls)} certificates in {cfg.certificates}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
