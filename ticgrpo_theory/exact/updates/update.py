"""What an update is: which prompts its groups belong to, and whether anything couples them.

    prompts=P       P groups, the prompt of each drawn by its weight, independently
    prompts="each"  one group of every prompt, in the order of the world, whatever the weights are
    prompts=None    one group of a prompt that is drawn: P = 1

Where nothing couples the groups, E[g_hat] is a mean over groups: by weight, or over each prompt alike.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.exact.problem import Parts, PromptProblem

Alike = 1e-12
"""Weights this close to 1/P are those of prompts that are equally likely."""


@dataclass(frozen=True, eq=False)
class Update:
    """P groups of every prompt's responses; `parts` are the weights and problems of the prompts."""

    parts: Parts

    @property
    def one(self) -> PromptProblem:
        """Any prompt's problem: all have the same policies, estimator and options."""
        return self.parts[0][1]

    @property
    def each(self) -> bool:
        """Whether every prompt is in every update."""
        return self.one.options.prompts == "each"

    @property
    def P(self) -> int:
        """Groups of an update."""
        prompts = self.one.options.prompts
        if prompts is None:
            return 1
        return len(self.parts) if isinstance(prompts, str) else prompts

    @property
    def G(self) -> int:
        """Responses of a group. Raises ValueError for an infinite one."""
        if self.one.group_size == math.inf:
            raise ValueError(
                f"the estimator {name_of(self.one.given)} reads whole updates, and an update of infinite "
                f"groups is none: give a finite group_size"
            )
        return int(self.one.group_size)

    @property
    def B(self) -> int:
        """Rows of an update."""
        return self.P * self.G

    @property
    def weights(self) -> Float64[np.ndarray, " Q"]:
        """Probability of every prompt; where each is there once, its share of the groups."""
        if self.each:
            return np.full(len(self.parts), 1 / self.P)
        return np.array([weight for weight, _ in self.parts])

    @property
    def problems(self) -> list[PromptProblem]:
        return [problem for _, problem in self.parts]

    @cached_property
    def coupled(self) -> bool:
        """Whether the weights of one group may depend on the others, or on which groups an update has."""
        given = self.one.given
        if isinstance(given, Estimator):
            return given.reads_update
        return self.one.options.scope == "batch"

    @property
    def axes(self) -> Estimator:
        """The estimator as a choice on each axis. Raises TypeError for a callable."""
        return self.one.axes

    @property
    def drop(self) -> drop_equal | None:
        """The filter of groups, where there is one."""
        found = getattr(self.one.given, "filter", None)
        return found if isinstance(found, drop_equal) else None

    @property
    def overlong(self) -> overlong | None:
        """The filter of responses, where there is one."""
        found = getattr(self.one.given, "filter", None)
        return found if isinstance(found, overlong) else None

    @property
    def said(self) -> str:
        """What the mean is weighed by, where the weights of the world are not read."""
        given = np.array([weight for weight, _ in self.parts])
        if not self.each or bool((np.abs(given - 1 / self.P) <= Alike).all()):
            return ""
        listed = ", ".join(f"{q:.6g}" for q in given[:8]) + (", ..." if given.size > 8 else "")
        return (
            f"every prompt is in every update once and counts alike, 1/{self.P} each: the weights "
            f"{listed} of the world are not read, though grad J has them"
        )

    @property
    def alike(self) -> Parts:
        """The prompts with their shares of the groups: parts of a mean over groups."""
        return [(float(q), problem) for q, problem in zip(self.weights, self.problems, strict=True)]


def update_of(parts: Parts) -> Update | None:
    """The update of these prompts; None where a group is all there is.

    Raises ValueError where new prompts are to be drawn though each is there once, and where a filter can keep
    nothing.
    """
    update = Update(parts)
    if update.one.options.prompts is None and not update.coupled:
        return None
    if not update.coupled:
        return update
    if update.drop == drop_equal("refill") and update.each:
        raise ValueError(
            "drop_equal('refill') draws new prompts, and prompts='each' has every prompt once: give a "
            "number of prompts, or drop_equal('same_prompt')"
        )
    refuse_empty(update)
    return update


def refuse_empty(update: Update) -> None:
    """Raise ValueError where no group, or no response, can pass the filter."""
    filtered = update.one.given
    if update.drop is not None and all(problem.reward_std == 0 for problem in update.problems):
        raise ValueError(
            f"every group of every prompt has equal rewards, and {update.drop!r} of the estimator "
            f"{name_of(filtered)} keeps none: use a world, or a policy, whose rewards vary within a prompt"
        )
    if update.drop is not None and update.G == 1:
        raise ValueError(
            f"a group of one response has equal rewards, and {update.drop!r} keeps none: give G >= 2"
        )
    if update.drop is not None and update.drop.redraws and (update.each or update.drop.mode == "same_prompt"):
        never = [n for n, problem in enumerate(update.problems) if problem.reward_std == 0]
        if never:
            raise ValueError(
                f"every group of prompt {never[0]} has equal rewards, and {update.drop!r} draws groups of "
                f"that prompt for ever: leave the prompt out, or use drop_equal('refill') or 'divide_by_kept'"
            )
    cut = update.overlong
    if cut is not None and cut.mode == "mask":
        lost = [bool((p.outcome_prob[: p.mdp.graph.final_start] == 0).all()) for p in update.problems]
        if all(lost):
            raise ValueError(
                f"every response is cut at the horizon, and {cut!r} keeps none: give the world an eos, or a "
                f"longer horizon"
            )
