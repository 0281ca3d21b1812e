"""Any other estimator: a callable that is differentiated on the log-probabilities.

`Objective(f)`: f(batch) -> scalar, to be maximised, for one group (no leading axes).
`from_loss(loss, advantage)`: loss(logp, logp_old, advantages, mask) -> scalar, to be minimised, as trainers
write it; negated here, once. Token weights are c[i,t] = d objective / d logp[i,t], one autograd call.

A callable may return a number, or a tensor without a graph, for a group that it leaves out: its weights are 0
there. It may return (value, metrics). It sees a group as wide as its longest response; behind a response
log-probabilities are finite, not 0, and carry a gradient, so that a forgotten mask shows: c is not 0 there.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Score, current
from ticgrpo_theory.estimators.one_group import Apart, tensors_of
from ticgrpo_theory.estimators.properties import BLACK_BOX, Properties, Reads
from ticgrpo_theory.inputs.tracebacks import place_of, said

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Any]
OfRewards = Callable[..., Tensor]
"""(reward) or (reward, mask) -> advantages [G] or [G, T] of one group."""


def differentiate(objective: Callable[[Batch], Any], batch: Batch) -> tuple[Float[Tensor, "G T"], bool]:
    """(c, depends): c[i,t] = d objective / d logp[i,t] of one group, and whether the value reads logp.

    Raises ValueError for what is no objective, naming the group: an exception, a vector, None, NaN, a
    gradient that is not finite, tensors of the batch changed in place.
    """
    logp = batch.logp.detach().clone().requires_grad_()
    given = dataclasses.replace(batch, logp=logp)
    before = {name: x._version for name, x in tensors_of(given).items()}
    with torch.enable_grad():
        value = scalar_of(called(objective, given), given)
        changed = [name for name, x in tensors_of(given).items() if x._version != before[name]]
        if changed:
            raise ValueError(
                f"the objective changes batch.{changed[0]} in place; {in_words(batch)}: work on a copy, "
                f"batch.{changed[0]}.clone(), or the number depends on how often it is called"
            )
        if not isinstance(value, Tensor) or not value.requires_grad:
            return torch.zeros_like(batch.logp), False
        c = torch.autograd.grad(value, logp, allow_unused=True)[0]
    if c is None:
        return torch.zeros_like(batch.logp), False
    if not bool(torch.isfinite(c).all()):
        raise ValueError(
            f"the gradient of the objective is {c[~torch.isfinite(c)][0].item()} at a token; "
            f"{in_words(batch)}: {reason_of(batch)}"
        )
    return c, True


def called(objective: Callable[[Batch], Any], batch: Batch) -> Any:
    """The value; an exception becomes a ValueError that says where in the user's file it was raised."""
    try:
        return objective(batch)
    except Exception as error:
        if isinstance(error, ValueError) and not place_of(error):
            raise  # of this package, in words of its own
        raise ValueError(
            f"the objective raised {said(error)}; {in_words(batch)}{blanks(error, batch)}"
        ) from error


def blanks(error: Exception, batch: Batch) -> str:
    """What the batch does not hold here, where the objective took a None for a tensor; else ''."""
    if "NoneType" not in str(error):
        return ""
    names = ", ".join(f"batch.{f.name}" for f in dataclasses.fields(batch) if getattr(batch, f.name) is None)
    return f"; not known here: {names}: leave what needs them out, or ask expected_gradient"


def scalar_of(value: Any, batch: Batch) -> Tensor | int | float:
    """The objective itself, without metrics.

    Raises ValueError for a vector, for what is no number, and for NaN and infinities.
    """
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, Tensor | int | float):
        raise ValueError(
            f"the objective returned {value!r}, which is no number; {in_words(batch)}: return a scalar, "
            f"(scalar, metrics), or 0.0 for a group that is left out"
        )
    if isinstance(value, Tensor) and value.ndim != 0:
        raise ValueError(
            f"the objective returned shape {tuple(value.shape)} for one group; it must return a scalar: "
            f"reduce it over responses and tokens inside the callable"
        )
    if isinstance(value, Tensor) and value.dtype.is_complex:
        raise ValueError(f"the objective returned {value.dtype}: return a real number")
    number = float(value.detach() if isinstance(value, Tensor) else value)
    if number != number or number in (torch.inf, -torch.inf):
        raise ValueError(f"the objective is {number}; {in_words(batch)}: {reason_of(batch)}")
    return value


def in_words(batch: Batch) -> str:
    """The group, so that it can be made again."""
    rewards = ", ".join(f"{r:.6g}" for r in batch.reward.reshape(-1).tolist()[:8])
    lengths = ", ".join(str(n) for n in batch.length.reshape(-1).tolist()[:8])
    more = ", ..." if batch.reward.numel() > 8 else ""
    return f"the group has rewards [{rewards}{more}] and lengths [{lengths}{more}]"


def reason_of(batch: Batch) -> str:
    """What most likely makes a number infinite or undefined."""
    largest = batch.log_ratio.abs().max().item()
    if largest > LARGE:
        return f"its largest log-ratio is {largest:.6g}: bound it before the exponential"
    if batch.reward.numel() == 1:
        return "a standard deviation with 1/(G - 1) is 0/0 for one reward: draw more responses, or use 1/G"
    if bool((batch.reward == batch.reward.reshape(-1)[0]).all()):
        return "all its rewards are equal, where a division by their spread is 0/0: add an epsilon to it"
    return f"its log-ratios are within +-{largest:.6g}; look for a division by zero or the log of zero"


LARGE = 80.0
"""Log-ratio beyond which exp overflows float32."""


