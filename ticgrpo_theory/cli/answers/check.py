"""The card of losses, on a terminal."""

import json as json_text
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ticgrpo_theory.check import pages
from ticgrpo_theory.check.card import check_loss
from ticgrpo_theory.check.pages import found, number
from ticgrpo_theory.check.planted import PLANTED
from ticgrpo_theory.check.report import SCHEMA, Report
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.check.spec import arguments, named
from ticgrpo_theory.cli.advantage_names import advantage_of
from ticgrpo_theory.experiment.terminal import Terminal


def show(reports: Sequence[Report], console: Console) -> None:
    """The verdict of each loss, its rows, and the smallest case of the first that fails."""
    for report in reports:
        console.print(f"{report.name}: {report.verdict}", soft_wrap=True)
        table = Table()
        for heading in ("row", "", "number", "found"):
            table.add_column(heading)
        for row in report.rows:
            table.add_row(row.name, row.said, number(row), found(row))
        console.print(table)
        failing = next((row for row in blamed_first(report) if row.witness), None)
        if failing is not None:
            console.print(f"smallest case of {failing.name} ({failing.command}):", soft_wrap=True)
            console.print(failing.witness, soft_wrap=True)
        for note in (*report.conventions, *report.notes):
            console.print(f"- {note}", soft_wrap=True)
        versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        console.print(f"{report.seconds:.1f} s; {versions}")
    if len(reports) > 1:
        compare(reports, console)


def blamed_first(report: Report) -> list[Row]:
    """Failing rows, in the order of blame."""
    return [row for row in report.rows if row.holds is False]


def compare(reports: Sequence[Report], console: Console) -> None:
    """A row for each loss, a column for each question that any of them fails."""
    names = [
        row.name
        for row in reports[0].rows
        if any(not r.row(row.name).holds for r in reports if has(r, row.name))
    ]
    table = Table()
    for heading in ("loss", *names):
        table.add_column(heading)
    for report in reports:
        cells = [report.row(name).said if has(report, name) else "" for name in names]
        table.add_row(report.name, *cells)
    console.print(table)


def has(report: Report, name: str) -> bool:
    """Whether a report has a row."""
    return any(row.name == name for row in report.rows)


def reports_of(
    specs: Sequence[str],
    scope: str,
    prompts: int | None,
    arg: tuple[str, ...],
    advantage: str | None,
    rows: str | None,
    fail_above: str | None,
    seconds: float,
) -> list[Report]:
    """A report for each SPEC; the first that was interrupted is the last. ValueError for bad input."""
    if not specs:
        raise ValueError("no SPEC: name file.py:name, module:name, or an estimator of `ticgrpo list`")
    if not seconds > 0:
        raise ValueError(f"seconds = {seconds:g}: give a time above 0")
    fed, values, found = None if advantage is None else advantage_of(advantage), arguments(arg), []
    wanted = None if rows is None else rows.split(",")
    for spec in specs:
        given = {} if fed is None else {"advantage": fed}
        found.append(
            check_loss(
                named(spec),
                arguments=values,
                scope=scope,
                prompts=prompts,
                rows=wanted,
                fail_above=fail_above,
                name=spec.rpartition(":")[2],
                seconds=seconds,
                command=f"ticgrpo check {spec}",
                **given,
            )
        )
        if found[-1].interrupted:
            break
    return found


def give(reports: Sequence[Report], *, json: bool, markdown: bool, html: Path | None) -> None:
    """Print the reports in the form that was named. Raises ValueError where two forms of stdout are."""
    if json and markdown:
        raise ValueError("--json and --markdown both print: give one of them")
    if html is not None:
        html.write_text(pages.html(reports), encoding="utf-8")
    if json:
        whole = {"schema": SCHEMA, "reports": [report.to_dict() for report in reports]}
        print(json_text.dumps(whole, indent=1, allow_nan=False))
    elif markdown:
        print(pages.markdown(reports), end="")
    else:
        show(reports, Terminal(markup=False, highlight=False))


def exit_code(reports: Sequence[Report], require: str | None) -> int:
    """0; 130 after Ctrl-C; 1 where a loss has no answer; 3 where a required row does not hold."""
    if any(report.interrupted for report in reports):
        return INTERRUPTED
    if not all(report.answered for report in reports):
        return 1
    required = [] if require is None else require.split(",")
    failing = [(report, row) for report in reports for row in report.failing(required)]
    for report, row in failing:
        print(f"required: {report.name}: {row.name}: {row.said}: {row.detail}", file=sys.stderr)
    return REQUIRED if failing else 0


REQUIRED, INTERRUPTED = 3, 130
"""Exit codes of a required row that does not hold, and of Ctrl-C."""


def demonstrate(*, json: bool) -> int:
    """The four planted bugs, each with the sentence that finds it; the last worked out in fractions."""
    reports = []
    console = Terminal(markup=False, highlight=False)
    for loss in PLANTED:
        command = f"ticgrpo check ticgrpo_theory.check.planted:{loss.__name__}"
        reports.append(check_loss(loss, rows=SHOWN, command=command))
        if not json:
            said = " ".join((loss.__doc__ or "").split())
            console.print(f"{loss.__name__}: {said}\n  -> {reports[-1].verdict}\n", soft_wrap=True)
    if json:
        give(reports, json=True, markdown=False, html=None)
        return 0
    witness = next(row.witness for row in reports[-1].rows if row.witness)
    console.print(
        f"The last of them with a pencil:\n{witness}\n\nYour own: ticgrpo check FILE.py:NAME", soft_wrap=True
    )
    return 0


SHOWN = ("sign", "finite", "mask", "padding", "microbatch", "unbiased_on_policy_any_length")
"""Rows of a demonstration of ten seconds."""
