"""The house: every import goes down a floor, nothing goes round in a circle, what is public is only a face.

Imports are read with ast, those inside functions and under TYPE_CHECKING too: a stranger who reads a file
must never have to climb.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS: dict[str, dict[str, int]] = {
    "ticgrpo_theory": {
        "cli": 6,
        "bounds": 5, "check": 5, "floors": 5,
        "claims": 4, "simulate": 4,
        "exact": 3, "experiment": 3,
        "worlds": 2, "plots": 2, "estimators": 2,
        "training_logs": 1, "stats": 1, "inputs": 1, "version": 1,
    },
    "llm": {
        "engines": 6,
        "training": 5,
        "evaluation": 4,
        "exactness": 3, "exact_model": 3, "sampling": 3,
        "data": 2, "update": 2, "pretrained": 2,
        "config": 1, "sequences": 1, "model": 1,
    },
}  # fmt: skip
"""Rooms and their floors: a room imports rooms of lower floors only; `llm` imports `ticgrpo_theory`."""

FACES = frozenset(
    {
        *(
            f"ticgrpo_theory.{name}"
            for name in ("mdp", "batch", "notebook", "power_law", "convergence_tables")
        ),
        *(
            f"ticgrpo_theory.{name}"
            for name in ("worlds", "estimators", "exact", "simulate", "bounds", "check")
        ),
        *(f"llm.{name}" for name in ("train", "evaluate", "pretrain")),
        "ticgrpo_theory",
    }
)
"""Where users import from; of a package its `__init__`. Nothing inside the packages does."""

MOST_FILES = 10
"""In one folder of exact/ and of llm/, `__init__.py` and `__main__.py` left out."""


@dataclass(frozen=True)
class Arrow:
    """One import: `source` takes `names` from `target`, both dotted names of modules."""

    source: str
    target: str
    names: tuple[str, ...]
    place: str


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def modules(root: Path) -> dict[str, Path]:
    """Every module of the two packages."""
    return {module_of(path, root): path for name in FLOORS for path in sorted((root / name).rglob("*.py"))}


def arrows(files: Mapping[str, Path], root: Path) -> Iterator[Arrow]:
    """Every import of one module of the house by another."""
    for source, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FLOORS:
                whole: dict[str, list[str]] = {}
                for name in node.names:
                    below = f"{node.module}.{name.name}"
                    whole.setdefault(below if below in files else str(node.module), []).append(name.name)
                for target, names in whole.items():
                    yield Arrow(source, target, tuple(names), place)
            elif isinstance(node, ast.Import):
                for name in node.names:
                    if name.name.split(".")[0] in FLOORS:
                        yield Arrow(source, name.name, (), place)


def room(module: str) -> tuple[str, str] | None:
    """The package and its room; None for a face and for the package itself."""
    package, *below = module.split(".")
    loose = not below or (module in FACES and below[0] not in FLOORS[package])
    return None if loose else (package, below[0])


def is_face(module: str, path: Path) -> bool:
    return module in FACES and (path.name == "__init__.py" or module.count(".") == 1)


def upward(all_arrows: list[Arrow], files: Mapping[str, Path]) -> list[str]:
    """Imports that do not go down: to a room as high or higher, or from `ticgrpo_theory` to `llm`."""
    found = []
    for arrow in all_arrows:
        here, there = room(arrow.source), room(arrow.target)
        if here is None or there is None or here == there:
            continue
        if here[0] != there[0]:
            if here[0] == "ticgrpo_theory":
                found.append(f"{arrow.place}: ticgrpo_theory imports {arrow.target}, of the package above it")
            continue
        rooms = FLOORS[here[0]]
        unknown = [name for name in (here[1], there[1]) if name not in rooms]
        if unknown:
            found.append(
                f"{arrow.place}: {unknown[0]} is no room of {here[0]}; give it a floor in FLOORS, or move it"
            )
        elif rooms[there[1]] >= rooms[here[1]]:
            found.append(
                f"{arrow.place}: {here[1]} (floor {rooms[here[1]]}) imports {arrow.target} of {there[1]} "
                f"(floor {rooms[there[1]]}); move what is shared to a lower floor"
            )
    return found


def faces_inside(all_arrows: list[Arrow], files: Mapping[str, Path]) -> list[str]:
    """Imports of a face by a module of the packages; faces themselves only name real homes."""
    return [
        f"{arrow.place}: {', '.join(arrow.names)} from the face {arrow.target}; import it from its file"
        for arrow in all_arrows
        if arrow.target in FACES and is_face(arrow.target, files[arrow.target])
    ]


def circles(all_arrows: list[Arrow], files: Mapping[str, Path]) -> list[str]:
    """One sentence for each circle of modules, with the places that close it. Faces import what they show."""
    ahead: dict[str, dict[str, str]] = {name: {} for name in files}
    for arrow in all_arrows:
        if arrow.target in files and not is_face(arrow.source, files[arrow.source]):
            ahead[arrow.source].setdefault(arrow.target, arrow.place)
    found, done = [], set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            ring = [*path[path.index(name) :], name]
            found.append("; ".join(f"{ahead[a][b]}: {a} -> {b}" for a, b in pairwise(ring)))
        elif name not in done:
            for other in ahead[name]:
                walk(other, [*path, name])
            done.add(name)

    for name in files:
        walk(name, [])
    return found


def crowded(root: Path) -> list[str]:
    """Folders of exact/ and llm/ with more files than a reader takes in at a glance."""
    found = []
    for top in (root / "ticgrpo_theory" / "exact", root / "llm"):
        for folder in (top, *sorted(path for path in top.rglob("*") if path.is_dir())):
            files = [path for path in folder.glob("*.py") if not path.name.startswith("__")]
            if len(files) > MOST_FILES:
                found.append(f"{folder.relative_to(root)}/ has {len(files)} files, more than {MOST_FILES}")
    return found


@pytest.fixture(scope="module")
def house() -> tuple[list[Arrow], dict[str, Path]]:
    files = modules(ROOT)
    return list(arrows(files, ROOT)), files


def test_every_import_goes_down(house):
    assert upward(*house) == []


def test_no_modules_go_round_in_a_circle(house):
    assert circles(*house) == []


def test_nothing_inside_the_packages_imports_a_face(house):
    assert faces_inside(*house) == []


def test_exact_and_llm_have_folders_of_at_most_ten_files():
    assert crowded(ROOT) == []


def test_no_file_lies_loose_beside_the_rooms():
    for package, rooms in FLOORS.items():
        loose = {path.stem for path in (ROOT / package).glob("*.py")} - set(rooms) - {"__init__"}
        assert {f"{package}.{name}" for name in loose} <= FACES, f"{package}/: {sorted(loose)}"


def built(root: Path, **sources: str) -> tuple[list[Arrow], dict[str, Path]]:
    """A small house of these files; `__` in a name stands for a folder."""
    for name, source in sources.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    for name in FLOORS:
        (root / name).mkdir(exist_ok=True)
    files = modules(root)
    return list(arrows(files, root)), files


def test_an_import_that_goes_up_is_named_with_file_and_line(tmp_path):
    house = built(
        tmp_path,
        ticgrpo_theory__exact__problem="\nimport math\nfrom ticgrpo_theory.bounds.constants import rho\n",
        ticgrpo_theory__bounds__constants="rho = 1\n",
        ticgrpo_theory__stats__rng="def f():\n    from llm.update import step\n",
        llm__update__step="from ticgrpo_theory.bounds.constants import rho\n",
    )
    up, back = sorted(upward(*house))
    assert up.startswith(
        "ticgrpo_theory/exact/problem.py:3: exact (floor 3) imports ticgrpo_theory.bounds.constants"
    )
    assert back.startswith("ticgrpo_theory/stats/rng.py:2: ticgrpo_theory imports llm.update.step")


def test_two_rooms_of_one_floor_do_not_know_each_other(tmp_path):
    house = built(
        tmp_path,
        ticgrpo_theory__plots__bias="from ticgrpo_theory.worlds import mdp\n",
        ticgrpo_theory__worlds__mdp="",
    )
    (found,) = upward(*house)
    assert found.startswith("ticgrpo_theory/plots/bias.py:1: plots (floor 2)")


def test_a_circle_is_named_with_its_places(tmp_path):
    house = built(
        tmp_path,
        llm__config__a="from llm.config import b\n",
        llm__config__b="\nfrom llm.config.a import x\n",
    )
    (found,) = circles(*house)
    assert "llm/config/a.py:1: llm.config.a -> llm.config.b" in found and "llm/config/b.py:2" in found


def test_a_face_imported_inside_is_named(tmp_path):
    house = built(
        tmp_path,
        ticgrpo_theory__mdp="from ticgrpo_theory.worlds.mdp import TokenMDP\n",
        ticgrpo_theory__worlds__mdp="TokenMDP = 1\n",
        ticgrpo_theory__exact__problem="from ticgrpo_theory.mdp import TokenMDP\n",
    )
    (found,) = faces_inside(*house)
    place = "ticgrpo_theory/exact/problem.py:1"
    assert found == f"{place}: TokenMDP from the face ticgrpo_theory.mdp; import it from its file"


def test_a_crowded_folder_is_named(tmp_path):
    built(
        tmp_path,
        **{f"llm__data__f{i}": "" for i in range(11)},
        **{f"ticgrpo_theory__exact__f{i}": "" for i in range(10)},
    )
    assert crowded(tmp_path) == ["llm/data/ has 11 files, more than 10"]
