"""What the rows of an update can be: rewards and lengths as its statistics see them, prompt by prompt."""

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import from_numpy

from ticgrpo_theory.estimators.scales import Scale, sequence_sum
from ticgrpo_theory.exact.groups.every_group import EveryGroup, NotAffordable
from ticgrpo_theory.exact.groups.outcomes import AnyAdvantage, Outcomes, outcomes
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.updates.update import Update

FloatsO = Float64[np.ndarray, " O"]


@dataclass(frozen=True, eq=False)
class Rows:
    """The outcomes of one prompt's responses, after a filter of responses."""

    problem: PromptProblem
    update: Update

    @property
    def prob(self) -> FloatsO:
        """Probability of every outcome, as it is drawn."""
        return self.problem.outcome_prob

    @cached_property
    def counted(self) -> Bool[np.ndarray, " O"]:
        """Outcomes in the loss: a mask leaves out those that were cut."""
        graph, cut = self.problem.mdp.graph, self.update.overlong
        if cut is None or cut.mode != "mask":
            return np.ones(graph.reward.size, dtype=bool)
        return np.arange(graph.reward.size) < graph.final_start

    @cached_property
    def length(self) -> FloatsO:
        """Tokens in the loss: 0 of an outcome that is left out."""
        return self.problem.mdp.graph.length * self.counted.astype(np.float64)

    @cached_property
    def reward(self) -> FloatsO:
        """Rewards that statistics see."""
        graph, cut = self.problem.mdp.graph, self.update.overlong
        if cut is None or cut.mode == "mask":
            return graph.reward
        penalty = cut.penalty(torch.from_numpy(graph.length), self.problem.mdp.horizon)
        return graph.reward + penalty.numpy()

    def outcomes(self, advantage: AnyAdvantage, scale: Scale = sequence_sum) -> Outcomes:
        """What a group of them can be, as this advantage and this scale of a group see them."""
        drawn = (self.reward, self.length, self.prob, self.update.G, self.problem.mdp.horizon)
        return outcomes(advantage, scale, *drawn)

    @cached_property
    def own_scale(self) -> FloatsO:
        """G scale of a row, P times what it is in the update, for a scale that reads no other row."""
        length = from_numpy(np.maximum(self.length, 1.0))
        G, scale = self.update.G, self.update.axes.scale
        return (G * scale(length, G * length, G, self.problem.mdp.horizon)).numpy()


@dataclass(frozen=True, eq=False)
class FilteredProblem(PromptProblem):
    """A prompt whose groups see rewards and lengths as a filter of responses leaves them."""

    rows: Rows = field(kw_only=True)

    def outcomes(self, advantage: AnyAdvantage, scale: Scale) -> Outcomes:
        return self.rows.outcomes(advantage, scale)

    @cached_property
    def groups(self) -> EveryGroup:
        raise NotAffordable(
            f"groups of one prompt do not know {self.rows.update.overlong!r}, a filter of updates: give "
            f"method='groups' for the update"
        )


def seen(update: Update, problem: PromptProblem) -> PromptProblem:
    """The prompt as a filter of responses leaves it; itself where there is none."""
    if update.overlong is None:
        return problem
    given = {f.name: getattr(problem, f.name) for f in fields(PromptProblem) if f.init}
    return FilteredProblem(**given, rows=Rows(problem, update))


def rows_of(update: Update) -> list[Rows]:
    """The rows of every prompt."""
    return [Rows(problem, update) for problem in update.problems]


def lengths_of(rows: list[Rows]) -> tuple[float, float, float]:
    """(least > 0, least, largest) number of tokens in the loss of a row that can occur."""
    every = np.concatenate([each.length[each.prob > 0] for each in rows])
    return float(every[every > 0].min()), float(every.min()), float(every.max())
