"""What README.md shows runs as it is printed, and names only what exists."""

import re
from pathlib import Path

from tests.properties.tolerances import EXACT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def run_example(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def blocks() -> list[str]:
    """The Python of the page; each block goes on where the one before it ended."""
    return re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def example() -> str:
    return blocks()[0]


def test_the_example_runs_and_its_objective_is_unbiased_on_policy():
    names = run_example(example() + "\ngap = expected_gradient(mdp, theta, theta, mine, group_size=2)")
    exact = run_example(example() + "\ngap = policy_gradient(mdp, theta)")
    assert float((names["gap"] - exact["gap"]).abs().max()) < EXACT["atol"]
    # Partner: twice the objective is told apart.
    assert float((2 * names["gap"] - exact["gap"]).abs().max()) > 1e-3


def test_the_examples_print_what_stands_beside_them(capsys):
    names = run_example(blocks()[0])
    capsys.readouterr()
    assert len(blocks()) == 5
    for code in blocks()[1:]:
        exec(compile(code, "README.md", "exec"), names)
        (said,) = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
        assert capsys.readouterr().out.split() == said.replace(", ", " ").split()


def test_every_script_that_the_table_names_exists_and_every_script_is_in_the_table():
    named = set(re.findall(r"`(\w+\.py)`", TEXT.split("## What is here")[1].split("Ask about")[0]))
    scripts = {path.name for path in (ROOT / "experiments").glob("*.py")} - {"figures.py"}
    assert named == scripts


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^    make ([\w-]+)", TEXT, re.MULTILINE)) <= targets | {"PYTHON"}
