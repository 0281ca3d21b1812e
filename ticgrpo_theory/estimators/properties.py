"""What an estimator reads: declared by each of its parts, compared on groups where nothing is declared.

A group reduces to one response, its order does not matter, a micro-batch needs no look at the rest: each of
these is true of some estimators and false of others, and a number rests on it. Here alone is it decided.

    declared   every part of the catalogue says with `@reads(...)` what its output for token t of response i
               depends on; a test holds each declaration against its function on random groups
    claimed    the same words on a part of a user's own: taken, and checked on the groups of the problem
    neither    a black box: groups are enumerated, and `Differences` compares what it answers on each of them

A declaration belongs to the very function it stands on. A subclass that overrides a method, a wrapper and a
`functools.partial` declare nothing.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


class Reads(enum.IntEnum):
    """What the number of token t of response i depends on, besides G, the horizon and the sign of A[i].

    A clip's rule from ratios to weights declares what it reads besides the pooled ratio and the bounds.
    """

    NOTHING = 0
    """No log-probability, reward or length."""
    OWN_TOKEN = 1
    """Log-probabilities of token t of response i."""
    OWN_RESPONSE = 2
    """Log-probabilities, reward and length of response i."""
    REWARDS_AND_LENGTHS = 3
    """Own log-probabilities, and the rewards and lengths of the group, whatever their order."""
    WHOLE_GROUP = 4
    """Anything of the group."""


Declaration = Reads | Callable[[Any], "Reads | None"]
"""What is read, or a function of the part where that depends on the parts it is made of."""

_DECLARED: dict[Callable[..., Any], Declaration] = {}


def reads(what: Declaration) -> Callable[[Function], Function]:
    """Declare what a part reads: `@reads(Reads.OWN_RESPONSE)` above a ratio, a scale, `Clip.bounds`, ...

    Parts outside this package are taken at their word, but checked on the groups of the problem.
    """

    def declare(function: Function) -> Function:
        _DECLARED[function] = what
        return function

    return declare


def declared(function: Any, part: Any = None) -> Reads | None:
    """What `function` declares, itself or as the method of `part`; None where it declares nothing."""
    try:
        found = _DECLARED.get(function)
    except TypeError:  # not hashable
        return None
    return found(part) if callable(found) and not isinstance(found, Reads) else found


def declared_call(part: Any) -> Reads | None:
    """The declaration of a part that is called: of the function itself, or of its class's `__call__`."""
    found = declared(part)
    return declared(type(part).__call__, part) if found is None and hasattr(part, "__call__") else found  # noqa: B004


def joined(*parts: Reads | None) -> Reads | None:
    """The most that any of them reads; None where one declares nothing."""
    known = [part for part in parts if part is not None]
    return max(known) if len(known) == len(parts) else None


def is_ours(part: Any) -> bool:
    """Whether the part is of this package, where a test holds its declaration to account.

    A part made of other parts is ours where those are.
    """
    if isinstance(part, FunctionType):
        # Where its code was compiled: functools.wraps hands on __module__ to any function.
        module = part.__globals__.get("__name__", "")
        checked = module.partition(".")[0] == "jaxtyping"
        return is_ours(part.__wrapped__) if checked else in_package(module)  # type: ignore[attr-defined]
    parts = [getattr(part, f.name) for f in fields(part)] if is_dataclass(part) else []
    return in_package(type(part).__module__) and all(map(is_ours, filter(callable, parts)))


def in_package(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]


def method_is_newer(kind: type, method: str, than: str) -> bool:
    """Whether the class that defines `method` is, or derives from, the one that defines `than`.

    A subclass that overrides a formula but inherits its limit would pair the two wrongly.
    """
    order = kind.__mro__
    place = {name: next(n for n, c in enumerate(order) if name in vars(c)) for name in (method, than)}
    return place[method] <= place[than]


