"""E[g_hat]: the exact expectation of an estimator over all groups, by the cheapest method that is exact.

    dynamic_programming   token-level ratios with their clip; prefix and trajectory ratios without one
    enumeration           every response once; the others of its group through conditional expectations of A
    groups                every multiset (or ordered group) of responses: any estimator, any callable

A group of i.i.d. responses reduces to one response because the others matter only through their rewards and
lengths. With c(A) = max(A, 0) c(1) + max(-A, 0) c(-1) and f+-(o) = G E[(A_1)+- scale_1 | outcome of 1 = o],

    E[g_hat] = E_{y ~ old}[sum_t (f+(y) c_t(y; 1) + |f-(y)| c_t(y; -1)) grad log pi_theta(a_t | s_{t-1})].
"""

from collections.abc import Callable
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.clipping import saturating
from ticgrpo_theory.estimators.estimator import Estimator, current
from ticgrpo_theory.estimators.losses import from_loss, one_group
from ticgrpo_theory.estimators.penalties import kl_exact, kl_loss
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import divergence, dynamic, enumeration, groups, kernels, multisets, tree_weights
from ticgrpo_theory.exact.applicability import (
    bounds_at,
    gate_ignores_sign,
    groups_obstacle,
    is_unclipped,
    lengths_of,
    programme_obstacle,
    reduction_obstacle,
)
from ticgrpo_theory.exact.problem import EstimatorLike, Problem, problems
from ticgrpo_theory.mdp import TokenMDP

Outcomes = NDArray[np.float64]
Obstacles = dict[str, Callable[[Problem], str]]
Method = Literal["auto", "dynamic_programming", "enumeration", "groups"]


def expected_gradient(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    method: Method = "auto",
    theta_ref: Tensor | ArrayLike | None = None,
) -> Float[Tensor, "S V"]:
    """E[g_hat], the groups drawn from pi_theta_old and the estimator evaluated at theta.

    `estimator` is an Estimator, a catalogue name, from_loss(...), or a callable objective(batch) -> scalar.
    `group_size` may be math.inf: the statistics of the group are then those of theta_old. `theta_ref` is read
    by penalties. `method="auto"` takes the first of dynamic_programming, enumeration, groups that is exact
    here; `choose_method` says which.

    Raises ValueError for bad logits, a token possible under theta but not under theta_old, a group size for
    which the advantage is undefined, an unknown name, a method that is not exact for this estimator, and a
    size beyond the limit of the method.
    """
    parts = problems(mdp, theta, theta_old, estimator, group_size, theta_ref)
    if len(parts) == 1:
        return gradient(parts[0][1], method)
    total = torch.zeros_like(parts[0][1].theta)
    for weight, problem in parts:
        total += weight * gradient(problem, method)
    return total


def gradient(problem: Problem, method: str) -> Float[Tensor, "S V"]:
    """E[g_hat] of one prompt: the weights M of the method, pulled back through the policy that is scored."""
    chosen, estimator = settle(problem, method), problem.estimator
    if chosen == "dynamic_programming" and pulls_back_on_the_way(cast(Estimator, estimator)):
        plus, minus = conditional(problem, cast(Estimator, estimator))
        return programme_weights(problem, plus, minus, dynamic.token_gradient)
    M, score_at = METHODS[chosen](problem), estimator.score(problem.theta, problem.theta_old)
    # In place: M may be the largest table there is, and nobody else has it.
    kernels.pull_back(M.numpy(), score_at.numpy(), M.numpy())
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
) -> str:
    """The method that method="auto" settles on; several, joined by ', ', where prompts differ."""
    parts = problems(mdp, theta, theta_old, estimator, group_size, theta_ref)
    return ", ".join(sorted({settle(problem, "auto") for _, problem in parts}))


def settle(problem: Problem, method: str, obstacles: Obstacles | None = None) -> str:
    """The method to use: the named one if it is exact, for "auto" the first exact one.

    `obstacles` says for each method why it will not do, '' where it will; by default those of E[g_hat].
    """
    against = OBSTACLES if obstacles is None else obstacles
    if method not in ("auto", *against):
        raise ValueError(f"method = {method!r}: choose 'auto', {', '.join(map(repr, against))}")
    obstacle = "" if method == "auto" else against[method](problem)
    if method != "auto" and not obstacle:
        return method
    exact = next((name for name in against if not against[name](problem)), None)
    if method == "auto" and exact is not None:
        return exact
    reason = obstacle or "; ".join(f"{name}: {why(problem)}" for name, why in against.items())
    raise ValueError(
        f"method={method!r} is not exact or not affordable for the estimator {name_of(problem.given)}: "
        f"{reason}; " + (f"use method={exact!r}" if exact else "no other method applies")
    )


