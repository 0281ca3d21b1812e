"""What a user imports: every name there is, found in no time, and described."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jaxtyping import Float
from torch import Tensor

import ticgrpo_theory
from ticgrpo_theory.cli.main import main
from ticgrpo_theory.version import VERSION

ROOT = Path(__file__).parents[2]
FACES = (
    "mdp",
    "batch",
    "worlds",
    "estimators",
    "exact",
    "simulate",
    "bounds",
    "check",
    "power_law",
    "notebook",
)

IMPORTS = (
    "from ticgrpo_theory.mdp import TokenMDP",
    "from ticgrpo_theory.batch import Batch",
    "from ticgrpo_theory.worlds import WORLDS",
    "from ticgrpo_theory.estimators import ESTIMATORS, Estimator",
    "from ticgrpo_theory.exact import policy_gradient, expected_return, expected_gradient",
    "from ticgrpo_theory.exact import gradient_moments, reuse_bias, decompose",
    "from ticgrpo_theory.simulate import simulate",
    "from ticgrpo_theory.bounds import check_c1, instance_constants",
    "from ticgrpo_theory.estimators.scales import batch_token_mean, micro_batch_token_mean",
    "from ticgrpo_theory.estimators.advantages import batch_standardised, token_whitened",
    "from ticgrpo_theory.estimators.advantages import group_centred_batch_std",
    "from ticgrpo_theory.estimators.filters import drop_equal, overlong",
    "from ticgrpo_theory.check import check_loss, assert_loss",
    # Announced, and to be added to this list and to NAMES of the package with the code:
    # Problem (exact); truncated, masked (estimators.corrections); drop_equal, overlong (estimators.filters);
    # batch_token_mean, micro_batch_token_mean (estimators.scales).
)
"""The interface that notebooks, checks and other packages rely on."""


def shown_imports() -> Iterator[str]:
    """The lines of README.md and of the notebooks that import from here."""
    texts = [(ROOT / "README.md").read_text(encoding="utf-8")]
    for path in sorted((ROOT / "figures").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for text in texts:
        yield from re.findall(r"^(?:from|import) (?:ticgrpo_theory|llm).*$", text, re.MULTILINE)


@pytest.mark.parametrize("line", sorted({*IMPORTS, *shown_imports()}))
def test_every_import_that_is_promised_or_shown_works(line):
    exec(line, {})
    with pytest.raises(ImportError):
        exec(f"{line.partition(' import ')[0]} import no_such_name", {})


@pytest.mark.parametrize("name", sorted(ticgrpo_theory.NAMES))
def test_the_package_gives_the_very_object_of_the_module_beside_it(name):
    beside = importlib.import_module(f"ticgrpo_theory.{ticgrpo_theory.NAMES[name]}")
    assert getattr(ticgrpo_theory, name) is getattr(beside, name)
    # Every name has its line in the docstring, with that module.
    listed = [line for line in str(ticgrpo_theory.__doc__).splitlines() if re.search(rf"\b{name}\b", line)]
    assert any(f".{ticgrpo_theory.NAMES[name]} " in line for line in listed), name


def test_type_checkers_read_the_names_that_are_given():
    """Beside the imports that only they read there is one for every name."""
    tree = ast.parse(Path(str(ticgrpo_theory.__file__)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    read = {name.name for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert read == {*ticgrpo_theory.NAMES, "VERSION"}


def test_modules_and_the_version_are_attributes_and_other_names_are_refused():
    assert ticgrpo_theory.exact.policy_gradient is ticgrpo_theory.policy_gradient
    assert ticgrpo_theory.__version__ == VERSION
    assert {"expected_gradient", "exact", "__version__"} <= set(dir(ticgrpo_theory))
    with pytest.raises(
        AttributeError, match=r"no attribute 'expected_gradients'; it has .*expected_gradient"
    ):
        ticgrpo_theory.__getattr__("expected_gradients")


def test_importing_the_package_takes_no_time_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.process_time(); import ticgrpo_theory; "
        "print(time.process_time() - start, *{'numpy', 'torch', 'numba', 'pandas'} & set(sys.modules))"
    )
    seconds, *heavy = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    assert heavy == [] and float(seconds) < 0.1


def test_the_command_line_and_the_citation_say_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ticgrpo {VERSION}\n"
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["ticgrpo_theory", "llm"])
def test_the_packages_say_that_they_are_typed_and_have_no_folder_that_a_wheel_leaves_out(package):
    assert (ROOT / package / "py.typed").is_file()
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def public() -> Iterator[tuple[str, Callable[..., object]]]:
    """Functions of the faces, and public methods and properties of their classes."""
    for face in FACES:
        for name, thing in vars(importlib.import_module(f"ticgrpo_theory.{face}")).items():
            if name.startswith("_"):
                continue
            if inspect.isfunction(thing):
                yield f"{face}.{name}", thing
            for key, member in vars(thing).items() if inspect.isclass(thing) else ():
                function = getattr(member, "fget", None) or getattr(member, "func", None)
                function = function or getattr(member, "__func__", member)
                if inspect.isfunction(function) and not key.startswith("_"):
                    yield f"{face}.{name}.{key}", function


def raises(function: Callable[..., object], depth: int = 1) -> bool:
    """Whether the function raises by itself, or one of ours that it calls by its name does."""
    plain = inspect.unwrap(function)
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    if any(isinstance(node, ast.Raise) for node in ast.walk(tree)):
        return True
    called = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    ours = [plain.__globals__.get(name) for name in called]
    # What no argument reaches cannot be given bad input.
    return (
        depth > 0
        and bool(inspect.signature(plain).parameters)
        and any(
            inspect.isfunction(f) and f.__module__.startswith("ticgrpo_theory") and raises(f, depth - 1)
            for f in ours
        )
    )


def undescribed(functions: Iterator[tuple[str, Callable[..., object]]]) -> list[str]:
    """Functions without a docstring, or that raise without a word about it."""
    found = []
    for name, function in functions:
        text = inspect.getdoc(function) or ""
        if not text or (raises(function) and not re.search("Raises|ValueError", text)):
            found.append(name)
    return found


def test_every_public_function_is_described_with_its_errors():
    described = list(public())
    assert len(described) > 50
    assert undescribed(iter(described)) == []


SAYS = {
    "formula": r" (?:=|<=|\+=) |E\[",
    "shape": r"\[[*A-Z][^\]]*\]",
    "error": r"Raises|raises|ValueError",
    "source": r"Source:|\bOurs\b",
}
"""What the docstring of every name of the package says, and how that is recognised."""

SHAPED = re.compile(r"(?:Float|Int|Bool)(?:64)?\[")
"""An annotation that gives a shape says it as well as a sentence does."""


def exported() -> Iterator[tuple[str, Callable[..., object]]]:
    """The functions and classes that the package gives, and `simulate`, which its module gives."""
    for name in ticgrpo_theory.NAMES:
        thing = getattr(ticgrpo_theory, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, thing
    yield "simulate", importlib.import_module("ticgrpo_theory.simulate").simulate


def left_out(thing: Callable[..., object]) -> list[str]:
    """What the docstring does not say: formula, shape, errors, source."""
    text = inspect.getdoc(thing) or ""
    wanted = [said for said, pattern in SAYS.items() if not re.search(pattern, text)]
    shaped = SHAPED.search(str(inspect.signature(thing)))
    return [said for said in wanted if said != "shape" or not shaped]


@pytest.mark.parametrize(("name", "thing"), list(exported()), ids=lambda x: x if isinstance(x, str) else "")
def test_every_exported_name_says_its_formula_shapes_errors_and_source(name, thing):
    assert left_out(thing) == [], name


def test_what_a_docstring_leaves_out_is_named():
    def bare(theta: Tensor) -> float:
        """A number."""
        return float(theta.sum())

    def full(theta: Tensor) -> float:
        """sum theta = J, theta [S, V]. Raises ValueError for NaN. Ours."""
        return float(theta.sum())

    def shaped(theta: Float[Tensor, "S V"]) -> float:
        """sum theta = J. Raises ValueError for NaN. Source: a book, Eq. 1."""
        return float(theta.sum())

    assert left_out(bare) == list(SAYS)
    assert left_out(full) == left_out(shaped) == []
    assert len(list(exported())) > 15


def test_a_function_that_raises_without_a_word_is_named():
    def silent(x: int) -> int:
        """x."""
        if x < 0:
            raise ValueError(x)
        return x

    def bare(x: int) -> int:
        return x

    def calling(x: int) -> int:
        """x, in a list that has been asked for its imports."""
        return len([x]) + silent(x)

    assert undescribed(iter([("silent", silent), ("bare", bare)])) == ["silent", "bare"]
    assert not raises(calling)  # a name of an enclosing function is not looked up
    assert raises(undescribed) is False and raises(ticgrpo_theory.policy_gradient)
