"""g_hat of every group there is, and how likely it is: nothing of the estimator is used but token weights."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import kl_exact
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.groups.every_group import Walk
from ticgrpo_theory.exact.penalties import divergence
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.many_policies import scatter_each
from ticgrpo_theory.worlds.graph import Paths
from ticgrpo_theory.worlds.policy import pull_back


def group_gradients(
    problem: PromptProblem, walk: Walk
) -> Iterator[tuple[Float[Tensor, "M S V"], Float[Tensor, " M"]]]:
    """(g_hat, probability) of the groups of a walk: `problem.groups.over(lambda walk: ...)`."""
    every, estimator = problem.responses, problem.estimator
    weighed = walk.every.estimator
    penalties = None
    if isinstance(estimator.penalty, kl_exact):
        penalties = exact_penalties(problem, estimator.penalty, every)
    (S, V), G, T = problem.theta.shape, walk.every.group_size, every.mask.shape[1]
    index = torch.from_numpy(every.paths.rows * V + every.paths.tokens)
    score = estimator.score(problem.theta, problem.theta_old)
    chunk = max(1, multisets.CHUNK // max(G * T, S * V * (1 if penalties is None else G)))
    for members, prob in walk.chunks(chunk):
        c = walk.weights(members, prob, problem.batch).flatten(1)
        mask = every.mask[members]
        counted = mask.flatten(1) | (c != 0)
        shape = torch.Size((len(members), S, V))
        table = scatter_each(index[members].flatten(1)[:, None], counted[:, None], c[:, None], shape)
        if isinstance(weighed, Estimator) and penalties is not None:
            scales = weighed.scales(mask, problem.mdp.horizon)
            table += torch.einsum("mg,mgsv->msv", scales, penalties[members])
        yield pull_back(table, score.expand_as(table)), prob


def spread_over(problem: PromptProblem, walk: Walk) -> tuple[Float[Tensor, "S V"], float, float]:
    """(E g, E||g - E g||^2, sum of the two squares that make it), g minus that of one of the groups first."""
    pivot, mean, second = None, torch.zeros_like(problem.theta), 0.0
    for g_hat, probability in group_gradients(problem, walk):
        # The likeliest group of the first ones: where nearly all groups give one g_hat, it is this.
        pivot = g_hat[probability.argmax()].clone() if pivot is None else pivot
        moved = g_hat - pivot
        mean += torch.einsum("m,msv->sv", probability, moved)
        second += float(probability @ moved.square().sum(dim=(1, 2)))
    square = float(mean.square().sum())
    return mean if pivot is None else pivot + mean, second - square, second + square


def exact_penalties(
    problem: PromptProblem, penalty: kl_exact, every: enumeration.Responses
) -> Float[Tensor, "N S V"]:
    """Token weights of the penalty for every response at scale 1: no function of its sampled tokens alone."""
    theta, theta_ref, found = problem.theta, problem.reference, []
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
