"""Execute the notebooks of this folder from results/ and keep what they say and draw.

    python figures/execute.py                     # all of them
    python figures/execute.py bias

They are committed as executed, since their numbers are computed: without outputs a reader would see none.
Times and versions of a run are not kept, so that an unchanged result leaves an unchanged file.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import nbformat
import tyro
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console

from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.experiment.notebook import RESULTS

HERE = Path(__file__).parent
LIMIT = 120
"""Seconds that a cell may take."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """Which notebooks, and from which results."""

    notebooks: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of notebooks in the folder of figures; all of them if none is given."""


@contextmanager
def kernel() -> Iterator[AsyncKernelManager]:
    """One process for several notebooks with the same results: what they import takes longer than they do."""
    manager = AsyncKernelManager(kernel_name="python3")
    try:
        yield manager
    finally:
        if manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)


def executed(path: Path, results: Path, manager: AsyncKernelManager) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, blind to names of others; CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=LIMIT,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # each kernel warns that it is reached over TCP
    )
    root = str(HERE.parent.resolve())
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {RESULTS: str(results.resolve()), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    try:
        client.execute(env=environment)
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    del notebook.cells[0]
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


def said(notebook: nbformat.NotebookNode) -> list[str]:
    """Every text that the cells put out, pictures left out: those depend on fonts."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs]
    return [data["text/markdown"] for data in shown if "text/markdown" in data]


def main(cfg: Config) -> None:
    there = {path.stem: path for path in sorted(cfg.figures.glob("*.ipynb"))}
    unknown = [name for name in cfg.notebooks if name not in there]
    if unknown or not there:
        raise ValueError(f"no notebook {', '.join(unknown)} in {cfg.figures}: choose from {', '.join(there)}")
    failed = []
    with kernel() as manager:
        for name in cfg.notebooks or there:
            began = time.perf_counter()
            try:
                notebook = executed(there[name], cfg.results, manager)
            except CellExecutionError as error:
                failed.append(f"{there[name]}: {error.ename}: {error.evalue}")
                continue
            replace_files({there[name]: (nbformat.writes(notebook) + "\n").encode()})
            Console().print(f"{there[name]} in {time.perf_counter() - began:.1f} s")
    if failed:
        raise ValueError("; ".join(failed))


if __name__ == "__main__":
    experiment.command(main, Config, __doc__)
