"""figures/*.ipynb: each runs from results/ alone, and says what it says in the repository."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager

from tests.thinned import more, only
from ticgrpo_theory.experiment import notebook, results_file

FIGURES = Path(__file__).parents[2] / "figures"
sys.path.append(str(FIGURES))
from execute import Config, executed, kernel, main, said  # noqa: E402

NOTEBOOKS = sorted(FIGURES.glob("*.ipynb"))
RESULTS = FIGURES.parent / "results"

# A kernel talks over sockets that are still open when it has ended.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def manager() -> Iterator[AsyncKernelManager]:
    with kernel() as manager:
        yield manager


def drawn(path: Path) -> set[str]:
    """Names of the experiments whose figures a notebook shows."""
    code = "\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    )
    return set(re.findall(r'^show\("(\w+)"\)', code, re.MULTILINE))


@pytest.mark.parametrize("path", only([FIGURES / "bias.ipynb"], NOTEBOOKS), ids=lambda path: path.stem)
def test_a_notebook_runs_from_the_results_and_says_what_is_committed(path, manager):
    fresh = executed(path, RESULTS, manager)
    assert said(fresh), "a notebook without a computed word"
    committed = said(nbformat.read(path, as_version=4))
    assert said(fresh) == committed, f"the results have changed: run `make notebooks` and read {path.name}"
    shown = {output.output_type for cell in fresh.cells for output in cell.get("outputs", [])}
    assert shown == {"execute_result"}, "a warning, or something that is printed"
    pictures = [
        out for cell in fresh.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})
    ]
    assert len(pictures) == len(drawn(path))


@more
def test_a_missing_result_ends_a_notebook_with_the_command_that_makes_it(tmp_path):
    path = FIGURES / "decomposition.ipynb"
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"decomposition.*make it with `python experiments/decomposition_terms\.py`"
    ):
        main(Config(notebooks=("decomposition",), results=tmp_path, figures=FIGURES))
    assert path.read_bytes() == before


def test_a_notebook_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no notebook bais in .*choose from .*bias"):
        main(Config(notebooks=("bais",), figures=FIGURES))


@more
def test_other_rows_make_other_prose(tmp_path):
    path = FIGURES / "decomposition.ipynb"
    made = results_file.read("decomposition_terms", folder=RESULTS)
    changed = made.assign(value=made.value.where(made.quantity != "sampling_error_2", 2 * made.value))
    rows = changed.to_dict("records")
    results_file.write(
        "decomposition_terms", rows, config={}, results_version=1, seconds=0.0, folder=tmp_path
    )
    with kernel() as other:
        fresh = executed(path, tmp_path, other)
    assert said(fresh) != said(nbformat.read(path, as_version=4))


def test_every_experiment_that_draws_is_in_one_notebook():
    shown = [name for path in NOTEBOOKS for name in sorted(drawn(path))]
    scripts = {
        path.stem
        for path in (FIGURES.parent / "experiments").glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "draw"
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }
    assert sorted(shown) == sorted(scripts)


def test_the_gallery_has_every_figure_beside_the_notebook_that_shows_it():
    readme = (FIGURES.parent / "README.md").read_text(encoding="utf-8")
    cell = r'<img src="figures/(\w+)\.png"[^>]*></a><br>[^|]*\(\[notebook\]\(figures/(\w+)\.ipynb\)\)'
    gallery = re.findall(cell, readme.split("## Gallery")[1].split("\n## ")[0])
    assert sorted(gallery) == sorted((name, path.stem) for path in NOTEBOOKS for name in drawn(path))
    pictures = re.findall(r"figures/\w+\.png", readme)
    missing = {name for name in pictures if not (FIGURES.parent / name).is_file()}
    assert not missing, f"drawn by the experiment of the same name: {missing}"


def test_the_published_curves_are_drawn_where_their_tables_are_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.delenv(notebook.TABLES, raising=False)
    assert notebook.TABLES in str(notebook.published_curves().data)
    monkeypatch.setenv(notebook.TABLES, str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        notebook.published_curves()
