"""E[g_hat]: the exact expectation of an estimator over all groups, by the cheapest method that is exact.

    dynamic_programming   token-level ratios with their clip; prefix and trajectory ratios without one
    enumeration           every response once; the others of its group through conditional expectations of A
    groups                every multiset (or ordered group) of responses: any estimator, any callable
    enclosure             bounds on clipped ratios of whole responses at any horizon; exact on a lattice

    sampled               groups that theta_old draws: a mean with its interval, never taken by itself

The formulas are in mean_weights.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.estimator import Estimator, current
from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.horizon.enclosure import Enclosure, refined
from ticgrpo_theory.exact.horizon.rules import enclosure_obstacle, paths_obstacle
from ticgrpo_theory.exact.mean.known_mean import Expectation, mixed
from ticgrpo_theory.exact.mean.mean_weights import METHODS, conditional, dynamic_weights
from ticgrpo_theory.exact.mean.rounding import mean_rounding, refuse_lost_digits
from ticgrpo_theory.exact.obstacles import dynamic_obstacle, groups_obstacle
from ticgrpo_theory.exact.problem import CheckedProblem, Parts, PromptProblem
from ticgrpo_theory.exact.sampled import sampled
from ticgrpo_theory.exact.updates.mean import CoupledUpdate, expectation_of_update
from ticgrpo_theory.exact.updates.sampled_updates import sampled_update
from ticgrpo_theory.exact.updates.update import update_of
from ticgrpo_theory.inputs.numbers import switch
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.pull_back import pull_back

Outcomes = NDArray[np.float64]

Obstacles = dict[str, Callable[[PromptProblem], str]]
Method = Literal["auto", "dynamic_programming", "enumeration", "groups", "enclosure", "sampled"]


@overload
def expected_gradient(*args: Any, explain: Literal[True], **options: Any) -> Expectation: ...
@overload
def expected_gradient(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    method: Method = "auto",
    theta_ref: Tensor | ArrayLike | None = None,
    *,
    symmetric: bool | None = None,
    limit: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    theta_sampler: Tensor | ArrayLike | None = None,
    prompts: int | str | None = None,
    scope: str = "group",
    explain: Literal[False] = False,
) -> Float[Tensor, "S V"]: ...


def expected_gradient(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    method: Method = "auto",
    theta_ref: Tensor | ArrayLike | None = None,
    *,
    symmetric: bool | None = None,
    limit: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    theta_sampler: Tensor | ArrayLike | None = None,
    prompts: int | str | None = None,
    scope: str = "group",
    explain: bool = False,
) -> Float[Tensor, "S V"] | Expectation:
    """E[g_hat] [S, V], the groups drawn from the sampler and the estimator evaluated at theta.

    The sampler is `theta_sampler`, or pi_theta_old. Tokens that it masks are never drawn, and that is part
    of the answer: `explain=True` has the lost mass. `estimator` is an Estimator, a catalogue name,
    from_loss(...), or a callable objective(batch) -> scalar. `group_size` may be math.inf: the statistics of
    the group are then those of the sampler. `theta_ref` is read by penalties. `method="auto"` takes the first
    of dynamic_programming, enumeration, groups that is exact here; `choose_method` says which. A method that
    is named may rest on an assumption, which is then checked on groups of this very problem.

    `prompts`: an update of several groups. P: each belongs to a prompt that is drawn by its weight; "each":
    every prompt once, whatever its weight. Estimators whose parts read the update are then expected over all
    of it, others are the mean over its groups. `scope="batch"`: a callable is given the rows [B, T] of the
    update, with batch.group, instead of one group.

    `symmetric`: whether multisets may stand for ordered groups of a black box; None checks it on every
    multiset that enters, False lists ordered groups, True trusts. `limit`: groups of a black box that may be
    listed. `method="enclosure"` bounds estimators that weigh whole responses, at any horizon, until the
    bounds are within `tolerance` (1e-6) of the norm; `explain=True` has lower and upper; "auto" takes it
    where responses are too many to be listed. `method="sampled"` draws groups with `seed` until the 99 %
    interval of the mean is within `tolerance` (0.02) of its norm. `explain=True` gives an `Expectation`,
    with what was assumed and checked.

    Ours: the sum over all groups, with whatever factor of grad J the estimator has (`known_scale`).
    Raises ValueError for bad logits, a token that the sampler draws and theta_old forbids, a group size for
    which the advantage is undefined, an unknown name, a method that is not exact for this estimator, a size
    beyond the limit of the method, and an interval or bounds wider than `tolerance` unless `explain`.
    """
    given = (mdp, theta, theta_old, estimator, group_size, method, theta_ref)
    problem = CheckedProblem(
        *given,
        symmetric=symmetric,
        limit=limit,
        tolerance=tolerance,
        seed=seed,
        theta_sampler=theta_sampler,
        prompts=prompts,
        scope=scope,
    )
    told = switch("explain", explain, "an Expectation, with what it rests on", "the table alone")
    return expectation_of(problem.parts) if told else mean_of(problem.parts)


def mean_of(parts: Parts) -> Float[Tensor, "S V"]:
    """E[g_hat] over all prompts; ValueError where a sample leaves it wider than the tolerance."""
    options, update = parts[0][1].options, update_of(parts)
    if update is not None and update.coupled and options.method != "sampled":
        coupled = CoupledUpdate(parts)
        return coupled.gradient(coupled.method(options.method))
    if len(parts) == 1 and options.method != "sampled":
        return gradient(parts[0][1], options.method)
    found = expectation_of(parts)
    if found.lower is not None:
        whole = Enclosure(found.value, (found.value - found.lower), 0, 0.0)
        whole.refuse_wide(options.tolerance, name_of(parts[0][1].given))
    found.refuse_wide(options.tolerance)
    return found.value


def expectation_of(parts: Parts) -> Expectation:
    """E[g_hat] over all prompts, with how it is known."""
    update = update_of(parts)
    if update is not None and update.coupled:
        coupled = CoupledUpdate(parts)
        return (sampled_update if coupled.one.options.method == "sampled" else expectation_of_update)(coupled)
    shares = parts if update is None else update.alike
    found = mixed([(weight, expectation(problem, problem.options.method)) for weight, problem in shares])
    if update is None or not update.said:
        return found
    return dataclasses.replace(found, assumed="; ".join(filter(None, (update.said, found.assumed))))


def sampled_of(parts: Parts) -> Expectation:
    """E[g_hat] over all prompts from groups, or whole updates, that are drawn."""
    update = update_of(parts)
    if update is not None and update.coupled:
        return sampled_update(CoupledUpdate(parts))
    shares = parts if update is None else update.alike
    return mixed([(weight, sampled(problem)) for weight, problem in shares])


def expectation(problem: PromptProblem, method: str) -> Expectation:
    """E[g_hat] of one prompt, with how it is known."""
    if method == "sampled":
        return sampled(problem)
    chosen = choose_method_for(problem, method)
    if chosen == "enclosure":
        return enclosure_of(problem)
    value = gradient(problem, chosen)
    return Expectation(
        value,
        chosen,
        assumed(problem, chosen),
        groups=problem.listed(chosen),
        rounding=mean_rounding(problem, chosen),
        lost_mass=problem.lost_mass,
    )


def enclosure_of(problem: PromptProblem) -> Expectation:
    """The bounds of one prompt, refined to the tolerance or as far as the budget goes."""
    found = refined(problem, problem.options.tolerance)
    said = f"{found.bins:,} bins of {found.step:.3g} in the pooled log-ratio"
    width = float(found.half_width.norm())
    bounds = {"lower": found.lower, "upper": found.upper, "rounding": width}
    return Expectation(found.value, "enclosure", said, **bounds, lost_mass=problem.lost_mass)


def assumed(problem: PromptProblem, method: str) -> str:
    """What the number rests on besides the declarations of the catalogue; '' where on nothing."""
    properties = problem.estimator.properties
    if properties.known:
        return ""
    if method == "groups":
        groups = problem.groups
        if groups.ordered or groups.group_size == 1:
            return ""
        return (
            f"order checked on {groups.checked:,} groups" if groups.checked else "order assumed not to matter"
        )
    if properties.undeclared or properties.claimed:
        return problem.one_response.assumed
    return "order of the rewards checked on every group of them"


def gradient(problem: PromptProblem, method: str) -> Float[Tensor, "S V"]:
    """E[g_hat] of one prompt: the weights M of the method, pulled back through the policy that is scored."""
    chosen = choose_method_for(problem, method)
    if chosen == "enclosure":
        enclosed = refined(problem, problem.options.tolerance)
        enclosed.refuse_wide(problem.options.tolerance, name_of(problem.given))
        return enclosed.value
    found = pulled_back(problem, chosen)
    refuse_lost_digits(problem.given, found)
    return found


def pulled_back(problem: PromptProblem, method: str) -> Float[Tensor, "S V"]:
    if method == "dynamic_programming" and pulls_back_on_the_way(problem.axes):
        plus, minus = conditional(problem, problem.axes)
        return dynamic_weights(problem, plus, minus, forward_backward.token_gradient)
    M, score_at = METHODS[method](problem), problem.estimator.score(problem.theta, problem.theta_old)
    # In place: M may be the largest table there is, and nobody else has it.
    pull_back(M.numpy(), score_at.numpy(), M.numpy())
    return M


def pulls_back_on_the_way(estimator: Estimator) -> bool:
    """Whether the token ratio is taken at the policy that is scored: one pass then gives the gradient."""
    return estimator.ratio is ratios.token and estimator.score is current


def choose_method(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    theta_ref: Tensor | ArrayLike | None = None,
    *,
    theta_sampler: Tensor | ArrayLike | None = None,
) -> str:
    """The method that method="auto" takes; several, joined by ', ', where prompts differ."""
    given = (mdp, theta, theta_old, estimator, group_size)
    return method_of(CheckedProblem(*given, theta_ref=theta_ref, theta_sampler=theta_sampler).parts)


def method_of(parts: Parts) -> str:
    """What computes E[g_hat]; several, joined by ', ', where prompts differ."""
    if parts[0][1].options.method == "sampled":
        return "sampled"
    update = update_of(parts)
    if update is not None and update.coupled:
        return CoupledUpdate(parts).method(parts[0][1].options.method)
    return ", ".join(sorted({choose_method_for(problem, problem.options.method) for _, problem in parts}))


def choose_method_for(problem: PromptProblem, method: str, obstacles: Obstacles | None = None) -> str:
    """The method to use: the named one if it is exact, for "auto" the first exact one.

    `obstacles` says for each method why it will not do, '' where it will; by default those of E[g_hat].
    Raises NotAffordable, a ValueError, where none will do, and ValueError where another one will.
    """
    against = OBSTACLES if obstacles is None else obstacles
    if method not in ("auto", *against):
        choices = ", ".join(map(repr, against))
        raise ValueError(f"method = {method!r}: choose 'auto', {choices}, or where there is one 'sampled'")
    obstacle = "" if method == "auto" else against[method](problem)
    if method != "auto" and not obstacle:
        return method
    exact = next((name for name in against if not against[name](problem)), None)
    if method == "auto" and exact is not None:
        return exact
    reason = obstacle or "; ".join(f"{name}: {why(problem)}" for name, why in against.items())
    name = name_of(problem.given)
    refused = f"method={method!r} is not exact or not affordable for the estimator {name}: {reason}"
    if exact is not None:
        raise ValueError(f"{refused}; use method={exact!r}")
    raise NotAffordable(f"{refused}; method='sampled' gives the mean of groups with its interval")


OBSTACLES: Obstacles = {
    "dynamic_programming": dynamic_obstacle,
    "enumeration": paths_obstacle,
    "enclosure": enclosure_obstacle,
    "groups": groups_obstacle,
}
