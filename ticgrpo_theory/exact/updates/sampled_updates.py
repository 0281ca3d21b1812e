"""Whole updates that are drawn, for what can be neither reduced nor listed: as groups are (sampled.py)."""

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.sampled import Expectation, Sample, drawn
from ticgrpo_theory.exact.updates.every_update import EveryUpdate
from ticgrpo_theory.exact.updates.mean import CoupledUpdate

MAX_ROUNDS = 10_000
"""Times that groups of equal rewards are drawn again."""


@dataclass(frozen=True, eq=False)
class UpdateProblem(PromptProblem):
    """An update as if it were one group of B responses to all prompts; `update` says how they are drawn."""

    update: CoupledUpdate = field(kw_only=True)

    @cached_property
    def responses(self) -> enumeration.Responses:
        return self.update.listed[0]

    @cached_property
    def groups(self) -> EveryUpdate:
        return self.update.every

    @cached_property
    def lost_mass(self) -> float:
        return self.update.lost_mass

    def batch(self, members: Tensor, positions: Tensor) -> Batch:
        return self.update.batch(members, positions)

    def drawn_members(self, count: int, generator: torch.Generator) -> Int64[Tensor, "M B"]:
        """Updates by their numbers in the list of all responses; ValueError where a filter draws for ever."""
        update, P = self.update, self.update.P
        q = torch.arange(P).expand(count, P).clone()
        if not update.each:
            q = self.drawn_prompts(count * P, generator).reshape(count, P)
        members = self.drawn_groups(q.flatten(), generator)
        drop = update.drop
        for _ in range(MAX_ROUNDS if drop is not None and drop.redraws else 0):
            reward = self.responses.reward[members]
            equal = (reward.amax(dim=1) == reward.amin(dim=1)).nonzero()[:, 0]
            if not len(equal):
                break
            again = q.flatten()[equal]
            if drop is not None and drop.mode == "refill":
                again = self.drawn_prompts(len(equal), generator)
                q.view(-1)[equal] = again
            members[equal] = self.drawn_groups(again, generator)
        else:
            if drop is not None and drop.redraws:
                raise ValueError(
                    f"groups of unequal rewards are so rare that {drop!r} did not find them in "
                    f"{MAX_ROUNDS:,} rounds: ask for an exact method, or move the policy to where rewards "
                    f"vary"
                )
        return members.reshape(count, -1)

    def drawn_prompts(self, count: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
        weights = torch.from_numpy(self.update.weights.copy())
        return torch.multinomial(weights, count, replacement=True, generator=generator)

    def drawn_groups(self, q: Int64[Tensor, " n"], generator: torch.Generator) -> Int64[Tensor, "n G"]:
        """A group of each of these prompts."""
        members = torch.empty((len(q), self.update.G), dtype=torch.int64)
        starts = self.update.listed[1]
        for prompt in q.unique().tolist():
            of_prompt = (q == prompt).nonzero()[:, 0]
            prob = self.responses.prob[starts[prompt] : starts[prompt + 1]]
            count = len(of_prompt) * self.update.G
            chosen = torch.multinomial(prob, count, replacement=True, generator=generator)
            members[of_prompt] = chosen.reshape(-1, self.update.G) + starts[prompt]
        return members


def problem_of(update: CoupledUpdate) -> UpdateProblem:
    """The update as one problem. Its mdp is that of a prompt with the longest responses."""
    one = max(update.problems, key=lambda problem: problem.mdp.graph.horizon)
    given = {f.name: getattr(one, f.name) for f in dataclasses.fields(PromptProblem)}
    return UpdateProblem(**{**given, "group_size": update.B}, update=update)


def drawn_updates(update: CoupledUpdate) -> Sample:
    """As many updates as the tolerance needs. Raises ValueError where they cannot be drawn."""
    if update.one.group_size == math.inf:
        raise ValueError("an update of infinite groups cannot be drawn: give a finite group_size")
    return drawn(problem_of(update))


def sampled_update(update: CoupledUpdate) -> Expectation:
    """E[g_hat] from updates that are drawn, with its interval."""
    found = drawn_updates(update).expectation
    found = dataclasses.replace(found, assumed=found.assumed.replace(" groups", " updates"))
    said = update.said
    return dataclasses.replace(found, assumed=f"{said}; {found.assumed}") if said else found
