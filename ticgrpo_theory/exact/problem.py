"""What every exact method starts from: one prompt, checked tables, the law of outcomes under theta_old."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.exact import dynamic
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.policy import check_support, logits

AnyEstimator = Estimator | Objective | from_loss
EstimatorLike = AnyEstimator | str | Callable[[Batch], Tensor]


def resolve(estimator: EstimatorLike) -> AnyEstimator:
    """A catalogue name, an estimator, or a callable objective(batch) -> scalar to be maximised."""
    if isinstance(estimator, str):
        return ESTIMATORS[estimator]
    if isinstance(estimator, Estimator | Objective | from_loss):
        return estimator
    if callable(estimator):
        return Objective(estimator)
    raise ValueError(
        f"estimator {estimator!r} is neither a name, an Estimator, from_loss(...), nor a callable: "
        f"give one of these; names are in ticgrpo_theory.estimators.ESTIMATORS"
    )


def check_group_size(group_size: int | float, estimator: AnyEstimator) -> None:
    """Raise ValueError unless group_size is an integer >= 1 (>= 2 for some advantages) or math.inf."""
    if group_size != math.inf and not (group_size >= 1 and group_size == int(group_size)):
        raise ValueError(
            f"group_size = {group_size}: a group has a whole number >= 1 of responses, or math.inf of them"
        )
    if group_size != math.inf and not isinstance(estimator, Objective):
        estimator.advantage.check_group(int(group_size))


@dataclass(frozen=True, eq=False)
class Problem:
    """Groups of `group_size` responses of one prompt, drawn from theta_old; `estimator` acts at theta.

    `horizon` is the response limit of the whole world, which may exceed that of this prompt's graph.
    """

    mdp: TokenMDP
    theta: Float[Tensor, "S V"]
    theta_old: Float[Tensor, "S V"]
    theta_ref: Float[Tensor, "S V"] | None
    given: AnyEstimator
    group_size: int | float

    @cached_property
    def forward(self) -> dynamic.Forward:
        """What theta_old visits: every node of the graph, and every outcome, with its probability."""
        return dynamic.forward(self.mdp.graph, self.theta_old.numpy())

    @property
    def law(self) -> NDArray[np.float64]:
        """Probability of every outcome under theta_old."""
        return self.forward.law

    @cached_property
    def reward_mean(self) -> float:
        """mu = E_old[r]."""
        return float(self.law @ self.mdp.graph.reward)

    @cached_property
    def reward_std(self) -> float:
        """sigma of r under theta_old; exactly 0 where all responses that can occur have the same reward."""
        possible = self.mdp.graph.reward[self.law > 0]
        if possible.max() == possible.min():
            return 0.0
        return math.sqrt(float(self.law @ (self.mdp.graph.reward - self.reward_mean) ** 2))

    @cached_property
    def estimator(self) -> AnyEstimator:
        """The estimator with population moments, where its advantage asks for them, taken at theta_old."""
        # Most advantages ask for no moments, and on millions of outcomes those take longer than the answer.
        if isinstance(self.given, Objective) or type(self.given.advantage).at is Advantage.at:
            return self.given
        refreshed = self.given.advantage.at(self.reward_mean, self.reward_std)
        return dataclasses.replace(self.given, advantage=refreshed)


def problems(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    theta_ref: Tensor | ArrayLike | None = None,
) -> list[tuple[float, Problem]]:
    """(weight, Problem) of every prompt, with everything checked once.

    Raises ValueError for bad logits, a token possible under theta but not under theta_old, a bad group size,
    and a penalty without theta_ref.
    """
    chosen = resolve(estimator)
    check_group_size(group_size, chosen)
    now, old = logits(mdp, theta), logits(mdp, theta_old, "theta_old")
    check_support(now, old)
    reference = None if theta_ref is None else logits(mdp, theta_ref, "theta_ref")
    if reference is not None:
        check_reference(old, reference)
    if isinstance(chosen, Estimator) and chosen.penalty is not None and reference is None:
        raise ValueError(
            f"the penalty {chosen.penalty!r} compares with a reference policy: "
            f"give theta_ref=... (logits [S, V])"
        )
    return [
        (weight, Problem(prompt, now, old, reference, chosen, group_size)) for weight, prompt in mdp.prompts
    ]


def check_reference(theta_old: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]) -> None:
    """Raise ValueError where the reference forbids a token that theta_old draws."""
    forbidden = (theta_ref == -math.inf) & (theta_old > -math.inf)
    if bool(forbidden.any()):
        row, token = forbidden.nonzero()[0].tolist()
        raise ValueError(
            f"row {row}, token {token} has probability zero under theta_ref but not under theta_old: the "
            f"divergence to the reference is infinite; mask the token in theta_old too, or give it a finite "
            f"logit in theta_ref"
        )
