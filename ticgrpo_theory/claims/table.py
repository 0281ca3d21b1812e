"""All claims in order, the table of verdicts, and the certificates behind them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from ticgrpo_theory.claims.claim import Claim, Finding, Verdict, Witness
from ticgrpo_theory.claims.paper import (
    assumptions,
    convergence,
    grpo,
    grpo_terms,
    logs,
    practice,
    races,
    setting,
    targets,
    tic,
    tic_terms,
)
from ticgrpo_theory.training_logs.published import DEPARTURES, SOURCE

CLAIMS: tuple[Claim, ...] = (
    *setting.CLAIMS,
    *grpo.CLAIMS,
    *grpo_terms.CLAIMS,
    *targets.CLAIMS,
    *tic.CLAIMS,
    *tic_terms.CLAIMS,
    *assumptions.CLAIMS,
    *convergence.CLAIMS,
    *races.CLAIMS,
    *practice.CLAIMS,
    *logs.CLAIMS,
)

HEAD = """\
# The claims of the paper, checked

Written by `python experiments/paper_checks.py` from the checks themselves; do not edit.

**The paper.** arXiv:2508.02833 v2, "On the Theory and Practice of GRPO: A Trajectory-Corrected Approach with
Fast Convergence". Equation numbers are those of v2. Later versions carry the title "TIC-GRPO: Provable and
Efficient Optimization for Reinforcement Learning from Human Feedback"; they are not the text tested here.

**What differs in ours.** Claims are decided on token MDPs with softmax tables, small enough that every group
of responses is listed: nothing is sampled. |s| counts the end token; sums over t run over the tokens of a
response; sigma_G divides by G; A = 0 where all rewards of a group are equal; delta = 0. The *held gradient*
(`stale`) has weight 1 and the score at theta_old, `no_is` weight 1 and the score at theta; `tic_grpo` is
Eq. 9 differentiated literally, `tic_grpo_eq11` has the 1/|s| of Eq. 11. "Unbiased" names its target.

**What a verdict is.** It follows from the number beside it; "below 1e-12" is zero in float64. What is said to
be unequal, not to vanish or to be greater was computed a second time, from the definitions and in ball
arithmetic, on policies whose logits are logarithms of small integers, and zero lies outside the ball: these
numbers are marked [certified] and stand in `results/certified/<id>.json`.
"""

COLUMNS = (
    "id",
    "claim",
    "place in the paper",
    "verdict",
    "number that decides it",
    "function",
    "test",
    "experiment",
)


@cache
def findings() -> Mapping[str, Finding]:
    """The finding of every claim, by id; computed once."""
    return {claim.id: claim.decide() for claim in CLAIMS}


def verdict(finding: Finding) -> str:
    """The verdict with its correction, counter-example or reason."""
    if finding.verdict is Verdict.HOLDS:
        return finding.verdict.value
    if finding.verdict is Verdict.UNCHECKABLE:
        return f"{finding.verdict.value}: {finding.reason}"
    return f"{finding.verdict.value} ({finding.reason})"


def proved(finding: Finding) -> list[Witness]:
    """The numbers that the verdict says are above zero."""
    return [witness for witness in finding.witnesses if not witness.zero]


def row(claim: Claim, finding: Finding) -> str:
    """One line of the table."""
    number = finding.number
    if finding.verdict is Verdict.HOLDS and finding.reason:
        number += f"; {finding.reason}"
    if proved(finding):
        number += " [certified]"
    cells = (
        claim.id,
        claim.claim,
        claim.place,
        verdict(finding),
        number or "none",
        *(f"`{name}`" if name else "none" for name in (claim.function, claim.test, claim.experiment)),
    )
    return "| " + " | ".join(map(without_pipes, cells)) + " |"


def without_pipes(cell: str) -> str:
    """Bars that no reader of the table takes for the end of a cell."""
    return cell.replace("||", "\u2016").replace("|", "\u2223")


IN_WORDS = {
    Verdict.HOLDS: ("holds exactly", "hold exactly"),
    Verdict.CORRECTED: ("holds after a correction", "hold after a correction"),
    Verdict.FAILS: ("fails", "fail"),
    Verdict.UNCHECKABLE: ("cannot be checked here", "cannot be checked here"),
}
"""What one claim does, and what several do."""


def counted(found: Iterable[Finding]) -> str:
    """How many claims have which verdict, as a sentence without its full stop; none: left out."""
    counts = Counter(finding.verdict for finding in found)
    parts = [f"{counts[kind]} {IN_WORDS[kind][counts[kind] != 1]}" for kind in Verdict if counts[kind]]
    if not parts:
        return "no claim was checked"
    number, verb = parts[0].split(" ", 1)
    parts[0] = f"{number} claim{'s' * (number != '1')} {verb}"
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def document(found: Mapping[str, Finding]) -> str:
    """paper_checks.md."""
    lines = [HEAD, f"{len(found)} claims: {counted(found.values())}.", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += [row(claim, found[claim.id]) for claim in CLAIMS]
    lines += [
        "",
        "## Where released code and published logs depart from the paper",
        "",
        f"Source: {SOURCE}.",
        "",
    ]
    lines += [f"- {departure}" for departure in DEPARTURES]
    lines += ["", "## What cannot be checked here, and why", ""]
    lines += [
        f"- {claim.id} ({claim.claim}): {found[claim.id].reason}."
        for claim in CLAIMS
        if found[claim.id].verdict is Verdict.UNCHECKABLE
    ]
    return "\n".join(lines) + "\n"


def certificates(found: Mapping[str, Finding]) -> dict[str, str]:
    """<id>.json of every claim whose verdict rests on a number proved to be above zero."""
    texts = {}
    for claim in CLAIMS:
        finding = found[claim.id]
        if proved(finding):
            about = {
                "id": claim.id,
                "claim": claim.claim,
                "verdict": finding.verdict.value,
                "proved": "every value below is greater than 0: its ball excludes 0",
                "values": [witness.record() for witness in proved(finding)],
            }
            texts[f"{claim.id}.json"] = json.dumps(about, indent=1) + "\n"
    return texts
