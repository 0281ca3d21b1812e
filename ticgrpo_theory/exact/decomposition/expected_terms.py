"""The decompositions of GRPO (Eq. 7) and TIC-GRPO (Eq. 11), expected over groups.

    g_hat = main + gradient_error + sampling_error_1 + sampling_error_2 + clip_error

The terms, as printed and as corrected, are those of decomposition_terms.py; of single groups, see
group_terms.py. As printed the sums miss g_hat by vectors of its own size as soon as lengths differ, tokens
are clipped (Eq. 7) or theta has left theta_old (Eq. 11).

Which of the corrected terms vanish in expectation: sampling_error_1 with the group size; gradient_error and
clip_error with the drift from theta_old, at no group size; sampling_error_2 with neither, only where all
lengths are equal.

Source: arXiv:2508.02833 v2, Eq. 7 and 11.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import EstimatorLike, resolve
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.clip_fraction import NO_SIGN, sign_probabilities
from ticgrpo_theory.exact.decomposition.terms import (
    Constants,
    Signed,
    Tables,
    Terms,
    Versions,
    constants,
    equation_of,
    gates,
    tables_of,
    versions,
)
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.expectation import mean_of
from ticgrpo_theory.exact.groups import conditional
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.many_policies import flat_index, scatter_each
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import log_probabilities


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A gradient and its terms, each [S, V], with their signs: the terms are to be added."""

    total: Float[Tensor, "S V"]
    """g_hat of the group, or E[g_hat], from the estimator itself."""
    terms: Terms
    """As corrected, by name: main, gradient_error, sampling_error_1, sampling_error_2, clip_error."""
    printed_terms: Terms
    """As printed."""
    constants: tuple[Constants, ...]
    """mu, E[sigma_G] and E[1/|s|] under theta_old, one for each prompt."""

    @property
    def residual_printed(self) -> float:
        """||total - sum of the printed terms||."""
        return residual(self.total, self.printed_terms)

    @property
    def residual_corrected(self) -> float:
        """||total - sum of the corrected terms||, a rounding error."""
        return residual(self.total, self.terms)


def residual(total: Float[Tensor, "S V"], terms: Terms) -> float:
    """||total - sum of terms||."""
    return float((total - sum(terms.values())).norm())


def decompose(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
) -> Decomposition:
    """E[g_hat] = sum of the expected terms of Eq. 7 (grpo) or Eq. 11 (tic_grpo_eq11), each [S, V].

    `group_size` may be math.inf. Eq. 7 costs some passes of dynamic programming, Eq. 11 an enumeration of
    responses. Source: arXiv:2508.02833 v2, Eq. 7 and 11. Raises ValueError for an estimator that has no
    decomposition, a group of one, a ratio that overflows, and bad input as expected_gradient does.
    """
    problem = prepared(mdp, theta, theta_old, estimator, group_size)
    parts = problem.parts
    known = [constants(part) for _, part in parts]
    found = [
        expected_terms(part, own).map(lambda term, weight=weight: weight * term)
        for (weight, part), own in zip(parts, known, strict=True)
    ]
    return Decomposition(mean_of(parts), *added_up(found), constants=tuple(known))


def added_up(parts: list[Versions]) -> Versions:
    """The sum over prompts of every term."""
    return Versions(
        *(
            {name: torch.stack([terms[name] for terms in each]).sum(dim=0) for name in each[0]}
            for each in zip(*parts, strict=True)
        )
    )


def prepared(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
) -> CheckedProblem:
    """The problem of an estimator that has a decomposition."""
    equation_of(resolve(estimator))
    problem = CheckedProblem(mdp, theta, theta_old, estimator, group_size)
    lost = problem.lost_mass
    if lost > 0:
        raise ValueError(
            f"responses of probability {lost:.6g} under theta are never drawn by theta_old, and no term of "
            f"the decomposition stands for what they would add: mask (-inf) their tokens in theta too, or "
            f"give them finite logits in theta_old"
        )
    return problem