def conditional(problem: Problem, estimator: Estimator | from_loss) -> tuple[Outcomes, Outcomes]:
    """f+-(o) = G E[(A_1)+- scale_1 | outcome of response 1 = o].

    Where the gate is the same for either sign of A only the sum f = f+ + f- matters, and (f, 0) is returned:
    linear advantages then need no enumeration of reward counts, so any number of reward values will do.
    """
    graph = problem.mdp.graph
    # A loss carries its own scale, and 1/G of it is the mean over the group: nothing is left to multiply.
    scale = estimator.scale if isinstance(estimator, Estimator) else sequence_sum
    law = (graph.reward, graph.length, problem.law, problem.group_size, problem.mdp.horizon)
    if isinstance(estimator, Estimator) and gate_ignores_sign(estimator.clip, graph):
        total = groups.conditional_advantage_sum(estimator.advantage, scale, *law)
        return total, np.zeros_like(total)
    return groups.conditional_advantages(estimator.advantage, scale, *law)


def by_dynamic_programming(problem: Problem) -> Float[Tensor, "S V"]:
    """M of Estimators whose weights factor over the layered graph."""
    return programme_weights(problem, *conditional(problem, cast(Estimator, problem.estimator)))


def programme_weights(
    problem: Problem,
    plus: Outcomes,
    minus: Outcomes,
    tokens: Callable[..., Outcomes] = dynamic.token_weights,
) -> Float[Tensor, "S V"]:
    """M of sum_t (plus(o) c_t(y; 1) + |minus(o)| c_t(y; -1)), for any numbers of the outcomes.

    `tokens`: the pass for token ratios, `dynamic.token_gradient` for the pull-back of M instead.
    """
    estimator, graph = cast(Estimator, problem.estimator), problem.mdp.graph
    theta, theta_old = problem.theta.numpy(), problem.theta_old.numpy()
    if estimator.ratio is ratios.none:
        # v = 0 at every token: the clip sees the ratio of theta_old to itself.
        theta = theta_old
    if is_unclipped(estimator.clip, graph) and estimator.ratio is not ratios.token:
        lost = dynamic.outcome_law(graph, theta)[problem.law == 0]
        if lost.sum() > enumeration.NEGLIGIBLE:
            raise ValueError(
                f"responses of probability {lost.sum():.6g} under theta have probability 0 in float64 under "
                f"theta_old: no weight can make up for it; keep theta closer to theta_old, or mask (-inf) in "
                f"both policies a token that leads there"
            )
        if estimator.ratio is ratios.prefix:
            return torch.from_numpy(dynamic.prefix_weights(graph, theta, theta_old, plus + minus))
        return torch.from_numpy(dynamic.value_weights(graph, theta, plus + minus))
    lo_plus, hi_plus, lo_minus, hi_minus = (
        float(bound[0]) for bound in bounds_at(estimator.clip, lengths_of(graph))
    )
    bounds = (lo_plus, hi_plus, lo_minus, hi_minus)
    held, visits = isinstance(estimator.clip, saturating), problem.forward.visits
    return torch.from_numpy(
        tokens(graph, theta, theta_old, plus, minus, bounds, saturating=held, visits_old=visits)
    )


def by_enumeration(problem: Problem) -> Float[Tensor, "S V"]:
    """M by one look at every response; on prefix trees pooled ratios take the compiled pass."""
    estimator = cast(Estimator | from_loss, problem.estimator)
    plus, minus = conditional(problem, estimator)
    if tree_weights.covers(problem) and problem.theta_ref is None:
        return tree_weights.response_weights(problem, plus, minus)
    every = enumeration.responses(problem.mdp.graph, problem.theta, problem.theta_old, problem.theta_ref)
    coefficients = response_weights(problem, every, plus, minus)
    table = enumeration.scatter(every.paths, coefficients, *problem.theta.shape)
    if isinstance(estimator, Estimator) and isinstance(estimator.penalty, kl_loss | kl_exact):
        table += penalty_weights(problem, estimator, estimator.penalty, every)
    return table


