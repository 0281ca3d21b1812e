"""What every exact method starts from: one prompt, checked tables, the outcomes with their probabilities."""

import copy
import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.estimators.advantages import about_origin, needs_moments
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import GIVEN, NOTHING, OLD, SAMPLER, kl_exact
from ticgrpo_theory.estimators.resolve import AnyEstimator, EstimatorLike, exact_group_size, resolve
from ticgrpo_theory.estimators.scales import Scale, sequence_sum
from ticgrpo_theory.exact.dynamic import forward_backward, measures
from ticgrpo_theory.exact.groups import conditional
from ticgrpo_theory.exact.groups.every_group import EveryGroup, OrderMatters
from ticgrpo_theory.exact.groups.options import DEFAULT, Options
from ticgrpo_theory.exact.groups.outcomes import AnyAdvantage, Outcomes, outcomes
from ticgrpo_theory.exact.one_response import OneResponse
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.stats.rounding import deviation
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import check_reference, check_sampler, check_support, logits

SOME = 8
"""Group size at which a claim about groups of any size is checked for an infinite one."""


@dataclass(frozen=True, eq=False)
class PromptProblem:
    """Groups of `group_size` responses of one prompt, drawn by the sampler; `estimator` acts at theta.

    `horizon` is the response limit of the whole world, which may exceed that of this prompt's graph.
    """

    mdp: TokenMDP
    theta: Float[Tensor, "S V"]
    theta_old: Float[Tensor, "S V"]
    theta_ref: Float[Tensor, "S V"] | None
    given: AnyEstimator
    group_size: int | float
    options: Options = DEFAULT
    theta_sampler: Float[Tensor, "S V"] | None = None
    """The policy that draws the responses; None: theta_old."""

    @property
    def policies(self) -> enumeration.Policies:
        """The policies of the problem."""
        return enumeration.Policies(self.theta, self.theta_old, self.theta_ref, self.theta_sampler)

    @property
    def sampler(self) -> Float[Tensor, "S V"]:
        """The policy that draws the responses."""
        return self.policies.drawn_from

    @property
    def reference(self) -> Float[Tensor, "S V"]:
        """The table that the penalty in the loss compares with; theta_old where it compares with nothing."""
        name = getattr(getattr(self.given, "penalty", None), "reference", GIVEN)
        tables = {GIVEN: self.theta_ref, OLD: self.theta_old, SAMPLER: self.sampler, NOTHING: self.theta_old}
        found = tables[name]
        assert found is not None
        return found

    @cached_property
    def on_old(self) -> bool:
        """Whether theta_old draws, whatever theta may draw, and nothing corrects for the sampler."""
        correction = isinstance(self.given, Estimator) and self.given.correction is not None
        return self.theta_sampler is None and not correction and not measures.lost(self.theta, self.theta_old)

    @cached_property
    def forward(self) -> forward_backward.Forward:
        """What the sampler visits: every node of the graph, and every outcome, with its probability."""
        return forward_backward.forward(self.mdp.graph, self.sampler.numpy())

    @cached_property
    def lost_mass(self) -> float:
        """Probability under theta of responses that hold a token which the sampler never draws."""
        return measures.lost_mass(self.mdp.graph, self.theta, self.sampler)

    def outcomes(self, advantage: AnyAdvantage, scale: Scale) -> Outcomes:
        """What the responses of a group can be, as this advantage and this scale see them."""
        graph = self.mdp.graph
        drawn = (graph.reward, graph.length, self.outcome_prob, self.group_size, self.mdp.horizon)
        return outcomes(advantage, scale, *drawn)

    @property
    def outcome_prob(self) -> NDArray[np.float64]:
        """Probability of every outcome under the policy that draws."""
        return self.forward.outcome_prob

    @cached_property
    def reward_origin(self) -> float:
        """The likeliest reward, from which `mean_beyond` is counted.

        Where it has nearly all the probability, mu less it is far below the rounding of mu: sigma needs it.
        """
        return float(self.mdp.graph.reward[self.outcome_prob.argmax()])

    @cached_property
    def mean_beyond(self) -> float:
        """E[r] - reward_origin of what is drawn: all its digits, however large the rewards are."""
        possible = self.outcome_prob > 0
        return float(self.outcome_prob[possible] @ (self.mdp.graph.reward[possible] - self.reward_origin))

    @property
    def reward_mean(self) -> float:
        """mu = E[r] of what is drawn."""
        return self.reward_origin + self.mean_beyond

    @cached_property
    def reward_std(self) -> float:
        """sigma of r as it is drawn; exactly 0 where all responses that can occur have the same reward."""
        possible = self.outcome_prob > 0
        beyond = self.mdp.graph.reward[possible] - self.reward_origin
        if not beyond.any():
            return 0.0
        return deviation(self.outcome_prob[possible], beyond - self.mean_beyond)

    @cached_property
    def estimator(self) -> AnyEstimator:
        """The estimator with population moments, where its advantage reads them, of what is drawn."""
        # Most advantages read no moments, and on millions of outcomes those take longer than the answer.
        if isinstance(self.given, Objective) or not needs_moments(self.given.advantage):
            return self.given
        refreshed = about_origin(self.given.advantage, self.reward_origin, self.mean_beyond, self.reward_std)
        return dataclasses.replace(self.given, advantage=refreshed)

    @property
    def axes(self) -> Estimator:
        """The estimator as a choice on each axis; what a callable has none of, obstacles keep away from here.

        Raises TypeError for a callable.
        """
        if not isinstance(self.estimator, Estimator):
            raise TypeError(f"{name_of(self.given)} is no choice on each axis")
        return self.estimator

    @property
    def with_advantage(self) -> Estimator | from_loss:
        """The estimator, whose advantage is known apart from its weights.

        Raises TypeError for a callable objective.
        """
        if isinstance(self.estimator, Objective):
            raise TypeError(f"{name_of(self.given)} says nothing of its advantage")
        return self.estimator

    @cached_property
    def responses(self) -> enumeration.Responses:
        """Every response that can be drawn, with padding as trainers have it."""
        return enumeration.with_padding(self.listed_responses, self.policies)

    @property
    def listed_responses(self) -> enumeration.Responses:
        """Every response that can be drawn, 0 behind it."""
        return enumeration.responses(self.mdp.graph, self.policies)

    @cached_property
    def one_response(self) -> OneResponse:
        """The claim that single responses give the weights, where parts are not of the catalogue."""
        estimator = self.with_advantage
        G = SOME if self.group_size == math.inf else int(self.group_size)
        return OneResponse(estimator, self.responses, G, self.mdp.horizon)

    @cached_property
    def advantage_obstacle(self) -> str:
        """Why an advantage that is not of the catalogue has no expectation given one response, or ''."""
        advantage = self.with_advantage.advantage
        try:
            conditional.conditional_advantages(self.outcomes(advantage, sequence_sum))
        except OrderMatters:
            return f"the advantage {advantage!r} depends on the order of the responses in a group"
        except ValueError as why:
            return str(why)
        return ""

    @cached_property
    def groups(self) -> EveryGroup:
        """All groups of the responses that can be drawn."""
        prob = self.responses.prob.numpy()
        estimator = self.estimator
        if isinstance(estimator.penalty, kl_exact):
            estimator = dataclasses.replace(estimator, penalty=None)
        G, options = int(self.group_size), self.options
        return EveryGroup(estimator, prob, G, options.symmetric, options.limit)

    def listed(self, method: str) -> int:
        """Groups that the method evaluated; 0 where it lists none."""
        return int(self.groups.groups) if method == "groups" else 0

    def batch(self, members: Tensor, positions: Tensor) -> Batch:
        """Groups of responses, by their number in `responses`."""
        return self.responses.batch(members, self.mdp.horizon)