@dataclass(frozen=True)
class Objective:
    """A black box: f(batch) -> scalar to be maximised, for one group."""

    f: Callable[[Batch], Any]
    score: Score = current
    penalty: ClassVar[None] = None
    """Whatever it penalises is inside."""

    @property
    def properties(self) -> Properties:
        return dataclasses.replace(BLACK_BOX, undeclared=("a callable objective",))

    def apart(self) -> Apart:
        """Its token weights, one group at a time."""
        return apart_of(lambda batch: self.f(batch))

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """c[i,t] = df / d logp[i,t], each group by itself over the leading axes."""
        batch.check()
        return self.apart()(batch)

    def describe(self) -> str:
        return f"callable {getattr(self.f, '__name__', repr(self.f))}"


@dataclass(frozen=True)
class from_loss:
    """A trainer's loss(logp, logp_old, advantages, mask) -> scalar of one group, and the advantage it is fed.

    logp, logp_old, mask are [G, T]; advantages what `advantage` gives: [G] from an Advantage or a plain
    function of the rewards, [G, T] from a function of (reward, mask). The loss is minimised, so the objective
    is its negative.

    `reads=Reads.OWN_RESPONSE` claims that the loss is a mean over responses, each affine in its A for either
    sign: G c[i,t] = c(0) + A+ (c(1) - c(0)) + |A-| (c(-1) - c(0)), c of response i alone. The claim is
    checked on groups of the problem; without it every group is listed.
    """

    loss: Loss
    advantage: Advantage | OfRewards
    score: Score = current
    reads: Reads | None = None
    penalty: ClassVar[None] = None
    """Whatever it penalises is inside."""

    def __post_init__(self) -> None:
        if isinstance(self.advantage, type) or not callable(self.advantage):
            name = getattr(self.advantage, "__name__", self.advantage)
            raise ValueError(
                f"the advantage {name!r} is no function of the rewards: give {name}() of "
                f"ticgrpo_theory.estimators.advantages, or a function of (reward) or (reward, mask)"
            )

    @property
    def properties(self) -> Properties:
        if self.reads is None:
            return dataclasses.replace(BLACK_BOX, undeclared=("a callable loss",))
        return Properties(
            self.reads, Reads.REWARDS_AND_LENGTHS, Reads.NOTHING, (), False, claimed=("the loss",)
        )

    def advantages(self, batch: Batch) -> Tensor:
        """The advantages of one group.

        Raises ValueError where the function gives other shapes than [G] and [G, T].
        """
        A = advantages_of(self.advantage, batch)
        if not isinstance(A, Tensor):
            name = getattr(self.advantage, "__name__", self.advantage)
            raise ValueError(
                f"the advantage {name} returned {A!r}, which is no tensor: give [G], a number for each "
                f"response, or [G, T], for each token"
            )
        if tuple(A.shape) not in (batch.reward.shape, batch.logp.shape):
            raise ValueError(
                f"the advantage gave shape {tuple(A.shape)} for {batch.reward.shape[0]} responses of up to "
                f"{batch.logp.shape[1]} tokens: give [G], a number for each response, or "
                f"[G, T], for each token"
            )
        return A

    def weights_given(self, batch: Batch, A: Tensor) -> Float[Tensor, "G T"]:
        """c[i,t] for one group whose advantages are given, whatever its rewards."""
        return differentiate(lambda b: self.value(b, A.clone()), batch)[0]

    def value(self, batch: Batch, A: Tensor) -> Any:
        """-loss, the metrics left out."""
        found = self.loss(batch.logp, batch.logp_old, A, batch.mask)
        found = found[0] if isinstance(found, tuple) and found else found
        return -found if isinstance(found, Tensor | int | float) and not isinstance(found, bool) else found

    def apart(self) -> Apart:
        """Its token weights, one group at a time."""
        return apart_of(lambda batch: self.value(batch, self.advantages(batch)))

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """c[i,t] = - d loss / d logp[i,t], each group by itself over the leading axes."""
        batch.check()
        check_advantage_group(self.advantage, batch.reward.shape[-1])
        return self.apart()(batch)

    def describe(self) -> str:
        return f"loss {getattr(self.loss, '__name__', repr(self.loss))}, advantage={self.advantage!r}"


def advantages_of(advantage: Advantage | OfRewards, batch: Batch) -> Tensor:
    """A of one group, from its rewards, or from rewards and mask where the function takes two arguments."""
    if isinstance(advantage, Advantage) or not takes_mask(advantage):
        return advantage(batch.reward)
    return advantage(batch.reward, batch.mask)


@functools.cache
def takes_mask(advantage: OfRewards) -> bool:
    """Whether the function needs a second argument."""
    return len(needed_arguments(advantage)) > 1


def needed_arguments(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a call must give; one, where there is no signature to read."""
    try:
        taken = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return ["batch"]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in taken if p.default is p.empty and p.kind not in several]


def check_advantage_group(advantage: Advantage | OfRewards | None, group_size: int) -> None:
    """Raise ValueError where the advantage says that it is undefined for groups of this size."""
    if isinstance(advantage, Advantage):
        advantage.check_group(group_size)


def apart_of(objective: Callable[[Batch], Any]) -> Apart:
    """The token weights of an objective of one group."""

    def inside(batch: Batch) -> Tensor:
        def value(logp: Tensor) -> Tensor:
            found = objective(dataclasses.replace(batch, logp=logp))
            return found[0] if isinstance(found, tuple) else found

        return torch.func.grad(value)(batch.logp)

    def alone(batch: Batch) -> Tensor:
        c, depends = differentiate(objective, batch)
        made.depends = made.depends or depends
        return c

    made = Apart(alone, inside)
    return made
