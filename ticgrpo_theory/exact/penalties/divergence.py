"""KL(pi_theta || pi_ref) of responses and of tokens, with its gradient: no sampling, any horizon.

    KL(s) = sum_a pi_theta(a|s) log(pi_theta / pi_ref)(a|s)      of one row of logits

    of responses   KL(P_theta || P_ref) = E_theta[sum_t KL(s_{t-1})]
    per token      E_theta[(1/|y|) sum_t KL(s_{t-1})]
    frozen         E_old[sum_t KL(s_{t-1})]: theta_old visits the states, theta moves the rows only

All are E[scale(|y|) sum_t cost(s_{t-1})] for one scale, one cost of a row and one policy that visits. The
gradient of the first two has a part that the third lacks, because theta also decides which states are
visited:

    grad E_theta[sum_t cost(s_{t-1})] = E_theta[sum_t grad cost(s_{t-1})]
                                      + E_theta[sum_t grad log pi(a_t) sum_{u>t} cost(s_{u-1})]

Per token, 1/|y| depends on the tokens drawn: E_theta[(1/|y|) sum_t log(pi_theta / pi_ref)(a_t)] is another
number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.penalties import NOTHING, kl_exact, kl_loss
from ticgrpo_theory.estimators.scales import Scale, sequence_sum
from ticgrpo_theory.exact.objective import ValueMethod, check_value_method
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.worlds.graph import Graph, Paths
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import log_probabilities, logits, pull_back

MAX_LAYERS = 2**15
"""Longest responses whose divergence is added up."""

Cost = Callable[[Tensor, Tensor], Tensor]
Table = Tensor | ArrayLike


class Divergence(NamedTuple):
    """A number and its gradient in theta."""

    value: float
    gradient: Float[Tensor, "S V"]


def kl_to_reference(theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]) -> Float[Tensor, " S"]:
    """KL(pi_theta || pi_ref) = sum_a pi_theta d, d = log(pi_theta / pi_ref), of every row; 0 log 0 = 0."""
    logp, d = _log_ratio(theta, theta_ref)
    return (logp.exp() * d).sum(dim=-1)


def minus_entropy(theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]) -> Float[Tensor, " S"]:
    """- H = sum_a pi_theta log pi_theta of every row; 0 log 0 = 0, and no reference is read."""
    logp = log_probabilities(theta)
    return (logp.exp() * logp.where(logp > -torch.inf, 0.0)).sum(dim=-1)


def cost_of(penalty: kl_exact) -> Cost:
    """What a divergence of whole rows costs at a row."""
    return minus_entropy if penalty.reference == NOTHING else kl_to_reference


def kl_from_reference(theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]) -> Float[Tensor, " S"]:
    """KL(pi_ref || pi_theta) of every row."""
    return kl_to_reference(theta_ref, theta)


def half_squared(theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]) -> Float[Tensor, " S"]:
    """sum_a pi_theta d^2 / 2 of every row: what the values of k2 add up to."""
    logp, d = _log_ratio(theta, theta_ref)
    return (logp.exp() * d.square() / 2).sum(dim=-1)


def _log_ratio(
    theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]
) -> tuple[Float[Tensor, "S V"], Float[Tensor, "S V"]]:
    """log pi_theta, and d = log(pi_theta / pi_ref), 0 where pi_theta is 0."""
    logp = log_probabilities(theta)
    possible = logp > -torch.inf
    # Blanked before they are subtracted: -inf times a gradient of 0 would be NaN.
    return logp, logp.where(possible, 0.0) - log_probabilities(theta_ref).where(possible, 0.0)


def cost_of_rows(
    cost: Cost, theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]
) -> Float[Tensor, " S"]:
    """cost(s) of every row; refused where it is infinite, in whatever row of the table."""
    values = cost(theta, theta_ref)
    if not bool(torch.isfinite(values).all()):
        row = int((~torch.isfinite(values)).nonzero()[0])
        zero, zero_ref = (log_probabilities(x)[row] == -torch.inf for x in (theta, theta_ref))
        raise ValueError(
            f"{cost.__name__} is {values[row].item()} in row {row}: theta gives tokens "
            f"{zero.nonzero()[:, 0].tolist()} probability zero and theta_ref tokens "
            f"{zero_ref.nonzero()[:, 0].tolist()}; mask (-inf) the same tokens in both, "
            f"or give them finite logits"
        )
    return values


def cost_gradient(
    cost: Cost, theta: Float[Tensor, "S V"], theta_ref: Float[Tensor, "S V"]
) -> Float[Tensor, "S V"]:
    """d cost(s) / d theta[s, a]; every row adds to 0, so that `policy.pull_back` leaves it as it is."""
    table = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(cost(table, theta_ref).sum(), table)[0]


@dataclass(frozen=True, eq=False)
class Accumulated:
    """E[g sum_t cost(s_{t-1})] over one graph, g a number for each outcome, and its two derivatives."""

    value: float
    visits: Float64[np.ndarray, " S"]
    """E[g #visits of row s]: the derivative in cost(s)."""
    weights: Float64[np.ndarray, "S V"]
    """Token weights M of the derivative through the visits: its pull-back is the gradient at fixed costs."""


def visits_and_spending(
    graph: Graph, pi: Float64[np.ndarray, "S V"], cost: Float64[np.ndarray, " S"]
) -> list[Float64[np.ndarray, "2 _"]]:
    """d(n) and D(n) = E[1{n} cost of the nodes before n], for the nodes of every depth."""
    first: Float64[np.ndarray, "2 _"] = np.zeros((2, graph.nodes(0)))
    first[0, graph.start] = 1.0
    reached = [first]
    for t in range(graph.horizon - 1):
        row, successor = graph.table(t)
        d, D = reached[t]
        flows = (np.stack([d, D + d * cost[row]])[:, :, None] * pi[row]).reshape(2, -1)
        onward, count = successor.reshape(-1), graph.nodes(t + 1)
        kept = onward >= 0
        arrived = [np.bincount(onward[kept], weights=x[kept], minlength=count) for x in flows]
        reached.append(np.array(arrived, dtype=np.float64))
    return reached


def accumulate(
    graph: Graph,
    pi: Float64[np.ndarray, "S V"],
    cost: Float64[np.ndarray, " S"],
    g: Float64[np.ndarray, " O"],
) -> Accumulated:
    """E_pi[g(o) sum_t cost(s_{t-1})]: one pass forward, one backward, over the layers of the graph.

    With d(n) the probability of node n, D(n) = E[1{n} cost of the nodes before n], h(n, a) = E[g | n, a] and
    F(n, a) = E[g x cost of the nodes after n | n, a],

        M[s, a] = sum over nodes n of row s of pi(a|s) ((D(n) + d(n) cost(s)) h(n, a) + d(n) F(n, a)).

    What came before a token multiplies its score because g depends on it. h and F are taken less their means
    over a, which pulls back to the same: without that, digits are lost at long horizons. Raises ValueError
    for T > MAX_LAYERS.
    """
    if graph.horizon > MAX_LAYERS:
        raise ValueError(
            f"T = {graph.horizon:,}: a divergence is added up layer by layer, in seconds for up to "
            f"MAX_LAYERS = {MAX_LAYERS:,} of them; lower T"
        )
    V, reached = graph.vocab_size, visits_and_spending(graph, pi, cost)
    visits, weights = np.zeros(pi.shape[0]), np.zeros(pi.size)
    # h and F of the depth below; the entry at the end is read where a token ends the response, and replaced.
    after = np.stack([np.append(g[graph.final_start :], 0.0), np.zeros(graph.nodes(graph.horizon) + 1)])
    for t in reversed(range(graph.horizon)):
        row, successor = graph.table(t)
        (d, D), now = reached[t], cost[row]
        h, F = after[:, np.where(successor >= 0, successor, -1)]
        ended = successor < 0
        h[ended], F[ended] = g[graph.ended_start[t] - 1 - successor[ended]], 0.0
        mean_h, mean_F = (pi[row] * h).sum(axis=1), (pi[row] * F).sum(axis=1)
        M = pi[row] * ((D + d * now)[:, None] * (h - mean_h[:, None]) + d[:, None] * (F - mean_F[:, None]))
        index = (row[:, None] * V + np.arange(V)).reshape(-1)
        weights += np.bincount(index, M.reshape(-1), minlength=pi.size)
        visits += np.bincount(row, d * mean_h, minlength=pi.shape[0])
        after = np.stack([np.append(mean_h, 0.0), np.append(now * mean_h + mean_F, 0.0)])
    return Accumulated(float(after[1, graph.start]), visits, weights.reshape(pi.shape))


def probabilities(theta: Float[Tensor, "S V"]) -> Float64[np.ndarray, "S V"]:
    """pi_theta(a | s) of every row."""
    return log_probabilities(theta).exp().numpy()


def outcome_scale(graph: Graph, scale: Scale, horizon: int) -> Float64[np.ndarray, " O"]:
    """scale of every outcome as a group of one: 1, 1/|y| or 1/horizon."""
    # A copy: the lengths of a tree may be one number behind a read-only view.
    length = torch.from_numpy(graph.length.astype(np.int64))
    return scale(length, length, 1, horizon).numpy()


def expected_divergence(
    mdp: TokenMDP,
    theta: Table,
    theta_ref: Table,
    cost: Cost = kl_to_reference,
    scale: Scale = sequence_sum,
    method: ValueMethod = "dynamic_programming",
) -> Divergence:
    """E_theta[scale sum_t cost(s_{t-1})] and its gradient, weighted over the prompts.

    The defaults are KL(P_theta || P_ref), the KL of responses. Raises ValueError for bad logits, an unknown
    method, and a divergence that is infinite.
    """
    check_value_method(method)
    now, reference = logits(mdp, theta), logits(mdp, theta_ref, "theta_ref")
    sums = by_layers if method == "dynamic_programming" else by_responses
    value, gradient = 0.0, torch.zeros_like(now)
    for weight, prompt in mdp.prompts:
        g = outcome_scale(prompt.graph, scale, mdp.horizon)
        part = sums(prompt.graph, now, reference, cost, g)
        value, gradient = value + weight * part.value, gradient + weight * part.gradient
    return Divergence(value, gradient)


def by_layers(
    graph: Graph, theta: Tensor, theta_ref: Tensor, cost: Cost, g: Float64[np.ndarray, " O"]
) -> Divergence:
    """Value and gradient by dynamic programming."""
    sums = accumulate(graph, probabilities(theta), cost_of_rows(cost, theta, theta_ref).numpy(), g)
    through_visits = pull_back(torch.from_numpy(sums.weights), theta)
    through_rows = torch.from_numpy(sums.visits)[:, None] * cost_gradient(cost, theta, theta_ref)
    return Divergence(sums.value, through_visits + through_rows)


def by_responses(
    graph: Graph, theta: Tensor, theta_ref: Tensor, cost: Cost, g: Float64[np.ndarray, " O"]
) -> Divergence:
    """Value from every response written out, gradient by autograd through P_theta and the rows."""
    paths = enumeration.responses(graph, enumeration.Policies(theta, theta)).paths
    mask, rows, tokens = (torch.from_numpy(x) for x in (paths.mask, paths.rows, paths.tokens))
    table = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        logp = log_probabilities(table)[rows, tokens].where(mask, 0.0).sum(dim=1)
        costs = cost_of_rows(cost, table, theta_ref)[rows].where(mask, 0.0).sum(dim=1)
        value = (logp.exp() * torch.from_numpy(g[paths.outcome]) * costs).sum()
        (gradient,) = torch.autograd.grad(value, table)
    return Divergence(value.item(), gradient)


def frozen_divergence(
    mdp: TokenMDP,
    theta: Table,
    theta_old: Table,
    theta_ref: Table,
    cost: Cost = kl_to_reference,
    scale: Scale = sequence_sum,
) -> Divergence:
    """E_old[scale sum_t cost(s_{t-1})], cost at theta; its gradient is sum_s visits(s) grad cost(s).

    Raises ValueError as `expected_divergence` does.
    """
    now, reference = logits(mdp, theta), logits(mdp, theta_ref, "theta_ref")
    old = logits(mdp, theta_old, "theta_old")
    visits = torch.zeros(mdp.num_rows, dtype=torch.float64)
    for weight, prompt in mdp.prompts:
        g = outcome_scale(prompt.graph, scale, mdp.horizon)
        visits += weight * torch.from_numpy(
            accumulate(prompt.graph, probabilities(old), np.zeros(mdp.num_rows), g).visits
        )
    value = float(visits @ cost_of_rows(cost, now, reference))
    return Divergence(value, visits[:, None] * cost_gradient(cost, now, reference))


def penalty_table(
    penalty: kl_loss | kl_exact,
    batch: Batch,
    scale: Float[Tensor, "N 1"],
    paths: Paths,
    theta: Float[Tensor, "S V"],
    theta_ref: Float[Tensor, "S V"],
) -> Float[Tensor, "S V"]:
    """Token weights M of a penalty in the loss, summed over responses, each a group of one with its scale."""
    if isinstance(penalty, kl_loss):
        return enumeration.scatter(paths, penalty.weights(batch, scale)[:, 0], *theta.shape)
    cost = cost_of(penalty)
    divergence = cost(theta, theta_ref)[torch.from_numpy(paths.rows)]
    by_ratio = penalty.ratio_weights(batch, scale, divergence[:, None])[:, 0]
    by_state = penalty.state_weights(batch.logp, batch, scale)[:, 0]
    visits = enumeration.scatter(paths, by_state, *theta.shape).sum(dim=1, keepdim=True)
    through_ratio = enumeration.scatter(paths, by_ratio, *theta.shape)
    return through_ratio + visits * cost_gradient(cost, theta, theta_ref)
