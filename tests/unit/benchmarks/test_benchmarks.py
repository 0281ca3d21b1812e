"""Benchmarks run by hand only: here every name that they import is looked up, and a lost one is named."""

import ast
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
OURS = ("ticgrpo_theory", "llm", "experiments", "tests")


def imported(script: Path) -> list[tuple[str, str]]:
    """(module, name) of everything of this project that a script imports, inside functions too."""
    found = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in found if (node.module or "").partition(".")[0] in OURS]
    return [(str(node.module), alias.name) for node in ours for alias in node.names]


def missing(names: list[tuple[str, str]]) -> list[str]:
    """Those that are no more, neither as a name in the module nor as a module of their own."""
    gone = []
    for module, name in names:
        if not hasattr(importlib.import_module(module), name):
            try:
                importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError:
                gone.append(f"{module}.{name}")
    return gone


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_imports_only_what_is_there(script):
    assert missing(imported(script)) == []


def test_a_name_that_is_gone_would_be_named():
    gone = "ticgrpo_theory.exact.moments.spread"
    assert missing([(gone, "spread"), (gone, "group_square")]) == [f"{gone}.group_square"]
    assert sum(len(imported(script)) for script in SCRIPTS) > 20
