"""The answer of `ticgrpo claim`."""

import torch
from rich.console import Console

from ticgrpo_theory.claims.page import page
from ticgrpo_theory.claims.paper.quotes import QUOTES
from ticgrpo_theory.claims.table import one_claim, verdict
from ticgrpo_theory.cli.output import Answer


def answer(name: str) -> Answer:
    """The row of a claim, and its page line by line."""
    claim = one_claim(name)
    torch.set_num_threads(1)
    finding = claim.decide()
    return {
        "id": claim.id,
        "claim": claim.claim,
        "words": QUOTES[claim.id],
        "place": claim.place,
        "verdict": verdict(finding),
        "number": finding.number,
        "lines": finding.lines,
        "page": list(page(claim, finding)),
    }


def show(found: Answer, console: Console) -> None:
    """The page, a line as long as it is: a fraction is not broken."""
    for line in found["page"]:
        console.print(line, soft_wrap=True)
