"""How much of a group the clip changes: every response is listed, the sign of its A is integrated out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.estimators.advantage import reads_differences, reads_of
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.clipped_tokens import clipped
from ticgrpo_theory.estimators.clipping import before_pooling
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.properties import reads
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.groups import conditional
from ticgrpo_theory.exact.obstacles import is_unclipped
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.updates.update import update_of
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import logits

NO_SIGN = 1e-9
"""|r - mean| / std up to which a reward is the mean of its group: that of (0, 1/2, 1) may not be just 1/2."""


def clip_fractions(
    mdp: TokenMDP,
    thetas: Sequence[Tensor | ArrayLike],
    theta_old: Tensor | ArrayLike,
    estimator: Estimator,
    group_size: int,
    *,
    theta_sampler: Tensor | ArrayLike | None = None,
    prompts: int | str | None = None,
) -> list[float]:
    """E[sum_t 1{A != 0, weight of token t switched off or held}] / E[|s|], for each theta.

    Responses and the rewards of their groups are those that the sampler draws: `theta_sampler`, or theta_old;
    the ratio, and with it the clip, is that of theta to theta_old. A token with A = 0 has no weight to lose
    and counts below the line only, as in the logs of trainers. So does one whose weight a correction masks or
    truncates while the clip leaves it alone: the share is that of the clip, of all tokens that are drawn.
    `prompts` as for `expected_gradient`: "each" counts every prompt alike, whatever its weight.
    Raises ValueError as `expected_gradient` does, and for more responses than can be enumerated.
    """
    if not estimator.properties.known:
        raise ValueError(
            f"the share of clipped tokens is found response by response, and {name_of(estimator)} has parts "
            f"that are not of the catalogue: {', '.join(estimator.properties.undeclared) or 'its advantage'}"
        )
    changed, tokens = torch.zeros(len(thetas), dtype=torch.float64), 0.0
    tables = [logits(mdp, theta) for theta in thetas]
    given = (mdp, theta_old, theta_old, estimator, group_size)
    parts = CheckedProblem(*given, theta_sampler=theta_sampler, prompts=prompts).parts
    update = update_of(parts)
    for weight, problem in parts if update is None else update.alike:
        graph = problem.mdp.graph
        tokens += weight * float(problem.outcome_prob @ graph.length)
        if is_unclipped(estimator.clip, graph):
            continue
        every = problem.listed_responses
        logp = torch.stack([enumeration.token_log_probabilities(every.paths, table) for table in tables])
        log_ratio, mask = (logp - every.logp_old)[:, :, None], every.mask.expand(logp.shape)[:, :, None]
        old = every.logp_old.expand(logp.shape)[:, :, None]
        for sign, probability in zip((1.0, -1.0), sign_probabilities(problem, problem.axes), strict=True):
            A = torch.full(log_ratio.shape[:-1], sign, dtype=torch.float64)
            count = clipped_tokens(estimator, log_ratio, A, mask, old)[:, :, 0].sum(dim=-1).double()
            changed += weight * (count @ (every.prob * torch.from_numpy(probability[every.paths.outcome])))
    return (changed / tokens).tolist()


def clipped_tokens(
    estimator: Estimator,
    log_ratio: Float[Tensor, "*b G T"],
    A: Float[Tensor, "*b G"],
    mask: Bool[Tensor, "*b G T"],
    logp_old: Float[Tensor, "*b G T"] | None = None,
) -> Bool[Tensor, "*b G T"]:
    """Tokens whose weight the clip switches off, or holds where it is saturating; False on padding."""
    found = clipped(estimator.clip, estimator.ratio, log_ratio, mask, A >= 0, logp_old)
    # A clip before pooling also moves the weights of tokens that it does not touch: those are not clipped.
    pooled_after = type(estimator.clip).weight is before_pooling.weight
    return found.off if pooled_after else found.off | found.held


@dataclass(frozen=True)
class sign_of(Advantage):
    """The sign of another advantage, 0 for a rounded zero."""

    advantage: Advantage

    @property
    def relative(self) -> bool:  # type: ignore[override]
        return reads_differences(self.advantage)

    def in_units(self, unit: float) -> "sign_of":
        # A sign has no unit: an advantage in the unit of the rewards has the same one in any.
        return sign_of(self.advantage.in_units(unit) or self.advantage)

    @reads(lambda self: reads_of(self.advantage))
    def of_moments(self, reward: Tensor, mean: Tensor, variance: Tensor, group_size: int) -> Tensor:
        A = self.advantage.of_moments(reward, mean, variance, group_size)
        if not self.relative:
            return A.sign()
        return A.sign().where((reward - mean).abs() > NO_SIGN * variance.sqrt(), 0.0)


def sign_probabilities(
    problem: PromptProblem, estimator: Estimator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P(A_1 > 0 | outcome of response 1) and P(A_1 < 0 | outcome of response 1)."""
    case = problem.outcomes(sign_of(cast(Advantage, estimator.advantage)), sequence_sum)
    plus, minus = conditional.conditional_advantages(case)
    return plus, -minus
