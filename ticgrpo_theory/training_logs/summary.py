"""Everything that is said of logged runs, as rows: aggregates only, no number of a single step.

    kind         what `value` is
    mean         mean of `metric` over the steps of a window
    spread       sd between near-identical runs of such means; `run_limit`: what two single runs may differ by
    difference   mean of (run - versus); `error`, `step_limit` from step noise; `verdict`
    ratio        diagnostic `metric` of the trajectory ratio, see log_ratio.LogRatio
    statement    the logged number; what a paper `says` needs one from `low` to `high`

A spread is known for one metric of one family of runs; it is carried over, quarter by quarter, to runs of
another size or task, which is an assumption.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from ticgrpo_theory.training_logs.comparison import (
    BLOCKS,
    Spread,
    Window,
    difference,
    spread,
    verdict,
    windows_of,
)
from ticgrpo_theory.training_logs.log_ratio import DIAGNOSTICS, NEEDED, log_ratio
from ticgrpo_theory.training_logs.paper import Statement
from ticgrpo_theory.training_logs.runs import Logs, Run

COMPARED = (
    "reward",
    "validation",
    "length",
    "entropy",
    "clip_fraction",
    "dual_clip_fraction",
    "gradient_norm",
)

EMPTY: dict[str, Any] = {
    "kind": "",
    "family": "",
    "run": "",
    "versus": "",
    "metric": "",
    "window": "",
    "first_step": 0,
    "last_step": 0,
    "steps": 0,
    "value": math.nan,
    "error": math.nan,
    "step_limit": math.nan,
    "run_limit": math.nan,
    "low": math.nan,
    "high": math.nan,
    "verdict": "",
    "says": "",
    "place": "",
    "remark": "",
}
MAY_BE_MISSING = ("value", "error", "step_limit", "run_limit", "low", "high")


def summary(
    logs: Logs,
    *,
    repeats: Sequence[Run] = (),
    pairs: Iterable[tuple[str, str]] = (),
    statements: Sequence[Statement] = (),
    parts: int = 4,
    reading_error: float = 0.005,
) -> list[dict[str, Any]]:
    """All rows. `repeats` are near-identical runs; `pairs` (run, versus) are compared across families too.

    Runs of one family are compared with each other, near-identical ones are not. `reading_error` is added to
    the limit where a curve was read off a picture.
    """
    if repeats and len(repeats) < 3:
        raise ValueError(
            f"{len(repeats)} near-identical runs tell no spread; name at least 3, or none and do without"
        )
    between = _spreads(repeats, parts)
    made = [_spread_row(window, found, repeats) for window, found in between.values()]
    same = {run.name for run in repeats}
    for family in dict.fromkeys(run.family for run in logs.runs):
        runs = logs.family(family)
        made += _means(runs, parts)
        compared = [(b, a) for a, b in combinations(runs, 2) if not {a.name, b.name} <= same or repeats == ()]
        made += _differences(compared, between, parts, reading_error)
    across = [(logs.run(run), logs.run(versus)) for run, versus in pairs]
    made += _differences(across, between, parts, reading_error)
    for run in logs.runs:
        if all(len(run.metric(name)) >= 2 * BLOCKS for name in NEEDED):
            made += _ratio_rows(run)
    return made + [_statement_row(statement) for statement in statements]


def _row(**values: Any) -> dict[str, Any]:
    return {**EMPTY, **values}


def _over(window: Window, **values: Any) -> dict[str, Any]:
    """A row about the steps of a window."""
    return _row(window=window.name, first_step=window.first, last_step=window.last, **values)


def _spreads(repeats: Sequence[Run], parts: int) -> dict[str, tuple[Window, Spread]]:
    if not repeats:
        return {}
    found = {w.name: (w, spread(repeats, "reward", w)) for w in windows_of(repeats, "reward", parts)}
    return {name: (window, value) for name, (window, value) in found.items() if value is not None}


def _spread_row(window: Window, found: Spread, repeats: Sequence[Run]) -> dict[str, Any]:
    return _over(
        window,
        kind="spread",
        family=repeats[0].family,
        run=", ".join(sorted(run.name.rpartition("/")[2] for run in repeats)),
        metric="reward",
        steps=window.last - window.first + 1,
        value=found.sd,
        run_limit=found.limit,
        remark=f"{found.runs} runs; the two farthest apart differ by {found.widest:.4f}",
    )


def _windows(runs: Sequence[Run], metric: str, parts: int) -> tuple[Window, ...]:
    """The windows of these runs; the whole, or none, where they are too short."""
    having = [run for run in runs if len(run.metric(metric)) >= 2 * BLOCKS]
    for fewer in (parts, 1):
        if having and min(run.last(metric) for run in having) >= fewer * 2 * BLOCKS:
            return windows_of(having, metric, fewer)
    return ()


def _means(runs: Sequence[Run], parts: int) -> list[dict[str, Any]]:
    made = []
    for metric in COMPARED:
        # A run that was cut off early would leave the others next to no window.
        longest = max(run.last(metric) for run in runs)
        far = [run for run in runs if run.last(metric) and run.last(metric) >= longest / 2]
        for window in _windows(far, metric, parts):
            for run in runs:
                values = window.of(run.metric(metric))
                if len(values) >= 2 * BLOCKS:
                    made.append(
                        _over(
                            window,
                            kind="mean",
                            family=run.family,
                            run=run.name,
                            metric=metric,
                            steps=len(values),
                            value=float(values.mean()),
                            remark=" ".join(filter(None, [_seen(run), run.certainty])),
                        )
                    )
    return made


def _seen(run: Run) -> str:
    return "read off a picture;" if run.digitised else ""


def _differences(
    compared: Iterable[tuple[Run, Run]],
    between: dict[str, tuple[Window, Spread]],
    parts: int,
    reading_error: float,
) -> list[dict[str, Any]]:
    made = []
    for run, versus in compared:
        bias = reading_error if run.digitised or versus.digitised else 0.0
        for metric in COMPARED:
            if not (len(run.metric(metric)) and len(versus.metric(metric))):
                continue
            for window in _windows((run, versus), metric, parts):
                found = difference(versus.metric(metric), run.metric(metric), window, bias)
                if found is None:
                    continue
                known = between.get(window.name, (None, None))[1] if metric == "reward" else None
                doubts = [f"{x.name}: {x.certainty}" for x in (run, versus) if x.certainty]
                made.append(
                    _over(
                        window,
                        kind="difference",
                        family=run.family if run.family == versus.family else "across",
                        run=run.name,
                        versus=versus.name,
                        metric=metric,
                        steps=found.steps,
                        value=found.value,
                        error=found.error,
                        step_limit=found.step_limit,
                        run_limit=math.nan if known is None else known.limit,
                        verdict=verdict(found, known),
                        remark="; ".join(doubts),
                    )
                )
    return made


def _ratio_rows(run: Run) -> list[dict[str, Any]]:
    found = log_ratio(run)
    return [
        _row(
            kind="ratio",
            family=run.family,
            run=run.name,
            metric=name,
            steps=found.steps,
            value=float(getattr(found, name)),
        )
        for name in DIAGNOSTICS
    ]


def _statement_row(found: Statement) -> dict[str, Any]:
    return _row(
        kind="statement",
        run=found.run,
        metric=found.quantity,
        window=found.name,
        value=found.value,
        low=found.low,
        high=found.high,
        verdict=found.judgement,
        says=found.says,
        place=found.place,
        remark=found.remark,
    )
