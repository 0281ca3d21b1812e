"""The tensor operations of a formula, written down while it runs once."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class Untraceable(Exception):
    """The formula holds an operation that the loops cannot express; the text says which."""


class Recorder(TorchDispatchMode):
    """Writes down every tensor operation on what depends on the arguments, and every new tensor."""

    def __init__(self, examples: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.held = list(examples)
        """Every tensor that is known, kept alive so that its id stays its own."""
        self.node = {id(x): self.graph.placeholder(f"x{n}") for n, x in enumerate(examples)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch would import its compiler, some seconds, to keep it away from `__torch_dispatch__`."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        found = func(*args, **kwargs)
        if tensors and not any(id(x) in self.node for x in tensors):
            return found
        if not isinstance(found, Tensor):
            what = (
                "reads a number out of a tensor" if isinstance(found, bool | int | float) else "takes several"
            )
            raise Untraceable(f"the formula {what} by {func}")
        given = pytree.tree_map_only(Tensor, self.known, (args, kwargs))
        node = self.graph.call_function(func, *given)
        node.meta["val"] = found
        self.node[id(found)] = node
        self.held.append(found)
        return found

    def known(self, x: Tensor) -> fx.Node:
        if id(x) not in self.node:
            raise Untraceable(f"a tensor of shape {tuple(x.shape)} from outside the formula")
        return self.node[id(x)]


def record(formula: Callable[..., Tensor], examples: Sequence[Tensor]) -> fx.Graph:
    """The tensor operations that `formula` performs on the examples, no two of which are one tensor."""
    recorder = Recorder(examples)
    try:
        with recorder:
            result = formula(*examples)
    except (RuntimeError, ValueError) as refusal:
        raise Untraceable(f"{type(refusal).__name__}: {refusal}") from refusal
    recorder.graph.output(recorder.known(result))
    recorder.graph.eliminate_dead_code()
    return recorder.graph
