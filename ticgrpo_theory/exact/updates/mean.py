"""E[g_hat] of whole updates whose groups are coupled, by the cheapest method that is exact.

dynamic_programming, enumeration   one row, the others through their rewards and lengths (one_row.py)
groups                             every update: any parts, any callable of the whole update
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import kl_exact
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.mean.known_mean import Expectation
from ticgrpo_theory.exact.mean.mean_weights import (
    dynamic_weights,
    enumerated_weights,
    multiset_weights,
)
from ticgrpo_theory.exact.mean.rounding import UNIT, operations, refuse_lost_digits, rounding_of
from ticgrpo_theory.exact.obstacles import dynamic_obstacle, reduction_obstacle
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.updates.every_update import EveryUpdate, all_responses, of_updates
from ticgrpo_theory.exact.updates.one_row.shares import Share, row_obstacle, shares
from ticgrpo_theory.exact.updates.update import Update
from ticgrpo_theory.worlds.graph import MAX_PATHS
from ticgrpo_theory.worlds.pull_back import pull_back

METHODS = ("dynamic_programming", "enumeration", "groups")


@dataclass(frozen=True, eq=False)
class CoupledUpdate(Update):
    """An update whose groups are coupled, and what is computed of it."""

    @property
    def lost_mass(self) -> float:
        """Probability under theta of responses that are never drawn."""
        return float(sum(q * p.lost_mass for q, p in zip(self.weights, self.problems, strict=True)))

    @cached_property
    def shares(self) -> list[Share]:
        """What a row of each prompt contributes."""
        return shares(self)

    @cached_property
    def row_problems(self) -> list[PromptProblem]:
        """The prompts with an estimator that weighs one row: the ratio, the clip and the correction."""
        plain = self.axes.of_each_row
        return [dataclasses.replace(problem, given=plain) for problem in self.problems]

    @cached_property
    def why_not_one_row(self) -> str:
        """Why the update does not reduce to one row, or why the sums are not affordable; '' where it does."""
        why = row_obstacle(self)
        if why:
            return why
        for problem in self.row_problems:
            why = reduction_obstacle(problem)
            if why:
                return why
        try:
            _ = self.shares
        except NotAffordable as error:
            return str(error)
        return ""

    @cached_property
    def every(self) -> EveryUpdate:
        """All updates there are."""
        responses, starts = self.listed
        options = self.one.options
        prob = responses.prob.numpy()
        return EveryUpdate(
            of_updates(self), prob, self.B, options.symmetric, options.limit, update=self, starts=starts
        )

    @cached_property
    def listed(self) -> tuple[enumeration.Responses, list[int]]:
        """The responses of all prompts, and where each prompt's begin."""
        return all_responses(self)

    def batch(self, members: Tensor, positions: Tensor):
        """Updates of responses, by their numbers in the list of all, as rows [M, B, T]."""
        return self.batch_of(self.listed[0], members)

    def batch_of(self, every: enumeration.Responses, members: Tensor):
        """Updates of these responses as rows [M, B, T]."""
        group = torch.arange(self.P).repeat_interleave(self.G)
        batch = every.batch(members, self.one.mdp.horizon)
        return dataclasses.replace(batch, group=group.expand(len(members), -1))

    def obstacle(self, method: str) -> str:
        """Why a method is not exact or not affordable, or ''."""
        if method == "groups":
            return self.listing_obstacle()
        if self.why_not_one_row or method == "enumeration":
            return self.why_not_one_row
        return next((why for problem in self.row_problems if (why := dynamic_obstacle(problem))), "")

    def listing_obstacle(self) -> str:
        """Why updates cannot be listed, or ''."""
        if isinstance(getattr(self.one.given, "penalty", None), kl_exact):
            return "kl_exact is no function of the sampled tokens of a group"
        if max(problem.mdp.graph.num_paths for problem in self.problems) > MAX_PATHS:
            return f"a prompt has more than MAX_PATHS = {MAX_PATHS:,} responses to list"
        why = self.every.obstacle()
        if not why or self.every.groups > multisets.MAX_GROUPS:
            return f"{why}: lower P, G or the number of responses" if why else ""
        return f"{why}; limit={self.every.groups} allows them"

    def method(self, named: str) -> str:
        """The method to use: the named one if it is exact, for "auto" the first that is."""
        if named not in ("auto", *METHODS):
            choices = ", ".join(map(repr, METHODS))
            raise ValueError(f"method = {named!r}: choose 'auto', {choices}, or where there is one 'sampled'")
        if named != "auto" and not self.obstacle(named):
            return named
        exact = next((name for name in METHODS if not self.obstacle(name)), None)
        if named == "auto" and exact is not None:
            return exact
        tried = METHODS if named == "auto" else (named,)
        reasons = "; ".join(f"{name}: {self.obstacle(name)}" for name in tried)
        refused = (
            f"method={named!r} is not exact or not affordable for updates of (P, G) = ({self.P}, "
            f"{self.G}) and the estimator {name_of(self.one.given)}: {reasons}"
        )
        if exact is not None:
            raise ValueError(f"{refused}; use method={exact!r}")
        raise NotAffordable(f"{refused}; method='sampled' gives the mean of updates with its interval")

    def weights_by(self, method: str) -> Float[Tensor, "S V"]:
        """M, the expected token weights of each (row, token)."""
        if method == "groups":
            every, _ = self.listed
            coefficients = multiset_weights(self.every, self.batch, *every.mask.shape)
            return enumeration.scatter(every.paths, coefficients, *self.one.theta.shape)
        weights = WEIGHTS[method]
        M = torch.zeros_like(self.one.theta)
        for share, problem in zip(self.shares, self.row_problems, strict=True):
            M += share.weight * weights(problem, share.plus, share.minus)
        return M

    def gradient(self, method: str) -> Float[Tensor, "S V"]:
        """E[g_hat]."""
        M, one = self.weights_by(method).contiguous(), self.one
        score = one.estimator.score(one.theta, one.theta_old)
        pull_back(M.numpy(), score.contiguous().numpy(), M.numpy())
        refuse_lost_digits(one.given, M)
        return M

    def rounding(self, method: str) -> float:
        """Bound on what rounding adds to ||E[g_hat]||, once the method has summed it."""
        if method == "groups":
            n = max(operations(p.mdp.graph, p.theta, p.theta_old) for p in self.problems)
            return 2 * (n + self.B) * UNIT * self.every.size
        return sum(
            share.weight * rounding_of(problem, WEIGHTS[method], share.plus, share.minus, self.B)
            for share, problem in zip(self.shares, self.row_problems, strict=True)
        )

    def assumed(self, method: str) -> str:
        """What the number rests on besides declarations, and what it is weighed by."""
        said = [self.said]
        if (
            method == "groups"
            and isinstance(self.one.given, Objective | from_loss)
            and not self.every.ordered
        ):
            said.append(
                f"order checked on {self.every.checked:,} updates"
                if self.every.checked
                else "order assumed not to matter"
            )
        return "; ".join(filter(None, said))


WEIGHTS = {"dynamic_programming": dynamic_weights, "enumeration": enumerated_weights}


def expectation_of_update(update: CoupledUpdate) -> Expectation:
    """E[g_hat] of whole updates, with how it is known."""
    method = update.one.options.method
    chosen = update.method(method)
    value = update.gradient(chosen)
    return Expectation(
        value,
        chosen,
        update.assumed(chosen),
        groups=int(update.every.groups) if chosen == "groups" else 0,
        rounding=update.rounding(chosen),
        lost_mass=update.lost_mass,
    )