def expected_terms(problem: PromptProblem, known: Constants) -> Versions:
    """The expected terms of one prompt."""
    equation = equation_of(problem.given)
    tables = by_dynamic_programming(problem, known) if equation.number == 7 else by_responses(problem, known)
    return versions(tables, equation, problem.theta, problem.theta_old)


def chosen(problem: PromptProblem) -> Estimator:
    """The estimator of a problem that `equation_of` has accepted."""
    return problem.axes


def expected_signs(problem: PromptProblem) -> Signed:
    """The signed advantage given each outcome, over the rest of the group."""
    case = problem.outcomes(chosen(problem).advantage, sequence_sum)
    plus, minus = conditional.conditional_advantages(case)
    if problem.group_size == np.inf:
        # In an infinite group A is a function of the reward: what is expected is sure.
        negative = (plus + minus < -NO_SIGN).astype(np.float64)
    else:
        _, negative = sign_probabilities(problem, chosen(problem))
    return Signed(*(torch.from_numpy(np.ascontiguousarray(x)) for x in (plus, minus, negative)))


def by_dynamic_programming(problem: PromptProblem, known: Constants) -> Tables:
    """The six tables for token ratios, where clip and ratio belong to a row and a token: any horizon."""
    graph, theta_old = problem.mdp.graph, problem.theta_old.numpy()
    now, old = log_probabilities(problem.theta), log_probabilities(problem.theta_old)
    # A token that theta_old never draws has no ratio and no weight.
    log_ratio = (now - old.where(old > -torch.inf, 0.0)).where(old > -torch.inf, 0.0)
    mask = torch.ones(*log_ratio.shape, 1, dtype=torch.bool)
    on = gates(chosen(problem), log_ratio[..., None], mask)

    def lift(value: Float[Tensor, " O"]) -> Float[Tensor, "S V 1"]:
        """sum over nodes n of row s of d_old(n) pi_old(a|s) E_old[value | n, a]."""
        return torch.from_numpy(forward_backward.value_weights(graph, theta_old, value.numpy()))[..., None]

    reward, length = (torch.from_numpy(np.array(x)) for x in (graph.reward, graph.length))
    w = log_ratio.exp()[..., None]
    return tables_of(known, reward, length, expected_signs(problem), on, w, lift).map(lambda x: x[..., 0])


def by_responses(problem: PromptProblem, known: Constants) -> Tables:
    """The six tables from every response once, the rest of its group integrated out."""
    every = problem.listed_responses
    signed, outcome = expected_signs(problem), every.paths.outcome
    given = Signed(*(x[torch.from_numpy(outcome)] for x in (signed.plus, signed.minus, signed.negative)))
    index = flat_index(every.paths, problem.theta.shape[1])
    shape, parts = torch.Size((1, *problem.theta.shape)), []
    for part in enumeration.chunks(*every.mask.shape):
        here = Signed(given.plus[part], given.minus[part], given.negative[part])
        log_ratio, mask = (every.logp - every.logp_old)[part], every.mask[part]
        tables = token_tables(problem, known, every.reward[part], here, log_ratio, mask)

        def added(
            weights: Float[Tensor, "n T"], part: slice = part, mask: Bool[Tensor, "n T"] = mask
        ) -> Float[Tensor, "S V"]:
            """The weights added up by row and token."""
            return scatter_each(
                index[part][None], mask[None], (every.prob[part, None] * weights)[None], shape
            )[0]

        parts.append(tables.map(added))
    return reduce(add, parts)


def token_tables(
    problem: PromptProblem,
    known: Constants,
    reward: Float[Tensor, "*b n"],
    signed: Signed,
    log_ratio: Float[Tensor, "*b n T"],
    mask: Bool[Tensor, "*b n T"],
) -> Tables:
    """The six weights of every token of the given responses; 0 on padding."""
    v = chosen(problem).ratio(log_ratio, mask)
    on, w, length = gates(chosen(problem), v, mask), v.exp().where(mask, 0.0), mask.sum(dim=-1)
    return tables_of(known, reward, length, signed, on, w, lambda x: x[..., None] * mask)
