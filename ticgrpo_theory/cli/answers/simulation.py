"""Both algorithms, simulated: J and grad J at every outer step, means with intervals."""

import math
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ticgrpo_theory.bounds.certificates import check_c1
from ticgrpo_theory.cli.answers.means import never_drawn
from ticgrpo_theory.cli.options import Runs
from ticgrpo_theory.cli.output import Answer, bar, heading, table
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.dynamic.measures import lost_mass
from ticgrpo_theory.simulate.algorithm import simulate
from ticgrpo_theory.simulate.trace import Trace
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds.samplers import parse_sampler

RECORDS = 10
"""Most outer steps whose numbers are in the answer."""


def answer(request: Request, runs: Runs, folder: Path | None, trust: bool = False) -> Answer:
    """One entry for each estimator; the random numbers are the same for all."""
    if runs.replicates < 2:
        raise ValueError(f"replicates = {runs.replicates}: an interval needs the spread of at least 2")
    sampler = None if runs.sampler is None else parse_sampler(runs.sampler)
    settings = {**asdict(runs), "sampler": sampler}
    traces = {}
    with bar() as progress:
        for name, estimator in request.estimators.items():
            task = progress.add_task(name, total=runs.replicates * runs.outer_steps)
            traces[name] = simulate(
                request.mdp,
                request.theta_old,
                estimator,
                group_size=request.group_size,  # type: ignore[arg-type]
                theta_ref=request.reference(estimator),
                folder=None if folder is None else folder / re.sub(r"[^\w.=-]+", "_", name),
                save_seconds=10.0,
                trust=trust,
                progress=lambda done, task=task: progress.update(task, completed=done),
                **settings,
            )
    found = [entry(request, name, trace) for name, trace in traces.items()]
    said = {name: value for name, value in asdict(runs).items() if name != "sampler"}
    if sampler is not None:
        drawn = sampler(request.theta_old)
        lost = [q * lost_mass(one.graph, request.theta_old, drawn) for q, one in request.mdp.prompts]
        said |= {"sampler": f"{sampler}", "lost_mass": sum(lost)}
    return {**request.head(), **said, "estimators": found, "differences": differences(traces)}


def entry(request: Request, name: str, trace: Trace) -> dict[str, Any]:
    """Means and half widths of 95 % intervals, and whether C1 holds for every replicate."""
    check = check_c1(request.mdp, trace)
    J, squares = interval(trace.expected_return), interval(trace.gradient_norm_sq)
    last, mean = interval(trace.final_return), interval(trace.gradient_norm_sq.mean(dim=1))
    N = len(trace.steps)
    shown = range(0, N, math.ceil(N / RECORDS))
    rows = [
        {
            "n": int(trace.steps[i]),
            "expected_return": float(J.mean[i]),
            "expected_return_half": float(J.half[i]),
            "gradient_norm_sq": float(squares.mean[i]),
            "gradient_norm_sq_half": float(squares.half[i]),
        }
        for i in shown
    ]
    return {
        "estimator": name,
        "rows": rows,
        "final_return": float(last.mean),
        "final_return_half": float(last.half),
        "mean_gradient_norm_sq": float(mean.mean),
        "mean_gradient_norm_sq_half": float(mean.half),
        "c1_holds": check.holds,
        "c1_least_slack": float(check.slack.min()),
    }


def differences(traces: dict[str, Trace]) -> list[dict[str, Any]]:
    """J_N of each estimator minus that of the first, replicate by replicate; all intervals hold together."""
    first, *others = traces
    comparable = partial(interval, comparisons=max(1, len(others)))
    made = [(name, comparable(traces[name].final_return - traces[first].final_return)) for name in others]
    return [
        {"estimator": name, "minus": first, "final_return": float(x.mean), "final_return_half": float(x.half)}
        for name, x in made
    ]


def show(found: Answer, console: Console) -> None:
    if found.get("lost_mass"):
        console.print(
            never_drawn(found["sampler"], found["lost_mass"], "the first theta_old"), soft_wrap=True
        )
    console.print(
        f"{heading(found)}; eta = {found['learning_rate']:g}, K = {found['inner_steps']}, "
        f"N = {found['outer_steps']}, {found['replicates']} replicates, {found['batches']} groups"
    )
    for entry in found["estimators"]:
        rows = [
            {
                "n": row["n"],
                "J": with_half(row, "expected_return"),
                "g": with_half(row, "gradient_norm_sq"),
            }
            for row in entry["rows"]
        ]
        console.print(entry["estimator"])
        console.print(table({"n": "n", "J": "J", "g": "||grad J||^2"}, rows))
        verdict = "holds for every replicate" if entry["c1_holds"] else "is violated"
        console.print(
            f"J_N = {with_half(entry, 'final_return')}; mean ||grad J||^2 = "
            f"{with_half(entry, 'mean_gradient_norm_sq')}"
        )
        console.print(f"C1 {verdict}, least slack {entry['c1_least_slack']:.3g}")
    for each in found["differences"]:
        console.print(
            f"J_N of {each['estimator']} minus {each['minus']}: {with_half(each, 'final_return')}, paired"
        )


def with_half(row: dict[str, Any], name: str) -> str:
    """mean +- half of its interval."""
    return f"{row[name]:.5f} +- {row[f'{name}_half']:.5f}"
