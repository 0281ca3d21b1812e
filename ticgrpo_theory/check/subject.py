"""What is checked: an objective, a trainer's loss or an estimator, and how it is called.

The convention follows from the form: one argument is an objective(batch) to be maximised; logp, logp_old,
advantages and mask, by names in any order, are a loss to be minimised. Other arguments that trainers hand
over are recognised by name (TAKEN); any other that has no default is refused by name.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.advantages import Advantage, leave_one_out
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.catalogue.lines import name_of
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, OfRewards, differentiate, from_loss
from ticgrpo_theory.estimators.one_group import Apart
from ticgrpo_theory.estimators.resolve import LOSS_ARGUMENTS, AnyEstimator, resolve
from ticgrpo_theory.exact.updates.every_update import objective_of
from ticgrpo_theory.inputs.numbers import shown

ITEMS, INFO = "num_items_in_batch", "global_batch_info"
TAKEN = (ITEMS, INFO)
"""Arguments beyond the four that a trainer gives: the tokens of all pieces of an update, and verl's
dictionary of them (dp_size, batch_num_tokens, global_batch_size)."""

FED = leave_one_out()
"""What a loss of four arguments is fed: an unbiased advantage, so that what is found is the loss's own."""


LOADED = "torch._dynamo"
"""What torch.func loads for some seconds when it is first used."""


class OneByOne(Objective):
    """An objective whose few groups follow one another, where loading vmap would take longer."""

    def apart(self) -> Apart:
        made = super().apart()
        made.together = LOADED in sys.modules
        return made


class LossOneByOne(from_loss):
    """The same of a trainer's loss."""

    def apart(self) -> Apart:
        made = super().apart()
        made.together = LOADED in sys.modules
        return made


def one_by_one(given: AnyEstimator) -> AnyEstimator:
    """The same black box, its groups one after another; an Estimator as it is."""
    kind = {Objective: OneByOne, from_loss: LossOneByOne}.get(type(given))
    return (
        given if kind is None else kind(**{f.name: getattr(given, f.name) for f in dataclasses.fields(given)})
    )


