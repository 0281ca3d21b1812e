"""A formula written in torch, turned into loops over one group that numba compiles.

The formula has one home, the estimator. It is run once on a group of the size in question while every tensor
operation is written down (recorder.py); each of them is elementwise over responses i and tokens t, or a sum,
mean, maximum, minimum or running sum, so the record is a handful of loops. They are emitted as Python source,
token after token with the responses innermost (neighbours in memory), and compiled. A record that holds
anything else raises `Untraceable`, and the caller evaluates the formula in torch.

Loops come in stages, a stage in phases: what reads a reduction over responses belongs to the next stage, what
reads one over tokens to the next phase. Within a phase the levels "" (no loop), "i" and "ti" follow each
other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from ticgrpo_theory.simulate.engines.recorder import Untraceable

OPERATORS = {"mul": "*", "sub": "-", "add": "+", "div": "/", "bitwise_and": "&", "bitwise_or": "|"}
OPERATORS |= {"logical_and": "&", "logical_or": "|", "eq": "==", "ne": "!="}
OPERATORS |= {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
FUNCTIONS = {
    "neg": "-{0}",
    "exp": "exp({0})",
    "expm1": "math.expm1({0})",
    "log": "math.log({0})",
    "log1p": "math.log1p({0})",
    "sqrt": "math.sqrt({0})",
    "abs": "abs({0})",
    "reciprocal": "1.0 / {0}",
    "logical_not": "not {0}",
    "bitwise_not": "not {0}",
    "where": "{1} if {0} else {2}",
    "masked_fill": "{2} if {1} else {0}",
    # As torch does it: no number on either side gives none.
    "minimum": "{0} if ({0} <= {1}) | ({0} != {0}) else {1}",
    "maximum": "{0} if ({0} >= {1}) | ({0} != {0}) else {1}",
}
REDUCTIONS = {"sum": "0.0", "mean": "0.0", "amax": "-math.inf", "amin": "math.inf"}
CONSTANTS = {"ones": 1.0, "zeros": 0.0, "ones_like": 1.0, "zeros_like": 0.0}
DTYPES = (torch.float64, torch.bool, torch.int64)

Place = tuple[int, int, str]
"""Stage, phase and level of a loop."""


@dataclass
class Cell:
    """A number that is computed in the loops at `place`; `stored` where other loops read it too."""

    text: str
    place: Place | None = None
    boolean: bool = False
    stored: str = ""
    reduced: str = ""


@dataclass(frozen=True)
class Value:
    """A recorded tensor: its cell, and what each dimension runs over: "i", "t", or None for one number."""

    axes: tuple[str | None, ...]
    cell: Cell

    @property
    def level(self) -> str:
        return "".join(axis for axis in ("t", "i") if axis in self.axes)


@dataclass
class Loops:
    """Statements at every place: what comes before the loops, and what is in them."""

    sizes: dict[str, int]
    before: dict[Place, list[str]] = field(default_factory=dict)
    inside: dict[Place, list[tuple[str, Cell | None]]] = field(default_factory=dict)
    scratch: int = 0
    names: int = 0

    def room(self, level: str) -> str:
        """A scratch entry for each (t, i) or each i; without loops a plain name will do."""
        if level == "":
            return self.name()
        if level == "t":
            raise Untraceable("a number for each token position alone")
        G = self.sizes["i"]
        first, self.scratch = self.scratch, self.scratch + (G if level == "i" else G * self.sizes["t"])
        return f"scratch[{first} + i]" if level == "i" else f"scratch[{first} + t * {G} + i]"

    def name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def read(self, cell: Cell, place: Place) -> str:
        """The text by which loops at `place` read the cell."""
        if cell.place is None or cell.place == place or cell.reduced:
            return cell.text
        if not cell.stored:
            cell.stored = cell.text if cell.place[2] == "" else self.room(cell.place[2])
        return f"({cell.stored} != 0.0)" if cell.boolean and cell.stored != cell.text else cell.stored

    def add(self, place: Place, statement: str, cell: Cell | None = None) -> None:
        self.inside.setdefault(place, []).append((statement, cell))


class Translation:
    """A recorded graph as loops; `inputs` are the axes and the text of its arguments."""

    def __init__(
        self, graph: fx.Graph, inputs: Sequence[tuple[tuple[str | None, ...], str]], sizes: dict[str, int]
    ) -> None:
        self.loops = Loops(sizes)
        self.values: dict[fx.Node, Value] = {}
        given = iter(inputs)
        for node in graph.nodes:
            if node.op == "placeholder":
                axes, text = next(given)
                self.values[node] = Value(axes, Cell(text))
            elif node.op == "call_function":
                self.values[node] = self.translate(node)
            elif node.op == "output":
                self.result = self.values[arguments(node)[0]]
            else:
                raise Untraceable(f"a tensor {node.target} from outside the formula")

    def translate(self, node: fx.Node) -> Value:
        made: Any = node.meta.get("tensor_meta", node.meta.get("val"))
        if getattr(made, "dtype", None) not in DTYPES:
            raise Untraceable(
                f"{node.target} gives {getattr(made, 'dtype', made)}; the loops compute in float64"
            )
        name = str(node.target).split(".")[1]
        if name in CONSTANTS or name in ("full", "full_like", "scalar_tensor"):
            filled = CONSTANTS.get(
                name, arguments(node)[0] if name == "scalar_tensor" else arguments(node)[-1]
            )
            return Value((None,) * len(made.shape), Cell(number(filled)))
        inputs = [self.values[x] for x in arguments(node) if isinstance(x, fx.Node)]
        if name in ("alias", "detach", "clone", "lift_fresh_copy", "expand", "unsqueeze"):
            return Value(self.reshaped(node, name, inputs[0].axes), inputs[0].cell)
        if name in REDUCTIONS:
            return self.reduction(node, name, inputs[0])
        if name == "cumsum":
            return self.running_sum(node, inputs[0])
        axes, place = self.common(inputs)
        return self.computed(axes, place, self.text(node, name, place), made.dtype is torch.bool)

    def reshaped(self, node: fx.Node, name: str, axes: tuple[str | None, ...]) -> tuple[str | None, ...]:
        if name == "unsqueeze":
            at = arguments(node)[1] % (len(axes) + 1)
            return (*axes[:at], None, *axes[at:])
        if name == "expand":
            return (None,) * (len(arguments(node)[1]) - len(axes)) + axes
        return axes

    def common(self, inputs: Sequence[Value]) -> tuple[tuple[str | None, ...], Place]:
        """Broadcast axes of the inputs, and the first loops in which all of them are known."""
        rank = max(len(value.axes) for value in inputs)
        columns = list(zip(*((None,) * (rank - len(v.axes)) + v.axes for v in inputs), strict=True))
        if any(len(set(column) - {None}) > 1 for column in columns):
            raise Untraceable("tokens and responses along one dimension")
        axes = tuple(next((axis for axis in column if axis), None) for column in columns)
        stage, phase = max((ready(value.cell) for value in inputs), default=(0, 0))
        return axes, (stage, phase, Value(axes, Cell("")).level)

    def computed(self, axes: tuple[str | None, ...], place: Place, text: str, boolean: bool = False) -> Value:
        """The expression computed once, in the loops at `place`."""
        cell = Cell(self.loops.name(), place, boolean)
        self.loops.add(place, f"{cell.text} = {text}", cell)
        return Value(axes, cell)

    def text(self, node: fx.Node, name: str, place: Place) -> str:
        """The expression of an elementwise operation."""
        terms = [
            self.loops.read(self.values[x].cell, place) if isinstance(x, fx.Node) else number(x)
            for x in arguments(node)
        ]
        if name in OPERATORS and node.kwargs.get("alpha", 1) == 1:
            return f"{terms[0]} {OPERATORS[name]} {terms[1]}"
        if name == "rsub" and len(terms) == 2 and not node.kwargs:
            return f"{terms[1]} - {terms[0]}"
        if name in FUNCTIONS:
            return FUNCTIONS[name].format(*terms)
        if name == "clamp":
            low, high = (*arguments(node)[1:], None)[:2]
            text = terms[0]
            if low is not None:
                text = f"({terms[1]} if {text} < {terms[1]} else {text})"
            return text if high is None else f"{terms[2]} if {text} > {terms[2]} else {text}"
        if name == "pow" and arguments(node)[1] == 2:
            return f"{terms[0]} * {terms[0]}"
        if name == "_to_copy":
            return f"float({terms[0]})"
        raise Untraceable(f"{node.target}{tuple(arguments(node))}")

    def reduction(self, node: fx.Node, name: str, value: Value) -> Value:
        """sum, mean, maximum or minimum over some dimensions."""
        rank = len(value.axes)
        dims = arguments(node)[1] if len(arguments(node)) > 1 and arguments(node)[1] else list(range(rank))
        dims = [d % rank for d in dims]
        kept = len(arguments(node)) > 2 and bool(arguments(node)[2])
        axes = tuple(
            None if d in dims else axis for d, axis in enumerate(value.axes) if kept or d not in dims
        )
        gone = "".join(value.axes[d] or "" for d in dims)
        if not gone:
            return Value(axes, value.cell)
        stage, phase = ready(value.cell)
        place = (stage, phase, value.level)
        level = Value(axes, value.cell).level
        cell = Cell(self.loops.room(level), (stage, phase, level), reduced=gone)
        self.loops.before.setdefault((stage, phase, level), []).append(f"{cell.text} = {REDUCTIONS[name]}")
        term = self.loops.read(value.cell, place)
        total = {"amax": f"max({cell.text}, {term})", "amin": f"min({cell.text}, {term})"}
        self.loops.add(place, f"{cell.text} = {total.get(name, f'{cell.text} + {term}')}")
        result = Value(axes, cell)
        if name != "mean":
            return result
        count = math.prod(self.loops.sizes[axis] for axis in gone)
        _, place = self.common([result])
        return self.computed(axes, place, f"{cell.text} / {count}")

    def running_sum(self, node: fx.Node, value: Value) -> Value:
        """sum over u <= t; tokens are the outer loop, so a total for each response is enough."""
        if value.axes[arguments(node)[1]] != "t" or value.level != "ti":
            raise Untraceable(f"{node.target} over {value.axes}")
        stage, phase = ready(value.cell)
        place, total = (stage, phase, "ti"), self.loops.room("i")
        self.loops.before.setdefault((stage, phase, "i"), []).append(f"{total} = 0.0")
        self.loops.add(place, f"{total} = {total} + {self.loops.read(value.cell, place)}")
        return self.computed(value.axes, place, total)

    def source(self, name: str, arguments: Sequence[str], out: str, level: str) -> str:
        """The loops as a Python function name(*arguments, scratch, out) that fills `out` at each `level`."""
        place = (*ready(self.result.cell), level)
        self.loops.add(place, f"{out} = {self.loops.read(self.result.cell, place)}")
        lines = [f"def {name}({', '.join([*arguments, 'scratch', 'out'])}):"]
        places = {place[:2] for place in (*self.loops.before, *self.loops.inside)}
        for stage, phase in sorted(places):
            for level in ("", "i", "ti"):
                lines += self.nest(level, self.loops.before.get((stage, phase, level), []))
            for level in ("", "i", "ti"):
                body = []
                for statement, cell in self.loops.inside.get((stage, phase, level), []):
                    body.append(statement)
                    if cell is not None and cell.stored and cell.stored != cell.text:
                        body.append(f"{cell.stored} = {cell.text}")
                lines += self.nest(level, body)
        return "\n".join(lines) + "\n"

    def nest(self, level: str, body: Sequence[str]) -> list[str]:
        """The body inside the loops of its level."""
        if not body:
            return []
        heads = [
            f"{'    ' * (d + 1)}for {axis} in range({self.loops.sizes[axis]}):"
            for d, axis in enumerate(level)
        ]
        return heads + ["    " * (len(level) + 1) + statement for statement in body]


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """Nodes, numbers and lists: what an operation was called with."""
    return tuple(node.args)


def ready(cell: Cell) -> tuple[int, int]:
    """Stage and phase of the first loops that can read the cell."""
    if cell.place is None:
        return 0, 0
    stage, phase, _ = cell.place
    if "i" in cell.reduced:
        return stage + 1, 0
    return stage, phase + ("t" in cell.reduced)


def number(x: Any) -> str:
    """A Python number as source text."""
    if isinstance(x, float) and not math.isfinite(x):
        return {math.inf: "math.inf", -math.inf: "(-math.inf)"}.get(x, "math.nan")
    if x is None or isinstance(x, bool | int | float):
        return f"({x!r})"
    raise Untraceable(f"the argument {x!r}")
