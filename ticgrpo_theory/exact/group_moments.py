"""g_hat of every group there is, and how likely it is: nothing of the estimator is used but token weights."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact import enumeration, multisets
from ticgrpo_theory.exact.problem import Problem
from ticgrpo_theory.exact.unrolled import flat_index, scatter_each
from ticgrpo_theory.policy import pull_back


def group_gradients(problem: Problem) -> Iterator[tuple[Float[Tensor, "M S V"], Float[Tensor, " M"]]]:
    """(g_hat, probability) of all multisets of responses, or of all ordered groups where their order matters.

    Raises ValueError where there are too many.
    """
    estimator, G = problem.estimator, int(problem.group_size)
    every = enumeration.responses(problem.mdp.graph, problem.theta, problem.theta_old, problem.theta_ref)
    (N, T), (S, V) = every.mask.shape, problem.theta.shape
    tables = (every.logp, every.logp_old, every.logp_ref, every.reward, every.mask)
    responses = multisets.Responses(estimator, *tables, problem.mdp.horizon)
    listing = multisets.groups if responses.symmetric(G) else multisets.ordered_groups
    if not isinstance(estimator, Estimator):
        multisets.check_single(N, G, listing is multisets.ordered_groups)
    index, score = flat_index(every.paths, V), estimator.score(problem.theta, problem.theta_old)
    for members, weight in listing(every.prob_old.numpy(), G, max(1, multisets.CHUNK // max(G * T, S * V))):
        chosen = torch.from_numpy(members)
        c = responses.token_weights(chosen).flatten(1)
        places, mask = index[chosen].flatten(1), every.mask[chosen].flatten(1)
        table = scatter_each(places[:, None], mask[:, None], c[:, None], torch.Size((len(members), S, V)))
        yield pull_back(table, score), torch.from_numpy(weight)
