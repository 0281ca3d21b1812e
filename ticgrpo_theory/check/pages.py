"""Reports as pages: Markdown for pull requests and step summaries, one self-contained HTML file."""

import math
from collections.abc import Sequence
from html import escape

from ticgrpo_theory.check.row import Reported, Row

SIGNS = {True: "holds", False: "**fails**", None: "no answer"}


def markdown(reports: Sequence[Reported]) -> str:
    """One page of all reports, a comparison first where there are several."""
    parts = [compared(reports)] if len(reports) > 1 else []
    for report in reports:
        lines = [
            f"### {cell(report.name)}",
            "",
            f"**{cell(report.verdict)}**",
            "",
            "| row | | number | found |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {row.name} | {SIGNS[row.holds]} | {number(row)} | {cell(found(row))} |" for row in report.rows
        ]
        for row in report.rows:
            if row.holds is False and row.witness:
                lines += [
                    "",
                    f"<details><summary>{row.name}: the smallest case</summary>",
                    "",
                    "```text",
                    row.witness,
                    "```",
                    f"`{row.command}`",
                    "</details>",
                ]
        lines += ["", *(f"- {cell(note)}" for note in (*report.conventions, *report.notes))]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def compared(reports: Sequence[Reported]) -> str:
    """A row for each question, a column for each loss."""
    names = list(dict.fromkeys(row.name for report in reports for row in report.rows))
    lines = [
        "| row | " + " | ".join(cell(report.name) for report in reports) + " |",
        "|---" * (len(reports) + 1) + "|",
    ]
    for name in names:
        each = [next((row for row in report.rows if row.name == name), None) for report in reports]
        said = [f"{SIGNS[row.holds]} {number(row)}".strip() if row else "" for row in each]
        lines.append(f"| {name} | {' | '.join(said)} |")
    return "\n".join(lines)


def number(row: Row) -> str:
    """The number with its unit."""
    if row.number is None:
        return ""
    angles = row.name == "sign" or row.name.startswith("unbiased") or row.name == "sampler"
    if angles:
        return f"{row.number:.3g} deg" if row.number > 1e-6 else "0 deg"
    return f"{row.number:.3g}"


def found(row: Row) -> str:
    """What a row found, in one line."""
    parts = [
        row.how if row.holds else "",
        row.detail,
        f"cause: {row.cause}" if row.cause else "",
        f"cure: {row.cure}" if row.cure else "",
    ]
    return "; ".join(part for part in parts if part)


def cell(text: str) -> str:
    """Text that no table breaks on."""
    return " ".join(text.split()).replace("|", "\\|")


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3em .6em;"
    "text-align:left;vertical-align:top}.holds{color:#1b6e2e}.fails{color:#a4161a;font-weight:bold}"
    ".none{color:#666}pre{background:#f4f4f4;padding:1em;overflow-x:auto}.verdict{font-weight:bold}"
)


def html(reports: Sequence[Reported]) -> str:
    """One page that needs no other file."""
    body = "".join(section(report) for report in reports)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<title>What does this loss estimate?</title>"
        f"<style>{STYLE}</style></head><body><h1>What does this loss estimate?</h1>{body}</body></html>\n"
    )


def section(report: Reported) -> str:
    """The card of one loss."""
    kinds = {True: "holds", False: "fails", None: "none"}
    rows = "".join(
        f'<tr><td>{escape(row.name)}</td><td class="{kinds[row.holds]}">{SIGNS[row.holds].strip("*")}</td>'
        f"<td>{escape(number(row))}{picture(row)}</td><td>{escape(found(row))}"
        + (f"<pre>{escape(row.witness)}</pre>" if row.witness else "")
        + "</td></tr>"
        for row in report.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*report.conventions, *report.notes))
    return (
        f'<h2>{escape(report.name)}</h2><p class="verdict">{escape(report.verdict)}</p><table><tr>'
        f"<th>row</th><th></th><th>number</th><th>found</th></tr>{rows}</table><ul>{notes}</ul>"
    )


def picture(row: Row) -> str:
    """Two arrows: grad J along the axis, and E[g] at the angle that was found."""
    if row.number is None or not (row.name == "sign" or row.name.startswith("unbiased")) or row.holds is None:
        return ""
    x, y = 30 * math.cos(math.radians(row.number)), 30 * math.sin(math.radians(row.number))
    return (
        '<br><svg width="70" height="36" viewBox="-34 -33 68 36" role="img" aria-label="angle to grad J">'
        '<line x1="0" y1="0" x2="30" y2="0" stroke="#888" stroke-width="2"/>'
        f'<line x1="0" y1="0" x2="{x:.1f}" y2="{-y:.1f}" stroke="#a4161a" stroke-width="2"/></svg>'
    )
