"""All claims in order, the table of verdicts, and the certificates behind them."""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from ticgrpo_theory.claims.claim import Claim, Finding, Verdict, Witness
from ticgrpo_theory.claims.paper import (
    assumptions,
    convergence,
    further,
    grpo,
    grpo_terms,
    logs,
    noise,
    practice,
    races,
    setting,
    targets,
    tic,
    tic_targets,
    tic_terms,
)
from ticgrpo_theory.claims.paper.quotes import QUOTES, UNKNOWN, V2_DATE, V5, V5_DATE
from ticgrpo_theory.training_logs.published import DEPARTURES, SOURCE

CLAIMS: tuple[Claim, ...] = (
    *setting.CLAIMS,
    *grpo.CLAIMS,
    *grpo_terms.CLAIMS,
    *targets.CLAIMS,
    *tic.CLAIMS,
    *tic_terms.CLAIMS,
    *tic_targets.CLAIMS,
    *assumptions.CLAIMS,
    *convergence.CLAIMS,
    *races.CLAIMS,
    *noise.CLAIMS,
    *practice.CLAIMS,
    *further.CLAIMS,
    *logs.CLAIMS,
)

HEAD = """\
# The claims of the paper, checked

Written by `python experiments/paper_checks.py` from the checks themselves; do not edit.

**The paper.** arXiv:2508.02833 v2 (7 August 2025), "On the Theory and Practice of GRPO: A
Trajectory-Corrected Approach with Fast Convergence"; equation numbers are those of v2, and each row quotes
the words it judges, formulas in plain letters. Of v5 (23 March 2026), "TIC-GRPO: Provable and Efficient
Optimization for Reinforcement Learning from Human Feedback", title and abstract were read: "an unbiased
estimate" became "an estimate", and "converges faster than GRPO" came in. What the rest of v5 says is unknown
here, and no verdict is about it.

**What differs in ours.** Claims are decided on token MDPs with softmax tables, small enough that every group
of responses is listed: nothing is sampled. |s| counts the end token; sums over t run over the tokens of a
response; sigma_G divides by G; A = 0 where all rewards of a group are equal; delta = 0. The *held gradient*
(`stale`) has weight 1 and the score at theta_old, `no_is` weight 1 and the score at theta; `tic_grpo` is Eq.
9 differentiated literally, `tic_grpo_eq11` has the 1/|s| of Eq. 11. "Unbiased" names its target.

**The world of a row** is one line, as in `V=2 T=2 EOS=1 r=1,0,0 old=1/2 theta=3/4,1/2 G=2`: tokens 0..V-1, at
most T of them, the end token, the rewards of the responses in the order 00 01 1, the policy that drew, the
current one (left out: the same), each by the probability of token 0 in the rows (), 0, 1, 00, ... (one
number: in all; `rows=one`: there is one row), and the group size (`inf`: no noise of a group). `|` parts
prompts, `#0>=n` is 1 for n or more tokens 0. `group` lists the responses of one group, `K` and `eta` are
steps on it; without G a number is no expectation over groups. An estimator is ratio+advantage+clip+scale: A =
`std` over the group or `z` over the policy, scale `mean` 1/(G|s|), `tokens` 1/sum|s|, `sum` 1/G.

**What a verdict is.** It follows from the number beside it; "below 1e-12" is zero in float64. What is said to
be unequal, not to vanish or to be greater was computed a second time, from the definitions and in ball
arithmetic, and zero lies outside the ball: exactly the numbers marked [certified], which stand in
`results/certified/<id>.json`. `python check_certificates.py` proves them again with nothing but Python's
fractions, and `ticgrpo claim <id>` prints the computation step by step.
"""

COLUMNS = (
    "id",
    "claim",
    "words judged",
    "place in the paper",
    f"verdict on v2 ({V2_DATE})",
    f"v5 ({V5_DATE})",
    "number that decides it",
    "world, policies, update",
    "function",
    "test",
    "experiment",
)


@cache
def findings() -> Mapping[str, Finding]:
    """The finding of every claim, by id; computed once."""
    return {claim.id: claim.decide() for claim in CLAIMS}


CONTRADICTED = "fails: contradicted by"


def verdict(finding: Finding) -> str:
    """The verdict with its correction, counter-example or reason."""
    if finding.verdict is Verdict.HOLDS:
        return finding.verdict.value
    if finding.verdict is Verdict.UNCHECKABLE:
        return f"{finding.verdict.value}: {finding.reason}"
    if finding.record:
        return f"{CONTRADICTED} {finding.record} ({finding.reason})"
    return f"{finding.verdict.value} ({finding.reason})"


def proved(finding: Finding) -> list[Witness]:
    """The numbers that the verdict says are above zero."""
    return [witness for witness in finding.witnesses if not witness.zero]


def one_claim(name: str) -> Claim:
    """The claim of that id. Raises ValueError with near ids."""
    for claim in CLAIMS:
        if claim.id == name:
            return claim
    known = [claim.id for claim in CLAIMS]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.3) or known[:5]
    raise ValueError(f"no claim {name!r}; near ones: {', '.join(near)}; all are in paper_checks.md")


def cells(claim: Claim, finding: Finding) -> list[str]:
    """One row of the table, cell by cell."""
    number = finding.number
    if finding.verdict is Verdict.HOLDS and finding.reason:
        number += f"; {finding.reason}"
    return [
        claim.id,
        claim.claim,
        f'"{QUOTES[claim.id]}"',
        claim.place,
        verdict(finding),
        V5.get(claim.id, UNKNOWN),
        number or "none",
        "; ".join(f"`{line}`" for line in finding.lines) or "none",
        *(f"`{name}`" if name else "none" for name in (claim.function, claim.test, claim.experiment)),
    ]


def row(claim: Claim, finding: Finding) -> str:
    """One line of the table."""
    return "| " + " | ".join(map(without_pipes, cells(claim, finding))) + " |"


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
                "words": QUOTES[claim.id],
                "verdict": finding.verdict.value,
                "proved": "every value below is greater than 0: its ball excludes 0",
                "values": [witness.record() for witness in proved(finding)],
            }
            texts[f"{claim.id}.json"] = json.dumps(about, indent=1) + "\n"
    return texts