@dataclass(frozen=True)
class Properties:
    """What the token weights c[i,t] = scale A u of an estimator read."""

    weights: Reads
    """u, as a function of log-probabilities: the ratio with its clip, and a penalty in the loss."""
    advantage: Reads
    scale: Reads
    undeclared: tuple[str, ...] = ()
    """Parts of the weights and the scale that declare nothing, in words."""
    advantage_known: bool = True
    """Whether the advantage is one of this package; any other is evaluated on one group at a time."""
    claimed: tuple[str, ...] = ()
    """Parts outside this package that declare what they read."""

    @property
    def known(self) -> bool:
        """Whether every part is declared here, so that nothing needs to be checked."""
        return not self.undeclared and not self.claimed and self.advantage_known

    @property
    def couples(self) -> bool:
        """Whether u of a response may read the log-probabilities of another one."""
        return self.weights > Reads.OWN_RESPONSE

    @property
    def held(self) -> bool:
        """Whether the weights do not move with theta."""
        return self.weights == Reads.NOTHING

    def why_unknown(self) -> str:
        """The parts that declare nothing, in a clause; '' where there are none."""
        if not self.undeclared:
            return ""
        several = len(self.undeclared) > 1
        return f"{' and '.join(self.undeclared)} {'declare' if several else 'declares'} nothing of what " + (
            "they read" if several else "it reads"
        )


BLACK_BOX = Properties(Reads.WHOLE_GROUP, Reads.WHOLE_GROUP, Reads.WHOLE_GROUP, ("a callable",))


def of_parts(
    weights: dict[str, tuple[Any, Reads | None]], advantage: tuple[Any, Reads | None], scale: Any
) -> Properties:
    """The properties of an estimator from its parts: name -> (the function, what it declares)."""
    named = {**weights, "its scale": (scale, declared_call(scale))}
    missing = tuple(name for name, (_, found) in named.items() if found is None)
    claims = tuple(name for name, (f, found) in named.items() if found is not None and not is_ours(f))
    u = joined(*(found for _, found in weights.values()))
    # An advantage is handed the rewards of its group and nothing else: it can read no more.
    A = Reads.REWARDS_AND_LENGTHS if advantage[1] is None else advantage[1]
    return Properties(
        Reads.WHOLE_GROUP if u is None else u,
        A,
        Reads.WHOLE_GROUP if named["its scale"][1] is None else named["its scale"][1],
        missing,
        advantage[1] is not None and is_ours(advantage[0]),
        claims,
    )


RELATIVE = {torch.float64: 1e-9, torch.float32: 3e-5, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Largest difference of two weights of one group, relative to its largest weight, that is rounding."""

NEGLIGIBLE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Share of sum P(group) max|c| that differences may add up to before they count."""


@dataclass
class Differences:
    """Two tables of weights of the same groups, compared over all chunks of groups that enter a sum.

    A group differs where |c - other| > RELATIVE max|c|; that counts once the differences, weighed by the
    probabilities of their groups, add up to more than NEGLIGIBLE times the weighed sum of max|c|: what cannot
    show in the answer is no difference.
    """

    dtype: torch.dtype = torch.float64
    """In which the weights are computed; a loss may cast to less inside."""
    groups: int = 0
    """Comparisons so far."""
    total: float = 0.0
    """sum P max|c|."""
    excess: float = 0.0
    """sum P max|c - other| of the groups that differ."""

    def add(
        self, c: Float[Tensor, "M G T"], other: Float[Tensor, "M G T"], prob: Float[Tensor, " M"]
    ) -> int | None:
        """Compare one chunk of groups; the one that differs most, where that counts."""
        size = torch.maximum(c.abs(), other.abs()).amax(dim=(1, 2)).double()
        gap = (c - other).abs().amax(dim=(1, 2)).double()
        weighed = prob * gap.where(gap > RELATIVE[self.dtype] * size, 0.0)
        self.groups += len(c)
        self.total += float(prob @ size)
        self.excess += float(weighed.sum())
        return int(weighed.argmax()) if self.differ and bool(weighed.any()) else None

    @property
    def differ(self) -> bool:
        """Whether the differences so far could show in the answer."""
        return self.excess > NEGLIGIBLE[self.dtype] * self.total
