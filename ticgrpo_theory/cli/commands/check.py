"""`ticgrpo check`: what does a loss estimate?"""

from pathlib import Path
from typing import Annotated

import tyro


def check(
    specs: Annotated[tuple[str, ...], tyro.conf.Positional],
    *,
    scope: str = "group",
    prompts: int | None = None,
    arg: tuple[str, ...] = (),
    advantage: str | None = None,
    rows: str | None = None,
    require: str | None = None,
    fail_above: str | None = None,
    seconds: float = 30.0,
    json: bool = False,
    markdown: bool = False,
    html: Path | None = None,
) -> int:
    """What does a loss estimate? Exact over every group of tiny worlds, in seconds, before you trust it.

    SPEC is file.py:name, module:name or a name of the catalogue: an objective(batch), which is maximised, a
    loss of logp, logp_old, advantages and mask by any of their usual names, which is minimised, an Estimator
    or from_loss(...). Checking runs that code on this machine.

    Exit code: 0, 3 where a required row fails or has no answer, 1 where a loss gives no number at all.

    ticgrpo check grpo trajectory_is

    ticgrpo check mine.py:loss --require sign,mask,unbiased_on_policy

    ticgrpo check mine.py:loss --rows unbiased_on_policy --fail-above 5deg --json

    ticgrpo check mine.py:mine --scope batch --prompts 2 --rows mask,order

    Args:
        specs: What to check.
        scope: "group", or "batch" for a loss that is given the rows of a whole update.
        prompts: Groups of that update.
        arg: NAME=VALUE of another argument of the loss; may be repeated.
        advantage: What a loss of four arguments is fed, by name; leave_one_out unless given.
        rows: The rows to answer, with commas between; all unless given.
        require: Rows that must hold, with commas between.
        fail_above: Angle that unbiased rows may have, such as 5deg.
        seconds: Longest time for one row.
        json: Print JSON, of schema 1.
        markdown: Print Markdown.
        html: Write one page to this file.
    """
    import contextlib
    import sys

    from ticgrpo_theory.cli.answers import check as cards

    with contextlib.redirect_stdout(sys.stderr):
        reports = cards.reports_of(specs, scope, prompts, arg, advantage, rows, fail_above, seconds)
    cards.give(reports, json=json, markdown=markdown, html=html)
    return cards.exit_code(reports, require)
