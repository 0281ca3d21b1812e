"""Whole updates that are drawn, for what can be neither reduced nor listed: as groups are (sampled.py)."""

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.exact.groups.every_group import EveryGroup
from ticgrpo_theory.exact.mean.known_mean import Expectation
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.drawn import drawn_responses
from ticgrpo_theory.exact.sampled import Groups, Sample, Weigh, drawn
from ticgrpo_theory.exact.updates.every_update import EveryUpdate, of_updates
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.worlds.graph import MAX_PATHS

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


@dataclass(eq=False)
class Updates(Groups):
    """Whole updates that are drawn."""

    problem: UpdateProblem  # type: ignore[reportIncompatibleVariableOverride]

    @property
    def listed(self) -> bool:
        return all(problem.mdp.graph.num_paths <= MAX_PATHS for problem in self.problem.update.problems)

    @cached_property
    def weigh(self) -> Weigh:
        if self.listed:
            return self.problem.groups.weigh
        update = self.problem.update
        return EveryGroup(of_updates(update), np.zeros(0), update.B).weigh

    def batch(self, every: enumeration.Responses, members: Tensor) -> Batch:
        return self.problem.update.batch_of(every, members)

    def draw(
        self, count: int, generator: torch.Generator
    ) -> tuple[enumeration.Responses, Int64[Tensor, "M B"]]:
        """Updates; ValueError where a filter draws for ever."""
        update = self.problem.update
        P = update.P
        q = torch.arange(P).expand(count, P).clone()
        if not update.each:
            q = drawn_prompts(update, count * P, generator).reshape(count, P)
        of, drop = (Listed if self.listed else Fresh)(self.problem, generator), update.drop
        members = of.groups(q.flatten())
        for _ in range(MAX_ROUNDS if drop is not None and drop.redraws else 0):
            reward = of.every.reward[members]
            equal = (reward.amax(dim=1) == reward.amin(dim=1)).nonzero()[:, 0]
            if not len(equal):
                break
            again = q.flatten()[equal]
            if drop is not None and drop.mode == "refill":
                again = drawn_prompts(update, len(equal), generator)
                q.view(-1)[equal] = again
            members[equal] = of.groups(again)
        else:
            if drop is not None and drop.redraws:
                raise ValueError(
                    f"groups of unequal rewards are so rare that {drop!r} did not find them in "
                    f"{MAX_ROUNDS:,} rounds: ask for an exact method, or move the policy to where rewards "
                    f"vary"
                )
        return of.padded(), members.reshape(count, -1)


def drawn_prompts(update: CoupledUpdate, count: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Prompts of so many groups."""
    weights = torch.from_numpy(update.weights.copy())
    return torch.multinomial(weights, count, replacement=True, generator=generator)


@dataclass(eq=False)
class Listed:
    """Groups drawn from the list of all responses."""

    problem: UpdateProblem
    generator: torch.Generator

    @property
    def every(self) -> enumeration.Responses:
        """The responses so far."""
        return self.problem.responses

    def padded(self) -> enumeration.Responses:
        """The same as a trainer holds them."""
        return self.problem.responses

    def groups(self, q: Int64[Tensor, " n"]) -> Int64[Tensor, "n G"]:
        """A group of each of these prompts, by the numbers of its responses."""
        G = self.problem.update.G
        members = torch.empty((len(q), G), dtype=torch.int64)
        for prompt in q.unique().tolist():
            of_prompt = (q == prompt).nonzero()[:, 0]
            members[of_prompt] = self.of_prompt(prompt, len(of_prompt) * G).reshape(-1, G)
        return members

    def of_prompt(self, prompt: int, count: int) -> Int64[Tensor, " n"]:
        """Responses to one prompt."""
        start, stop = self.problem.update.listed[1][prompt : prompt + 2]
        prob = self.problem.responses.prob[start:stop]
        return torch.multinomial(prob, count, replacement=True, generator=self.generator) + start


@dataclass(eq=False)
class Fresh(Listed):
    """Groups whose responses are drawn token by token."""

    held: list[enumeration.Responses] = field(default_factory=list)

    @property
    def every(self) -> enumeration.Responses:
        self.held[:] = [enumeration.joined(self.held)]
        return self.held[0]

    def padded(self) -> enumeration.Responses:
        return enumeration.with_padding(self.every, self.problem.policies)

    def of_prompt(self, prompt: int, count: int) -> Int64[Tensor, " n"]:
        of = self.problem.update.problems[prompt]
        first = sum(len(each.reward) for each in self.held)
        self.held.append(drawn_responses(of.mdp.graph, of.policies, count, self.generator))
        return torch.arange(first, first + count)


def problem_of(update: CoupledUpdate) -> UpdateProblem:
    """The update as one problem. Its mdp is that of a prompt with the longest responses."""
    one = max(update.problems, key=lambda problem: problem.mdp.graph.horizon)
    given = {f.name: getattr(one, f.name) for f in dataclasses.fields(PromptProblem)}
    return UpdateProblem(**{**given, "group_size": update.B}, update=update)


def drawn_updates(update: CoupledUpdate) -> Sample:
    """As many updates as the tolerance needs. Raises ValueError where they cannot be drawn."""
    if update.one.group_size == math.inf:
        raise ValueError("an update of infinite groups cannot be drawn: give a finite group_size")
    return drawn(Updates(problem_of(update)))


def sampled_update(update: CoupledUpdate) -> Expectation:
    """E[g_hat] from updates that are drawn, with its interval."""
    found = drawn_updates(update).expectation
    found = dataclasses.replace(found, assumed=found.assumed.replace(" groups", " updates"))
    said = update.said
    return dataclasses.replace(found, assumed=f"{said}; {found.assumed}") if said else found
