"""The findings as README.md lists them: a line for each claim that does not hold exactly as it stands."""

from collections.abc import Mapping

from ticgrpo_theory.claims.claim import Finding, Verdict
from ticgrpo_theory.claims.table import CLAIMS, counted, proved, verdict

BEGIN, END = "<!-- findings: written by experiments/paper_checks.py -->", "<!-- end of findings -->"

SECTIONS = {
    Verdict.FAILS: "What fails, with a counter-example",
    Verdict.CORRECTED: "What holds after a correction",
    Verdict.UNCHECKABLE: "What token MDPs cannot decide",
}


def findings_list(found: Mapping[str, Finding]) -> str:
    """Every claim but those that hold exactly; each links to its certificate, or to the table without one."""
    lines = [f"{len(found)} claims: {counted(found.values())}."]
    for kind, title in SECTIONS.items():
        own = [claim for claim in CLAIMS if found[claim.id].verdict is kind]
        lines += ["", f"<details><summary>{title} ({len(own)})</summary>", ""]
        for claim in own:
            finding = found[claim.id]
            link = f"results/certified/{claim.id}.json" if proved(finding) else "paper_checks.md"
            lines.append(f"- [{claim.id}]({link}) {claim.claim}: {verdict(finding)}.")
        lines += ["", "</details>"]
    return "\n".join(lines)


def with_findings(page: str, found: Mapping[str, Finding]) -> str:
    """`page` with the list between its marks written anew; ValueError where each is not there once."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after:
        raise ValueError(f"the page needs {BEGIN!r} and, after it, {END!r}, each once; put them back in")
    return f"{before}{begin}\n\n{findings_list(found)}\n\n{end}{after}"
