"""Draw docs/architecture.svg from the imports: a box for each room on its floor, an arrow for each import.

    python docs/draw_architecture.py

An arrow that a longer way of arrows implies is left out. Floors and rooms are those that
tests/unit/test_floors_of_imports.py holds every import to.
"""

import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.unit.test_floors_of_imports import FLOORS, arrows, modules, room  # noqa: E402

Room = tuple[str, str]
"""Package and name."""

WIDTH, HEIGHT, STEP, MARGIN, HEAD = 108, 40, 92, 16, 54
COLUMNS = {"ticgrpo_theory": (60, 4), "llm": (60 + 4 * 124 + 40, 3)}
"""Left edge of a package and the most rooms that stand side by side on a floor of it."""


def rooms() -> dict[Room, int]:
    """Lines of code of each room that is there."""
    sizes: dict[Room, int] = {}
    for module, path in modules(ROOT).items():
        here = room(module)
        if here is not None:
            sizes[here] = sizes.get(here, 0) + len(path.read_text(encoding="utf-8").splitlines())
    return sizes


def imports() -> set[tuple[Room, Room]]:
    """(importing room, imported room), each once."""
    pairs = ((room(arrow.source), room(arrow.target)) for arrow in arrows(modules(ROOT), ROOT))
    return {(one, other) for one, other in pairs if one is not None and other is not None and one != other}


def without_implied(pairs: set[tuple[Room, Room]]) -> set[tuple[Room, Room]]:
    """The arrows that no longer way of arrows goes along."""
    ahead: dict[Room, set[Room]] = {}
    for one, other in pairs:
        ahead.setdefault(one, set()).add(other)

    def reached(start: Room) -> set[Room]:
        return {end for other in ahead.get(start, ()) for end in (other, *reached(other))}

    return {(one, to) for one, to in pairs if not any(to in reached(by) for by in ahead[one] if by != to)}


def places(sizes: dict[Room, int]) -> dict[Room, tuple[float, float]]:
    """Upper left corner of each box; the top floor is the first line, rooms stand in the order of FLOORS."""
    top = max(max(floors.values()) for floors in FLOORS.values())
    found: dict[Room, tuple[float, float]] = {}
    for package, (left, most) in COLUMNS.items():
        for floor in set(FLOORS[package].values()):
            here = [name for name, at in FLOORS[package].items() if at == floor and (package, name) in sizes]
            indent = (most - len(here)) * (WIDTH + MARGIN) / 2
            for i, name in enumerate(here):
                found[package, name] = (left + indent + i * (WIDTH + MARGIN), HEAD + (top - floor) * STEP)
    return found


def svg() -> str:
    """The whole picture."""
    sizes = rooms()
    at = places(sizes)
    high = max(y for _, y in at.values()) + HEIGHT + 16
    wide = max(x for x, _ in at.values()) + WIDTH + 24
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" '
        f'font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{wide:g}" height="{high:g}" fill="white"/>',
    ]
    for package, (left, most) in COLUMNS.items():
        middle = left + (most * (WIDTH + MARGIN) - MARGIN) / 2
        drawn.append(f'<text x="{middle:g}" y="24" text-anchor="middle" font-size="15">{package}/</text>')
    top = max(max(floors.values()) for floors in FLOORS.values())
    for floor in sorted({at for floors in FLOORS.values() for at in floors.values()}):
        y = HEAD + (top - floor) * STEP + HEIGHT / 2 + 4
        drawn.append(f'<text x="10" y="{y:g}" fill="#777">floor {floor}</text>')
    drawn += [arrow(at[one], at[other], one[0] != other[0]) for one, other in kept(at)]
    for (package, name), (x, y) in at.items():
        box = f'width="{WIDTH}" height="{HEIGHT}" rx="4" stroke="#333"'
        fill = "#E3EEF7" if package == "ticgrpo_theory" else "#F9E8DC"
        drawn += [
            f'<rect x="{x:g}" y="{y:g}" {box} fill="{fill}"/>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 25:g}" text-anchor="middle">{escape(name)}</text>',
        ]
    return "\n".join([*drawn, "</svg>", ""])


def kept(at: dict[Room, tuple[float, float]]) -> list[tuple[Room, Room]]:
    return sorted(pair for pair in without_implied(imports()) if pair[0] in at and pair[1] in at)


def arrow(start: tuple[float, float], end: tuple[float, float], between: bool) -> str:
    """From the foot of one box to the head of another; dashed between the two packages."""
    x0, y0 = start[0] + WIDTH / 2, start[1] + HEIGHT
    x1, y1 = end[0] + WIDTH / 2, end[1]
    if y1 < y0:  # floors of two packages are counted apart: go in at the side
        x1, y1 = end[0] + WIDTH, end[1] + HEIGHT / 2
    bend = (y0 + y1) / 2
    dashes = ' stroke-dasharray="4 3"' if between else ""
    way = f"M{x0:g} {y0:g}C{x0:g} {bend:g} {x1:g} {bend:g} {x1:g} {y1:g}"
    return f'<path d="{way}" fill="none" stroke="#555"{dashes} marker-end="url(#tip)"/>'


def main() -> None:
    PICTURE.write_text(svg(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(rooms())} rooms, {len(imports())} arrows")


if __name__ == "__main__":
    main()