@dataclass(frozen=True)
class Subject:
    """Something to check, in the one form that the exact engine takes."""

    name: str
    form: str
    """"objective", "loss" or "estimator"."""
    estimator: AnyEstimator
    conventions: tuple[str, ...] = ()
    """How it was called, in words."""
    prompts: int | None = None
    """Groups of the update that it is given whole; None: it is given one group."""
    items: Callable[[Batch, Tensor, Tensor], Any] | None = None
    """(batch, A, all tokens of the update) -> objective, of a loss that takes that number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "estimator", one_by_one(self.estimator))

    @property
    def of_updates(self) -> bool:
        """Whether it is given the rows of a whole update."""
        return self.prompts is not None

    @cached_property
    def on_rows(self) -> AnyEstimator:
        """What is differentiated on the rows of one call."""
        if self.of_updates and isinstance(self.estimator, from_loss):
            return one_by_one(objective_of(self.estimator, self.prompts or 1))
        return self.estimator

    def weights(self, batch: Batch) -> Float[Tensor, "G T"]:
        """c[i,t] of the rows of one call, exactly as they are given: nothing is cut."""
        given = self.on_rows
        if isinstance(given, Estimator):
            return given.token_weights(batch)
        if isinstance(given, Objective):
            return differentiate(given.f, batch)[0]
        return given.weights_given(batch, given.advantages(batch))

    def weights_given(self, batch: Batch, A: Tensor, tokens: Tensor) -> Float[Tensor, "G T"]:
        """c[i,t] of a piece of a group, its advantages and the tokens of the whole group given."""
        assert isinstance(self.estimator, from_loss)
        if self.items is None:
            return self.estimator.weights_given(batch, A)
        items = self.items
        return differentiate(lambda b: items(b, A.clone(), tokens), batch)[0]

    @property
    def can_be_cut(self) -> bool:
        """Whether its advantages can be held while its rows are cut into pieces."""
        return isinstance(self.estimator, from_loss)


def subject_of(
    given: Any,
    *,
    advantage: Advantage | OfRewards | None = None,
    arguments: Mapping[str, Any] | None = None,
    scope: str = "group",
    prompts: int | None = None,
    name: str | None = None,
) -> Subject:
    """The subject of a catalogue name, an Estimator, from_loss(...), an objective or a trainer's loss.

    `arguments` are values of its other arguments; `scope="batch"` gives it whole updates of `prompts` groups.
    Raises ValueError for anything else, and for an argument that nobody knows, by name.
    """
    P = checked_prompts(scope, prompts)
    extra = dict(arguments or {})
    if isinstance(given, str | Estimator | Objective | from_loss):
        if extra:
            raise ValueError(
                f"{next(iter(extra))} = {shown(next(iter(extra.values())))}: {given!r} is called "
                f"with no arguments of its own; give the factory's value instead"
            )
        found = resolve(given)
        form = "objective" if isinstance(found, Objective) else "estimator"
        form = "loss" if isinstance(found, from_loss) else form
        return Subject(name or name_of(found), form, found, prompts=P)
    if not callable(given) or isinstance(given, type):
        raise ValueError(
            f"{shown(given)} is no loss: give an objective(batch), a loss(logp, logp_old, "
            f"advantages, mask), an Estimator, or a name of the catalogue"
        )
    function, said = uncompiled(given)
    called = name or getattr(given, "__name__", None) or type(given).__name__
    taken = parameters_of(function)
    unknown = [key for key in extra if key not in taken and not takes_any(function)]
    if unknown:
        raise ValueError(f"--arg {unknown[0]}: {called} takes no such argument; it takes {', '.join(taken)}")
    open_ = [key for key, p in taken.items() if p.default is p.empty and key not in extra]
    four = {standard: own for standard, names in LOSS_ARGUMENTS.items() for own in taken if own in names}
    four = {standard: own for standard, own in four.items() if own not in extra}
    if len(four) < len(LOSS_ARGUMENTS) and len(open_) <= 1:
        return objective(function, called, open_, extra, P, said)
    rest = [key for key in open_ if key not in four.values() and key not in TAKEN]
    missing = [standard for standard in LOSS_ARGUMENTS if standard not in four]
    if rest or missing:
        what = f"needs {', '.join(rest)}, which nobody here knows" if rest else f"takes no {missing[0]}"
        raise ValueError(
            f"{called} {what}: give --arg {(rest or missing)[0]}=VALUE, or take one batch (an objective, "
            f"maximised), or logp, logp_old, advantages and mask, in any order, by these names or a trainer's"
        )
    return loss(
        function,
        called,
        four,
        [key for key in TAKEN if key in taken and key not in extra],
        extra,
        P,
        FED if advantage is None else advantage,
        said,
    )


def checked_prompts(scope: str, prompts: int | None) -> int | None:
    """Groups of a call; None where a call is given one group. ValueError for a scope that does not exist."""
    if scope not in ("group", "batch"):
        raise ValueError(f"scope = {scope!r}: choose 'group' (one group a call) or 'batch' (a whole update)")
    if scope == "group":
        if prompts is not None:
            raise ValueError(f"prompts = {prompts}: a call is given one group; add scope='batch'")
        return None
    P = 2 if prompts is None else prompts
    if isinstance(P, bool) or not isinstance(P, int) or not 1 <= P <= MOST_PROMPTS:
        raise ValueError(f"prompts = {shown(P)}: give a whole number from 1 to {MOST_PROMPTS}")
    return P


MOST_PROMPTS = 3
"""Groups of an update whose every outcome is listed within seconds."""


def objective(
    function: Callable[..., Any], name: str, open_: list[str], extra: dict[str, Any], P: int | None, said: str
) -> Subject:
    """An objective of one argument, to be maximised."""
    if not open_:
        raise ValueError(f"{name} needs no argument: an objective takes the batch that it is to judge")
    positional = parameters_of(function)[open_[0]].kind == inspect.Parameter.POSITIONAL_ONLY

    def f(batch: Batch) -> Any:
        return function(batch, **extra) if positional else function(**{open_[0]: batch}, **extra)

    f.__name__ = name
    how = ("one argument: an objective of the batch, maximised", *filter(None, (said,)))
    return Subject(name, "objective", Objective(f), how, P)


def loss(
    function: Callable[..., Any],
    name: str,
    four: dict[str, str],
    taken: list[str],
    extra: dict[str, Any],
    P: int | None,
    advantage: Advantage | OfRewards,
    said: str,
) -> Subject:
    """A trainer's loss of four arguments, to be minimised, fed `advantage`."""

    def call(logp: Tensor, logp_old: Tensor, A: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Any:
        values = {"logp": logp, "logp_old": logp_old, "advantages": A, "mask": mask}
        given = {four[standard]: value for standard, value in values.items()}
        tokens = mask.sum() if tokens is None else tokens
        info = {"dp_size": 1, "batch_num_tokens": tokens, "global_batch_size": logp.shape[0]}
        known = {ITEMS: tokens, INFO: info}
        return function(**given, **{key: known[key] for key in taken}, **extra)

    wide = wants_tokens(call)

    def of_tokens(logp: Tensor, logp_old: Tensor, A: Tensor, mask: Tensor) -> Any:
        return call(logp, logp_old, A[:, None].expand(logp.shape) if wide and A.ndim == 1 else A, mask)

    of_tokens.__name__ = name

    def items(batch: Batch, A: Tensor, tokens: Tensor) -> Any:
        A = A[:, None].expand(batch.logp.shape) if wide and A.ndim == 1 else A
        value = call(batch.logp, batch.logp_old, A, batch.mask, tokens)
        value = value[0] if isinstance(value, tuple) and value else value
        return -value if isinstance(value, Tensor | int | float) and not isinstance(value, bool) else value

    said_wide = "advantages given as [B, T]: [B] is refused" if wide else "advantages given as [B]"
    how = (
        f"takes {', '.join(four.values())}: a loss, minimised",
        f"{said_wide}; they are {advantage!r}",
        *(f"{key} is given" for key in taken),
        *filter(None, (said,)),
    )
    return Subject(name, "loss", from_loss(of_tokens, advantage), how, P, items if taken else None)


def wants_tokens(call: Callable[..., Any]) -> bool:
    """Whether [B] is refused for the advantages, and [B, T] is not: B = 3 rows of T = 5 tokens."""
    logp = torch.full((3, 5), -1.0, dtype=torch.float64, requires_grad=True)
    A, mask = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64), torch.ones(3, 5, dtype=torch.bool)

    def works(A: Tensor) -> bool:
        try:
            call(logp * 1.0, logp.detach() - 0.125, A, mask.clone())
        except Exception:  # whatever is wrong with it is found again, and said, where it is checked
            return False
        return True

    return not works(A) and works(A[:, None].expand(3, 5).clone())


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that can be named; of a module those of its forward."""
    of = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        found = inspect.signature(of).parameters
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{function!r} has no signature to read: wrap it in a function of one batch"
        ) from error
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {key: p for key, p in found.items() if p.kind not in several}


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether it takes arguments of any name."""
    of = function.forward if isinstance(function, torch.nn.Module) else function
    return any(p.kind == inspect.Parameter.VAR_KEYWORD for p in inspect.signature(of).parameters.values())


def uncompiled(function: Callable[..., Any]) -> tuple[Callable[..., Any], str]:
    """What torch.compile was given, and the sentence that says so."""
    inner = getattr(function, "_torchdynamo_orig_callable", None) or getattr(function, "_orig_mod", None)
    if inner is None:
        return function, ""
    return inner, "compiled: the function that torch.compile was given is checked, not its compiled form"
