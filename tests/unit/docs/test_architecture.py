"""docs/architecture.md: its drawing is of today's imports, its paths are there, its walks never climb."""

import functools
import re
from itertools import pairwise
from pathlib import Path

import pytest

from docs import draw_architecture
from tests.unit.test_floors_of_imports import FLOORS, Arrow, arrows, module_of, modules, room

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WALKS = {
    title: re.findall(r"^\d+\. `([^`]+)`", text, re.MULTILINE)
    for title, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    if re.search(r"^1\. ", text, re.MULTILINE)
}


def test_the_drawing_is_up_to_date():
    committed = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert committed == draw_architecture.svg(), "run python docs/draw_architecture.py"


def test_the_drawing_leaves_out_only_what_a_longer_way_implies():
    a, b, c = (("llm", name) for name in "abc")
    assert draw_architecture.without_implied({(a, b), (b, c), (a, c)}) == {(a, b), (b, c)}
    assert draw_architecture.without_implied({(a, b), (a, c)}) == {(a, b), (a, c)}


def test_every_room_stands_in_the_table_on_its_floor():
    rooms = FLOORS["ticgrpo_theory"]
    table = {
        name: int(floor)
        for floor, names in re.findall(r"^\| (\d) \| ([^|]+) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    there = {name for package, name in draw_architecture.rooms() if package == "ticgrpo_theory"}
    assert table == {name: rooms[name] for name in there}


def test_there_are_two_walks():
    assert [len(walk) > 4 for walk in WALKS.values()] == [True, True]


@functools.cache
def every_import() -> tuple[Arrow, ...]:
    return tuple(arrows(modules(ROOT), ROOT))


def climbs(walk: list[str]) -> list[str]:
    """What is wrong with a walk: a file that is missing, unknown to those before it, or on a higher floor."""
    missing = [path for path in walk if not (ROOT / path).is_file()]
    if missing:
        return [f"{path} does not exist" for path in missing]
    names = [module_of(ROOT / path, ROOT) for path in walk]
    known = {name: {arrow.target for arrow in every_import() if arrow.source == name} for name in names}
    unknown = [
        f"no earlier step imports {name}"
        for i, name in enumerate(names)
        if i and not any(name in known[earlier] for earlier in names[:i])
    ]
    back = [
        f"{name} imports {earlier}, a step above"
        for i, name in enumerate(names)
        for earlier in names[:i]
        if earlier in known[name]
    ]
    up = [f"{other} lies above {one}" for one, other in pairwise(names) if height(other) > height(one)]
    return unknown + back + up


def height(name: str) -> tuple[bool, int]:
    package, inside = room(name) or ("", "")
    return package == "llm", FLOORS[package][inside]


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_goes_down_and_only_down(title):
    assert climbs(WALKS[title]) == []


def test_a_walk_that_climbs_is_refused():
    up = climbs(["ticgrpo_theory/exact/problem.py", "ticgrpo_theory/exact/expectation.py"])
    assert "no earlier step imports ticgrpo_theory.exact.expectation" in up
    assert "ticgrpo_theory.exact.expectation imports ticgrpo_theory.exact.problem, a step above" in up
    jump = climbs(["ticgrpo_theory/worlds/policy.py", "ticgrpo_theory/bounds/theorems.py"])
    assert "ticgrpo_theory.bounds.theorems lies above ticgrpo_theory.worlds.policy" in jump
    assert climbs(["llm/nowhere.py"]) == ["llm/nowhere.py does not exist"]


def test_every_path_of_the_page_exists():
    paths = [path for path in re.findall(r"`((?:ticgrpo_theory|llm|experiments|tests|docs)/[\w/.]*)`", PAGE)]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_readme_and_contributing_lead_here():
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/architecture.md)" in (ROOT / name).read_text(encoding="utf-8"), name
