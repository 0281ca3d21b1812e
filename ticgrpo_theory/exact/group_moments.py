"""g_hat of every group there is, and how likely it is: nothing of the estimator is used but token weights."""

import dataclasses
from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import kl_exact
from ticgrpo_theory.exact import divergence, enumeration, multisets
from ticgrpo_theory.exact.problem import Problem
from ticgrpo_theory.exact.unrolled import flat_index, scatter_each
from ticgrpo_theory.graph import Paths
from ticgrpo_theory.policy import pull_back


def group_gradients(problem: Problem) -> Iterator[tuple[Float[Tensor, "M S V"], Float[Tensor, " M"]]]:
    """(g_hat, probability) of all multisets of responses, or of all ordered groups where their order matters.

    Raises ValueError where there are too many.
    """
    estimator, G = problem.estimator, int(problem.group_size)
    every = enumeration.responses(problem.mdp.graph, problem.theta, problem.theta_old, problem.theta_ref)
    weighed, penalties = estimator, None
    if isinstance(estimator, Estimator) and isinstance(estimator.penalty, kl_exact):
        weighed = dataclasses.replace(estimator, penalty=None)
        penalties = exact_penalties(problem, estimator.penalty, every)
    (N, T), (S, V) = every.mask.shape, problem.theta.shape
    tables = (every.logp, every.logp_old, every.logp_ref, every.reward, every.mask)
    responses = multisets.Responses(weighed, *tables, problem.mdp.horizon)
    listing = multisets.groups if responses.symmetric(G) else multisets.ordered_groups
    if not isinstance(estimator, Estimator):
        multisets.check_single(N, G, listing is multisets.ordered_groups)
    index, score = flat_index(every.paths, V), estimator.score(problem.theta, problem.theta_old)
    chunk = max(1, multisets.CHUNK // max(G * T, S * V * (1 if penalties is None else G)))
    for members, weight in listing(every.prob_old.numpy(), G, chunk):
        chosen = torch.from_numpy(members)
        c, mask = responses.token_weights(chosen).flatten(1), every.mask[chosen]
        shape = torch.Size((len(members), S, V))
        table = scatter_each(index[chosen].flatten(1)[:, None], mask.flatten(1)[:, None], c[:, None], shape)
        if isinstance(weighed, Estimator) and penalties is not None:
            scales = weighed.scales(mask, problem.mdp.horizon)
            table += torch.einsum("mg,mgsv->msv", scales, penalties[chosen])
        yield pull_back(table, score.expand_as(table)), torch.from_numpy(weight)


def exact_penalties(
    problem: Problem, penalty: kl_exact, every: enumeration.Responses
) -> Float[Tensor, "N S V"]:
    """Token weights of the penalty for every response at scale 1: no function of its sampled tokens alone."""
    theta, theta_ref, found = problem.theta, cast(Tensor, problem.theta_ref), []
    for n in range(len(every.reward)):
        one = slice(n, n + 1)
        batch = Batch(
            every.logp[one, None],
            every.logp_old[one, None],
            every.reward[one, None],
            every.mask[one, None],
            every.logp_ref[one, None] if every.logp_ref is not None else None,
            problem.mdp.horizon,
        )
        paths = every.paths
        alone = Paths(paths.tokens[one], paths.rows[one], paths.mask[one], paths.outcome[one])
        unit = torch.ones(1, 1, dtype=torch.float64)
        found.append(divergence.penalty_table(penalty, batch, unit, alone, theta, theta_ref))
    return torch.stack(found)
