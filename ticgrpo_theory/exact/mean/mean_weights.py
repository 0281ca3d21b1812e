"""M, the expected token weights of each (row, token), by every method: E[g_hat] is their pull-back.

    M[s, a] = E[sum_it c[i,t] 1{row = s, token = a}]

A group of i.i.d. responses reduces to one response because the others matter only through their rewards and
lengths. With c(A) = max(A, 0) c(1) + max(-A, 0) c(-1) and f+-(o) = G E[(A_1)+- scale_1 | outcome of 1 = o],

    E[g_hat] = E_{y ~ sampler}[sum_t (f+(y) c_t(y; 1) + |f-(y)| c_t(y; -1)) grad log pi_theta(a_t | s_{t-1})].
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.clipping import has_table
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.penalties import kl_exact, kl_loss
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.estimators.shapes import Shape
from ticgrpo_theory.exact.dynamic import forward_backward, measures
from ticgrpo_theory.exact.groups import conditional as groups
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.groups.every_group import BatchOf, EveryGroup, Walk
from ticgrpo_theory.exact.obstacles import gate_ignores_sign, is_unclipped, lengths_of
from ticgrpo_theory.exact.penalties import divergence
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.tree import tree_leaves, tree_weights
from ticgrpo_theory.worlds.pull_back import pull_back

Outcomes = NDArray[np.float64]


def conditional(problem: PromptProblem, estimator: Estimator | from_loss) -> tuple[Outcomes, Outcomes]:
    """f+-(o) = G E[(A_1)+- scale_1 | outcome of response 1 = o].

    Where the gate is the same for either sign of A only the sum f = f+ + f- matters, and (f, 0) is returned:
    linear advantages then need no enumeration of reward counts, so any number of reward values will do.
    """
    # A loss carries its own scale, and 1/G of it is the mean over the group: nothing is left to multiply.
    scale = estimator.scale if isinstance(estimator, Estimator) else sequence_sum
    case = problem.outcomes(estimator.advantage, scale)
    if isinstance(estimator, Estimator) and gate_ignores_sign(estimator.clip, problem.mdp.graph):
        total = groups.conditional_advantage_sum(case)
        return total, np.zeros_like(total)
    return groups.conditional_advantages(case)


def by_dynamic_programming(problem: PromptProblem) -> Float[Tensor, "S V"]:
    """M of Estimators whose weights factor over the layered graph."""
    return dynamic_weights(problem, *conditional(problem, problem.axes))


def dynamic_weights(
    problem: PromptProblem,
    plus: Outcomes,
    minus: Outcomes,
    tokens: Callable[..., Outcomes] = forward_backward.token_weights,
) -> Float[Tensor, "S V"]:
    """M of sum_t (plus(o) c_t(y; 1) + |minus(o)| c_t(y; -1)), for any numbers of the outcomes.

    `tokens`: the pass for token ratios, `dynamic.token_gradient` for the pull-back of M instead.
    """
    estimator, graph = problem.axes, problem.mdp.graph
    theta, theta_old = problem.theta.numpy(), problem.theta_old.numpy()
    if not problem.on_old or isinstance(estimator.clip, Shape):
        return measured_weights(problem, plus, minus, tokens)
    if estimator.ratio is ratios.none:
        # v = 0 at every token: the clip sees the ratio of theta_old to itself.
        theta = theta_old
    if is_unclipped(estimator.clip, graph) and estimator.ratio is not ratios.token:
        refuse_unreachable(problem, forward_backward.outcome_distribution(graph, theta))
        if estimator.ratio is ratios.prefix:
            return torch.from_numpy(forward_backward.prefix_weights(graph, theta, theta_old, plus + minus))
        return torch.from_numpy(forward_backward.value_weights(graph, theta, plus + minus))
    table, visits = estimator.clip.table(lengths_of(graph)), problem.forward.visits
    return torch.from_numpy(tokens(graph, theta, theta_old, plus, minus, table, visits_old=visits))


def measured_weights(
    problem: PromptProblem, plus: Outcomes, minus: Outcomes, tokens: Callable[..., Outcomes]
) -> Float[Tensor, "S V"]:
    """The same where the sampler is not theta_old or draws less than theta, and for shapes.

    Token ratios with corrections of single tokens take the compiled pass, others the tables of `measures`.
    """
    graph, estimator = problem.mdp.graph, problem.axes
    numbers = measures.token_corrections(estimator)
    by_token = estimator.ratio in (ratios.none, ratios.token) and has_table(estimator.clip)
    if numbers is not None and by_token:
        old, sampler = problem.theta_old.numpy(), problem.sampler.numpy()
        theta = old if estimator.ratio is ratios.none else problem.theta.numpy()
        table, drawn = estimator.clip.table(lengths_of(graph)), forward_backward.Drawn(sampler, numbers)
        visits = problem.forward.visits
        return torch.from_numpy(tokens(graph, theta, old, plus, minus, table, visits_old=visits, drawn=drawn))
    factors = measures.factors_of(problem.axes, problem.theta, problem.theta_old, problem.sampler)
    refuse_unreachable(problem, measures.forward(graph, factors.before)[1])
    M = measures.along(graph, factors.single(0), plus).M
    if minus.any():
        M = M + measures.along(graph, factors.single(1), minus).M
    if not np.isfinite(M).all():
        refuse_overflow(problem, float(torch.from_numpy(factors.before).max()))
    if tokens is forward_backward.token_gradient:
        pull_back(M, problem.theta.numpy(), M)
    return torch.from_numpy(M)


def refuse_unreachable(problem: PromptProblem, measure: Outcomes) -> None:
    """Raise ValueError where outcomes that have a measure are drawn with probability 0 in float64."""
    lost = float(measure[problem.outcome_prob == 0].sum())
    if lost > enumeration.NEGLIGIBLE:
        raise ValueError(
            f"responses of weight {lost:.6g} in all have probability 0 in float64 under the policy that "
            f"draws: no weight can make up for it; keep theta closer to that policy, or mask (-inf) in both "
            f"a token that leads there"
        )


def by_enumeration(problem: PromptProblem) -> Float[Tensor, "S V"]:
    """M by one look at every response; on prefix trees pooled ratios take the compiled pass."""
    estimator = problem.with_advantage
    table = enumerated_weights(problem, *conditional(problem, estimator))
    every = problem.responses if estimator.penalty is not None or isinstance(estimator, from_loss) else None
    if every is None:
        return table
    if isinstance(estimator, from_loss):
        # What no advantage multiplies: a loss is a mean over responses, so that its scale is 1 / G.
        free = every.prob[:, None] * problem.one_response.unit[2]
        table += enumeration.scatter(every.paths, free, *problem.theta.shape)
    if isinstance(estimator.penalty, kl_loss | kl_exact):
        table += penalty_weights(problem, problem.axes, estimator.penalty, every)
    return table


def enumerated_weights(problem: PromptProblem, plus: Outcomes, minus: Outcomes) -> Float[Tensor, "S V"]:
    """M of sum_t (plus(o) c_t(y; 1) + |minus(o)| c_t(y; -1)), for any numbers of the outcomes."""
    if tree_weights.covers(problem) and problem.theta_ref is None:
        return tree_weights.response_weights(problem, plus, minus)
    if tree_leaves.covers(problem):
        return tree_leaves.response_weights(problem, plus, minus)
    every = problem.responses
    coefficients = response_weights(problem, every, plus, minus)
    return enumeration.scatter(every.paths, coefficients, *problem.theta.shape)


def response_weights(
    problem: PromptProblem, every: enumeration.Responses, plus: Outcomes, minus: Outcomes
) -> Float[Tensor, "N T"]:
    """P(y) (plus(o) c_t(y; 1) + |minus(o)| c_t(y; -1)) of every response, without penalty."""
    f_plus, f_minus = (torch.from_numpy(f[every.paths.outcome]) for f in (plus, minus))
    coefficients = torch.empty_like(every.logp)
    for part in enumeration.chunks(*every.logp.shape):
        coefficients[part] = every.prob[part, None] * (
            f_plus[part, None] * unit_weights(problem, every, part, 1.0)
            - f_minus[part, None] * unit_weights(problem, every, part, -1.0)
        )
    if not bool(torch.isfinite(coefficients).all()):
        refuse_overflow(problem, (every.logp - every.logp_old).sum(dim=1).max().exp().item())
    return coefficients


def refuse_overflow(problem: PromptProblem, largest: float) -> NoReturn:
    """Raise ValueError for a weight that no float64 holds."""
    raise ValueError(
        f"a token weight of the estimator {name_of(problem.given)} overflows float64; the largest ratio is "
        f"{largest:.6g}: use a clip that bounds it from above or keep the policies closer together"
    )


def by_groups(problem: PromptProblem) -> Float[Tensor, "S V"]:
    """M by every multiset of responses, or every ordered group where their order matters."""
    every = problem.responses
    coefficients = multiset_weights(problem.groups, problem.batch, *every.mask.shape)
    return enumeration.scatter(every.paths, coefficients, *problem.theta.shape)


def multiset_weights(groups: EveryGroup, batch_of: BatchOf, N: int, T: int) -> Float[Tensor, "N T"]:
    """C[n,t] = sum over groups of P(group) sum of c[i,t] over members i that are n.

    E[g_hat] = sum_nt C[n,t] grad log pi.
    """

    def total(walk: Walk) -> Tensor:
        C, groups.size = np.zeros((N, T)), 0.0
        for members, prob in walk.chunks(max(1, multisets.CHUNK // (groups.group_size * T))):
            c = walk.weights(members, prob, batch_of)
            groups.size += float(prob @ c.double().abs().sum(dim=(1, 2)))
            multisets.scatter_groups(members.numpy(), prob.numpy(), c.double().contiguous().numpy(), C)
        return torch.from_numpy(C)

    return groups.over(total)


METHODS: dict[str, Callable[[PromptProblem], Tensor]] = {
    "dynamic_programming": by_dynamic_programming,
    "enumeration": by_enumeration,
    "groups": by_groups,
}


def unit_weights(problem: PromptProblem, every: enumeration.Responses, part: slice, sign: float) -> Tensor:
    """c_t(y; A = sign) of single responses, without scale and without what no advantage multiplies."""
    estimator = problem.estimator
    if not isinstance(estimator, Estimator) or (
        not estimator.properties.known
        and not (not estimator.properties.undeclared and not estimator.properties.claimed)
    ):
        return problem.one_response.unit[0 if sign > 0 else 1][part]
    A = torch.full_like(every.prob[part], sign)
    log_ratio, mask = (every.logp - every.logp_old)[part].where(every.mask[part], 0.0), every.mask[part]
    d = every.sampler_log_ratio[part][:, None]
    old = every.logp_old[part][:, None]
    return estimator.response_weights(log_ratio[:, None], A[:, None], mask[:, None], d, old)[:, 0]


def penalty_weights(
    problem: PromptProblem, estimator: Estimator, penalty: kl_loss | kl_exact, every: enumeration.Responses
) -> Float[Tensor, "S V"]:
    """M of a penalty in the loss: response y has the scale P(y) G E[scale_1 | y]; A does not enter."""
    case = problem.outcomes(raw(), estimator.scale)
    mean_scale, _ = groups.conditional_advantages(replace(case, reward=np.ones_like(case.reward)))
    scale = every.prob * torch.from_numpy(mean_scale[every.paths.outcome])
    batch, given = every.alone(problem.mdp.horizon), (problem.theta, problem.reference)
    return divergence.penalty_table(penalty, batch, scale[:, None], every.paths, *given)
