"""The terms of Eq. 7 and 11 of arXiv:2508.02833 v2, as printed and as corrected."""

import dataclasses

from rich.console import Console

from ticgrpo_theory.cli.answers.means import Means
from ticgrpo_theory.cli.options import Drift, Listing
from ticgrpo_theory.cli.output import Answer, heading, one_by_one, placed, table
from ticgrpo_theory.cli.request import Request
from ticgrpo_theory.exact.decomposition.expected_terms import decompose


def answer(request: Request, drift: Drift) -> Answer:
    """One entry for each estimator, at its own theta."""
    found = []
    for name in one_by_one(list(request.estimators), str):
        at = Means(request, name, Listing()).moved(drift)
        made = decompose(request.mdp, at.theta, request.theta_old, at.given, request.group_size)
        found.append(
            {
                "estimator": name,
                "drift": at.drift,
                "total_norm": float(made.total.norm()),
                "corrected_norms": {term: float(x.norm()) for term, x in made.terms.items()},
                "printed_norms": {term: float(x.norm()) for term, x in made.printed_terms.items()},
                "residual_corrected": made.residual_corrected,
                "residual_printed": made.residual_printed,
                "constants": [dataclasses.asdict(constants) for constants in made.constants],
                "total": made.total,
                "terms": made.terms,
                "printed_terms": made.printed_terms,
            }
        )
    return {**request.head(), **placed(drift), "estimators": found}


def show(found: Answer, console: Console) -> None:
    console.print(heading(found))
    for entry in found["estimators"]:
        corrected, printed = entry["corrected_norms"], entry["printed_norms"]
        rows = [
            {"term": term.replace("_", " "), "printed": printed.get(term), "corrected": corrected.get(term)}
            for term in {**corrected, **printed}
        ]
        residual = {"printed": entry["residual_printed"], "corrected": entry["residual_corrected"]}
        rows.append({"term": "residual", **residual})
        title = f"{entry['estimator']}: ||E g|| = {entry['total_norm']:.5g}; norms of the terms"
        console.print(title)
        console.print(table({x: x for x in ("term", "printed", "corrected")}, rows))
