"""Claim: public questions about the losses of trainers are questions of expectation, and have
numbers: which reading of a line points along the gradient, and by how much the others do not.

    python experiments/questions.py

Each row is one reading of one question: an estimator or an objective written as in the thread, its exact
expectation in groups of G on a named world, and the number that decides. Policies: theta_old is the start of
the world, theta = theta_old + eta grad J(theta_old); eta = 0 is on policy. Measures:

    cosine     of E[g_hat] and grad J(theta)
    residual   ||E[g_hat] - c grad J|| / ||grad J||, c the best multiple
    scale      c itself, beside the gradient of the entropy or of the penalty where it is about those
    snr        ||E[g_hat]||^2 / variance of g_hat

Nothing is sampled. Writes results/questions.parquet, results/questions.json and figures/questions.png; 15 s
on one core. Threads are named as repository#number.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ticgrpo_theory.claims.questions.public import questions
from ticgrpo_theory.claims.questions.settings import MEASURES
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.plots import questions as plots_questions


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What points along the gradient in the lines that people ask about."""


def check(cfg: Config) -> None:
    """Nothing can be chosen."""


def keys(cfg: Config) -> list[tuple[int]]:
    return [(number,) for number in range(len(questions()))]


def cell(cfg: Config, number: int) -> list[dict[str, Any]]:
    """The readings of one question."""
    question = questions()[number]
    return [
        {
            "threads": question.threads,
            "question": question.text,
            "number": number,
            "reading": reading,
            "order": order,
            "world": setting.world,
            "group_size": setting.G,
            "policies": setting.policies,
            "prompts": str(setting.options.get("prompts", "one")),
            "measure": question.measure,
            "value": MEASURES[question.measure](setting, estimator, question.target),
        }
        for order, (reading, setting, estimator) in enumerate(question.readings)
    ]


def show(cfg: Config, rows: pd.DataFrame, console: Console) -> None:
    """Every reading with its number."""
    for _, of_one in rows.groupby("number"):
        ordered = of_one.sort_values("order")
        first = ordered.iloc[0]
        console.print(f"{first.question} ({first.threads})", highlight=False)
        table = Table("reading", "world", "G", "policies", first.measure)
        for row in ordered.itertuples():
            table.add_row(row.reading, row.world, f"{row.group_size}", row.policies, f"{row.value:.6g}")
        console.print(table)


def draw(rows: pd.DataFrame) -> Figure:
    return plots_questions.questions(rows)


# One row for each reading of a question.
EXPERIMENT = experiment.Experiment(
    name="questions",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="questions",
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
