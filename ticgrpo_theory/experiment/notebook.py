"""What the notebooks of figures/ are made of: rows of results, their figures, and prose around their numbers.

    made = rows("bias_vs_K")                 # the committed rows of experiments/bias_vs_K.py
    say(f"The error is {made.drift.max():.2g}.")    # numbers in prose are computed where they are read
    show("bias_vs_K")                        # drawn by the experiment itself

Nothing is computed that takes long: a result that is missing, or of another version of its experiment, is a
ValueError with the command that makes it. Results are those of this checkout, or those in the folder that the
environment variable TICGRPO_RESULTS names.
"""

import functools
import io
import os
from pathlib import Path
from types import ModuleType

import pandas as pd
import PIL.Image
from IPython.display import Image, Markdown
from matplotlib.figure import Figure

from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.imports import module_at
from ticgrpo_theory.experiment.source import find
from ticgrpo_theory.plots import curves as plots_curves
from ticgrpo_theory.training_logs.tables import read_tables

ROOT = Path(__file__).parents[2]

RESULTS = "TICGRPO_RESULTS"
"""Environment variable: a folder of results other than that of the checkout."""

TABLES = "TICGRPO_TABLES"
"""Environment variable: a folder of tables of the published training runs."""


@functools.cache
def script(name: str) -> ModuleType:
    """experiments/<name>.py as a module, for what it says about its own rows; ValueError if there is none."""
    return module_at(find(name, ROOT).place, str(ROOT))


@functools.cache
def rows(name: str) -> pd.DataFrame:
    """The rows that experiments/<name>.py wrote; a ValueError names the command where there are none."""
    made = script(name).EXPERIMENT
    return results_file.read(
        made.name,
        results_version=made.version,
        folder=Path(os.environ.get(RESULTS, ROOT / "results")),
        command=f"python experiments/{name}.py",
    )


def show(name: str) -> Image:
    """The figure of experiments/<name>.py, drawn from its rows."""
    return picture(script(name).EXPERIMENT.draw(rows(name)), name)


def picture(figure: Figure, name: str) -> Image:
    """A figure as a notebook holds it: few colours make it a third as large, and look the same."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    PIL.Image.open(drawn).convert("RGB").quantize(128).save(small, format="png", optimize=True)
    return Image(small.getvalue(), alt=name)


def published_curves() -> Image | Markdown:
    """The curves behind Figures 1 and 2, from the tables in the folder that TICGRPO_TABLES names.

    They are not the project's to redistribute: without the folder a sentence says how to draw them. Raises
    ValueError for tables that cannot be read.
    """
    folder = os.environ.get(TABLES)
    if folder is None:
        return say(
            f"The curves of every step are not kept here. Set {TABLES} to a folder with the tables that "
            f"`experiments/authors_logs.py` describes, and this cell draws them."
        )
    return picture(plots_curves.curves(read_tables(Path(folder)).runs), "curves of the published runs")


def say(*paragraphs: str) -> Markdown:
    """Prose; its numbers stand in braces of f-strings, never in the text."""
    return Markdown("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def table(frame: pd.DataFrame) -> Markdown:
    """A small table; the texts of its cells are computed before."""
    cells = [[cell.replace("|", r"\|") for cell in line] for line in frame.astype(str).to_numpy().tolist()]
    lines = [list(frame.columns), ["---"] * len(frame.columns), *cells]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))