Parts = list[tuple[float, PromptProblem]]
P = TypeVar("P", bound="CheckedProblem")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class CheckedProblem:
    """Groups of every prompt drawn by the sampler, an estimator at theta: checked when it is made.

    The public `Problem` of answers.py is this one with its answers. The arguments are those of
    `expected_gradient`. Raises ValueError for bad logits, a token that the sampler draws and theta_old
    forbids, a bad group size, and a penalty without theta_ref.
    """

    mdp: TokenMDP
    checked: Parts
    """(weight, problem) of every prompt, without anything that was computed from it."""

    def __init__(
        self,
        mdp: TokenMDP,
        theta: Tensor | ArrayLike,
        theta_old: Tensor | ArrayLike,
        estimator: EstimatorLike,
        group_size: int | float,
        method: str = "auto",
        theta_ref: Tensor | ArrayLike | None = None,
        *,
        symmetric: bool | None = None,
        limit: int | None = None,
        tolerance: float | None = None,
        seed: int = 0,
        theta_sampler: Tensor | ArrayLike | None = None,
        prompts: int | str | None = None,
        scope: str = "group",
    ) -> None:
        given = resolve(estimator)
        group_size = exact_group_size(group_size, given)
        now, old = logits(mdp, theta), logits(mdp, theta_old, "theta_old")
        sampler = None if theta_sampler is None else logits(mdp, theta_sampler, "theta_sampler")
        if sampler is not None:
            check_sampler(sampler, old)
        check_support(now, old if sampler is None else sampler)
        reference = None if theta_ref is None else logits(mdp, theta_ref, "theta_ref")
        if reference is not None:
            check_reference(old if sampler is None else sampler, reference)
        elif given.penalty is not None and getattr(given.penalty, "reference", GIVEN) == GIVEN:
            raise ValueError(
                f"the penalty {given.penalty!r} compares with a reference policy: "
                f"give theta_ref=... (logits [S, V])"
            )
        options = Options(symmetric, limit, tolerance, seed, method, prompts, scope)
        shared = (now, old, reference, given, group_size, options, sampler)
        checked = [(weight, PromptProblem(prompt, *shared)) for weight, prompt in mdp.prompts]
        vars(self).update(mdp=mdp, checked=checked)

    @property
    def parts(self) -> Parts:
        """(weight, problem) of every prompt, made anew: the responses that one lists are freed with it."""
        return [(weight, dataclasses.replace(problem)) for weight, problem in self.checked]

    @property
    def one(self) -> PromptProblem:
        """Any prompt's: all have the same policies, estimator and options."""
        return self.checked[0][1]

    @property
    def theta(self) -> Float[Tensor, "S V"]:
        return self.one.theta

    @property
    def theta_old(self) -> Float[Tensor, "S V"]:
        return self.one.theta_old

    @property
    def options(self) -> Options:
        return self.one.options

    @property
    def lost_mass(self) -> float:
        """Probability under theta of responses that the sampler never draws, over all prompts."""
        return sum(weight * part.lost_mass for weight, part in self.checked)

    def at(self: P, theta: Tensor | ArrayLike) -> P:
        """The same problem at another theta, which alone is checked; no answer is taken along."""
        now = logits(self.mdp, theta)
        check_support(now, self.one.sampler)
        return self.with_parts([(q, dataclasses.replace(one, theta=now)) for q, one in self.checked])

    def with_parts(self: P, checked: Parts) -> P:
        """The same but for its parts."""
        other = copy.copy(self)
        for name in [
            name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)
        ]:
            del vars(other)[name]
        vars(other).update(checked=checked)
        return other