def response_weights(
    problem: Problem, every: enumeration.Responses, plus: Outcomes, minus: Outcomes
) -> Float[Tensor, "N T"]:
    """P_old(y) (plus(o) c_t(y; 1) + |minus(o)| c_t(y; -1)) of every response, without penalty."""
    estimator = cast(Estimator | from_loss, problem.estimator)
    f_plus, f_minus = (torch.from_numpy(f[every.paths.outcome]) for f in (plus, minus))
    coefficients = torch.empty_like(every.logp)
    for part in enumeration.chunks(*every.logp.shape):
        coefficients[part] = every.prob_old[part, None] * (
            f_plus[part, None] * unit_weights(estimator, every, part, 1.0)
            - f_minus[part, None] * unit_weights(estimator, every, part, -1.0)
        )
    if not bool(torch.isfinite(coefficients).all()):
        raise ValueError(
            f"a token weight of the estimator {name_of(problem.given)} overflows float64; the largest "
            f"log-ratio of a response is {(every.logp - every.logp_old).sum(dim=1).max().item():.6g}: use a "
            f"clip that bounds it from above or keep theta closer to theta_old"
        )
    return coefficients


def by_groups(problem: Problem) -> Float[Tensor, "S V"]:
    """M by every multiset of responses, or every ordered group where the estimator is not symmetric."""
    every = enumeration.responses(problem.mdp.graph, problem.theta, problem.theta_old, problem.theta_ref)
    coefficients = multisets.expected_token_weights(
        problem.estimator,
        every.mask,
        every.logp,
        every.logp_old,
        every.reward,
        every.prob_old,
        int(problem.group_size),
        problem.mdp.horizon,
        logp_ref=every.logp_ref,
    )
    return enumeration.scatter(every.paths, coefficients, *problem.theta.shape)


METHODS: dict[str, Callable[[Problem], Tensor]] = {
    "dynamic_programming": by_dynamic_programming,
    "enumeration": by_enumeration,
    "groups": by_groups,
}
OBSTACLES: Obstacles = {
    "dynamic_programming": programme_obstacle,
    "enumeration": reduction_obstacle,
    "groups": groups_obstacle,
}


def unit_weights(
    estimator: Estimator | from_loss, every: enumeration.Responses, part: slice, sign: float
) -> Float[Tensor, "n T"]:
    """c_t(y; A = sign) of single responses, without scale."""
    A = torch.full_like(every.prob_old[part], sign)
    log_ratio, mask = (every.logp - every.logp_old)[part], every.mask[part]
    if isinstance(estimator, Estimator):
        return estimator.response_weights(log_ratio[:, None], A[:, None], mask[:, None])[:, 0]
    alone = Batch(every.logp[part, None], every.logp_old[part, None], every.reward[part, None], mask[:, None])
    return torch.cat([estimator.weights_given(one_group(alone, (i,)), A[i : i + 1]) for i in range(len(A))])


def penalty_weights(
    problem: Problem, estimator: Estimator, penalty: kl_loss | kl_exact, every: enumeration.Responses
) -> Float[Tensor, "S V"]:
    """M of a penalty in the loss: response y has the scale P_old(y) G E[scale_1 | y]; A does not enter."""
    graph, horizon = problem.mdp.graph, problem.mdp.horizon
    ones = np.ones_like(graph.reward)
    law = (ones, graph.length, problem.law, problem.group_size, horizon)
    mean_scale, _ = groups.conditional_advantages(raw(), estimator.scale, *law)
    scale = every.prob_old * torch.from_numpy(mean_scale[every.paths.outcome])
    batch = Batch(
        every.logp[:, None],
        every.logp_old[:, None],
        every.reward[:, None],
        every.mask[:, None],
        logp_ref=None if every.logp_ref is None else every.logp_ref[:, None],
        horizon=horizon,
    )
    reference = cast(Tensor, problem.theta_ref)
    return divergence.penalty_table(penalty, batch, scale[:, None], every.paths, problem.theta, reference)
