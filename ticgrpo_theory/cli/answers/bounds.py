"""Constants of an instance, and the two convergence theorems with them."""

import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from torch import Tensor

from ticgrpo_theory.bounds.best_return import optimum
from ticgrpo_theory.bounds.constants import MEANING, InstanceConstants, instance_constants
from ticgrpo_theory.bounds.theorems import Bound, theorem_1, theorem_2
from ticgrpo_theory.cli.output import Answer, heading, one_by_one, table
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.objective import expected_return

GIVEN = ("estimator", "group_size", "learning_rate", "inner_steps")
"""Names in the table of constants that repeat the request."""


def answer(
    request: Request, learning_rate: float, inner_steps: int, outer_steps: int, batches: str
) -> Answer:
    """One entry for each estimator."""
    best, start = optimum(request.mdp), expected_return(request.mdp, request.theta_old)
    found = []
    for name in one_by_one(list(request.estimators), str):
        estimator = request.estimators[name]
        constants = instance_constants(request.mdp, estimator, request.group_size, learning_rate, inner_steps)
        theorems = [
            said(
                theorem(constants, initial_return=start, outer_steps=outer_steps, best=best, batches=batches)
            )
            for theorem in (theorem_1, theorem_2)
        ]
        found.append(
            {"estimator": name, "constants": tabled(constants, request.theta_old), "theorems": theorems}
        )
    steps = {"learning_rate": learning_rate, "inner_steps": inner_steps, "outer_steps": outer_steps}
    returns = {"initial_return": start, "best_return": asdict(best)}
    return {**request.head(), **steps, "batches": batches, **returns, "estimators": found}


def tabled(constants: InstanceConstants, theta_old: Tensor) -> dict[str, dict[str, Any]]:
    """Value, meaning and how it is known, or why it is not; functions of the policy at theta_old."""

    def value(name: str) -> Any:
        found = constants.values.get(name)
        return found(theta_old) if callable(found) else found

    return {
        name: {
            "value": value(name),
            "meaning": meaning,
            "note": constants.notes.get(name, "") if name in constants else constants.why_not(name),
        }
        for name, meaning in MEANING.items()
        if name not in GIVEN
    }


def said(bound: Bound) -> dict[str, Any]:
    return {
        "name": bound.name,
        "applies": bound.applies,
        "right": bound.right,
        "terms": dict(bound.terms),
        "conditions": [asdict(hypothesis) for hypothesis in bound.hypotheses],
    }


def show(found: Answer, console: Console) -> None:
    best = found["best_return"]
    sign = "=" if best["exact"] else "<="
    console.print(
        f"{heading(found)}; eta = {found['learning_rate']:g}, K = {found['inner_steps']}, "
        f"N = {found['outer_steps']:,}; J_1 = {found['initial_return']:.5g}, J* {sign} {best['value']:.5g}"
    )
    for entry in found["estimators"]:
        rows = [
            {"name": name, "value": value_of(of["value"]), "meaning": explained(of)}
            for name, of in entry["constants"].items()
        ]
        columns = {"name": "constant", "value": "value", "meaning": "meaning"}
        console.print(entry["estimator"])
        made = table(columns, rows)
        made.columns[2].justify = "left"
        console.print(made)
        for theorem in entry["theorems"]:
            terms = " + ".join(f"{value:.4g} ({name})" for name, value in theorem["terms"].items())
            said = f" = {terms}" if terms else ", says nothing here"
            console.print(f"{theorem['name']}: right side {theorem['right']:.5g}{said}")
            for condition in theorem["conditions"]:
                if condition["holds"] and condition["name"].endswith("is known"):
                    continue
                holds = "holds" if condition["holds"] else "FAILS"
                console.print(f"  {holds}: {condition['name']}: {condition['detail']}")


def value_of(value: Any) -> Any:
    if value is None:
        return "absent"
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def explained(of: dict[str, Any]) -> str:
    return f"{of['meaning']} ({of['note']})" if of["note"] else of["meaning"]
