"""No number of README, notebooks or titles of figures is typed: it is computed, or names something."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from tests.experiments.prose import SETTINGS, STRUCTURAL, numbers, of_notebook, titles
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.stats.power_law import fit_power_law

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "figures").glob("*.ipynb"))
PLOTS = sorted((ROOT / "ticgrpo_theory" / "plots").glob("*.py"))


def rows(name: str) -> pd.DataFrame:
    return results_file.read(name, folder=ROOT / "results")


def of_titles(code: str) -> list[str]:
    return [number for text in titles(code) for number in numbers(text, allowed=SETTINGS + STRUCTURAL)]


def growth_of_the_token_ratio() -> str:
    made = rows("bias_vs_K")
    of = made[(made.world == "right-answer") & (made.estimator == "grpo") & (made.k > 0)].sort_values(
        ["eta", "k"]
    )
    fit = fit_power_law((of.eta * of.k).to_numpy(), of.bias_current_scaled.to_numpy())
    return f"to the power {fit.slope:.2f} of the step"


def rounding_of_the_trajectory_ratio() -> str:
    made = rows("bias_vs_K")
    of = made[made.world.isin(["right-answer", "count-mod-3"]) & (made.estimator == "trajectory_is")]
    return f"at most {of.bias_current_scaled.max():.1g}"


def rest_of_grpo() -> str:
    made = rows("length_bias")
    points = made[made.estimator == "grpo"].fixed_point
    best = made[made.estimator == "dr_grpo"].fixed_point
    assert points.max() - points.min() < 1e-6 and best.max() - best.min() < 1e-6
    return f"fixed point {points.mean():.4f} instead of {best.mean():.2g}"


def noise_of_long_responses() -> str:
    made = rows("variance_vs_T")
    made = made[(made.world == "majority") & (made.drift == made.drift.max())]
    last = made[made["T"] == made["T"].max()].iloc[0]
    return f"{last.variance_trajectory / last.variance_token:.1f} times the variance at {last['T']} tokens"


def bounds_that_hold() -> str:
    made = rows("theorem_bounds")
    return f"{made.violations.sum()} violations in {len(made):,} bounds"


def what_the_logged_kl_explains() -> str:
    made = rows("authors_logs_summary")
    (value,) = made[(made.kind == "ratio") & (made.metric == "explained")].value
    return f"{value:.1%} of the variance"


def oldest_python() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"Python {project['requires-python'].removeprefix('>=')} or newer"


def pinned_torch() -> str:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return f"PyTorch {re.search(r'^torch==([0-9.]+)', pins, re.MULTILINE)[1]}"


PHRASES: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        growth_of_the_token_ratio,
        rounding_of_the_trajectory_ratio,
        rest_of_grpo,
        noise_of_long_responses,
        bounds_that_hold,
        what_the_logged_kl_explains,
        oldest_python,
        pinned_torch,
    )
}


@pytest.fixture(scope="module")
def phrases() -> list[str]:
    return [phrase() for phrase in PHRASES.values()]


@pytest.mark.parametrize("name", PHRASES)
def test_the_readme_says_what_the_results_say(name):
    assert PHRASES[name]() in " ".join(README.split()), "the results, or the README, have changed"


def test_the_readme_has_no_other_number(phrases):
    assert numbers(README, phrases) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_number_is_typed_into_the_prose_of_a_notebook(path):
    typed = of_notebook(nbformat.read(path, as_version=4))
    assert [number for text in typed for number in numbers(text)] == []


@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_no_number_is_typed_into_the_title_of_a_figure(path):
    assert of_titles(path.read_text(encoding="utf-8")) == []


WRONG = (
    "a floor of 1.045e-2",
    "12 % faster",
    "95 of the runs",
    "ahead in 3 of 4 worlds",
    "the error is 0.97",
    "gains 2x",
    "by Eq. 7 it is 1e-3",
    "twice, 12, or more",
    "(0.5)",
)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_number_that_somebody_typed_is_caught_wherever_it_stands(wrong, phrases):
    assert numbers(f"{README}\n\nIt is {wrong}.\n", phrases)
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell(f'made = 1\nsay(f"So {{made:.2f}} and {wrong}.")')]
    assert [number for text in of_notebook(notebook) for number in numbers(text)]
    assert of_titles(f'ax.set_title(rf"It is {wrong}")')
    assert of_titles(f'CAPTION = "It is {wrong}"\nfigure.supxlabel(CAPTION, fontsize=7)')


@pytest.mark.parametrize("name", PHRASES)
def test_a_digit_that_differs_from_the_results_is_caught(name, phrases):
    right = PHRASES[name]()
    digit = re.search(r"\d(?=\D*$)", right)
    changed = (int(digit[0]) + 1) % 10
    other = f"{right[: digit.start()]}{changed}{right[digit.end() :]}"
    page = " ".join(README.split()).replace(right, other)
    assert numbers(page, phrases), other


def test_numbers_that_are_computed_or_that_name_something_are_none():
    code = 'say(f"By {x:.2f} times, {100 * y:.1%}, of Qwen3-1.7B-Base in Eq. 7 and 11, O(1/G^2), A < 0.")'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    assert [number for text in of_notebook(notebook) for number in numbers(text)] == []
