"""What may stand for an estimator, and the one place that turns it into something with token weights."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, FACTORIES
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import (
    Objective,
    check_advantage_group,
    from_loss,
    needed_arguments,
)
from ticgrpo_theory.estimators.properties import BLACK_BOX, Properties
from ticgrpo_theory.inputs.numbers import number_or_nan, shown

AnyEstimator = Estimator | Objective | from_loss
EstimatorLike = AnyEstimator | str | Callable[[Batch], Any]

LOSS_ARGUMENTS = {
    "logp": ("logp", "logps", "log_prob", "log_probs", "logprobs", "per_token_logps"),
    "logp_old": (
        "logp_old",
        "old_logp",
        "old_log_prob",
        "old_log_probs",
        "old_logprobs",
        "old_per_token_logps",
    ),
    "advantages": ("advantages", "advantage"),
    "mask": ("mask", "response_mask", "completion_mask", "action_mask", "loss_mask"),
}
"""The four things that a trainer's loss is given, under the names that trainers have for them."""


@runtime_checkable
class HasTokenWeights(Protocol):
    """Whatever turns groups into token weights c[i,t]; all that a sum over groups asks of an estimator."""

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b G T"]: ...


def properties_of(estimator: HasTokenWeights) -> Properties:
    """What an estimator declares; a black box where it declares nothing."""
    found = getattr(estimator, "properties", None)
    return found if isinstance(found, Properties) else BLACK_BOX


def resolve(estimator: EstimatorLike) -> AnyEstimator:
    """A catalogue name, an estimator, or a callable objective(batch) -> scalar to be maximised.

    Raises ValueError for anything else, a loss of four arguments and a factory that was not called included.
    """
    if isinstance(estimator, str):
        return ESTIMATORS[estimator]
    if isinstance(estimator, Estimator | Objective | from_loss):
        return estimator
    if any(estimator is factory for factory in FACTORIES):
        name = getattr(estimator, "__name__", "")
        raise ValueError(f"the factory {name} was not called: give {name}(), or the name {name!r}")
    if not callable(estimator) or isinstance(estimator, type):
        raise ValueError(
            f"estimator {estimator!r} is neither a name, an Estimator, from_loss(...), nor a callable: "
            f"give one of these; names are in ticgrpo_theory.estimators.ESTIMATORS"
        )
    needed = needed_arguments(estimator)
    if loss_arguments(needed) is not None:
        raise ValueError(
            f"{named(estimator)}({', '.join(needed)}) is a loss to be minimised, whose advantages somebody "
            f"has to make: give from_loss({named(estimator)}, standardised()), from "
            f"ticgrpo_theory.estimators.losses and .advantages"
        )
    if len(needed) > 1:
        raise ValueError(
            f"{named(estimator)} needs {len(needed)} arguments ({', '.join(needed)}); an objective takes "
            f"one, the batch, and a loss takes (logp, logp_old, advantages, mask): give the others defaults"
        )
    return Objective(estimator)


def named(estimator: Any) -> str:
    """What a callable is called."""
    return getattr(estimator, "__name__", type(estimator).__name__)


def loss_arguments(needed: Sequence[str]) -> dict[str, str] | None:
    """standard name -> the function's own, where its arguments are those of a trainer's loss; else None."""
    found = {standard: own for standard, names in LOSS_ARGUMENTS.items() for own in needed if own in names}
    return found if len(found) == len(needed) == len(LOSS_ARGUMENTS) else None


def as_loss(function: Callable[..., Any], advantage: Any) -> from_loss:
    """from_loss of a function that takes the four arguments in any order, by their names.

    Raises ValueError where its arguments are other ones.
    """
    names = loss_arguments(needed_arguments(function))
    if names is None:
        raise ValueError(
            f"{named(function)} takes ({', '.join(needed_arguments(function))}); a loss takes logp, "
            f"logp_old, advantages and mask, in any order, by these names or a trainer's"
        )

    def loss(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Any:
        given = {"logp": logp, "logp_old": logp_old, "advantages": advantages, "mask": mask}
        return function(**{names[standard]: value for standard, value in given.items()})

    loss.__name__ = named(function)
    return from_loss(loss, advantage)


LARGEST_GROUP = 2**53
"""Largest finite group: every number of responses is then exact in float64."""


def check_group_size(group_size: int | float, estimator: AnyEstimator) -> int | float:
    """The group size as an int >= 1 (>= 2 for some advantages) or math.inf; ValueError for anything else."""
    # An int as it is: a float has no more than 53 bits, and no number beyond 1e308.
    G = group_size if type(group_size) is int else number_or_nan(group_size)
    if not G >= 1 or (G != math.inf and G != int(G)):
        raise ValueError(
            f"group_size = {shown(group_size)}: a group has a whole number >= 1 of responses, or math.inf of "
            f"them"
        )
    if G == math.inf:
        return G
    check_advantage_group(getattr(estimator, "advantage", None), int(group_size))
    return int(group_size)


def exact_group_size(group_size: int | float, estimator: AnyEstimator) -> int | float:
    """The same where numbers of responses enter formulas; ValueError beyond LARGEST_GROUP too."""
    G = check_group_size(group_size, estimator)
    if LARGEST_GROUP < G < math.inf:
        raise ValueError(
            f"group_size is beyond LARGEST_GROUP = {LARGEST_GROUP:,}, up to which numbers of responses are "
            f"exact in float64: use group_size=math.inf, from which so large a group does not differ"
        )
    return G
