"""Algorithms 1 and 2 as a reader of the paper would write them: one replicate, one response after another.

Nothing of `ticgrpo_theory.simulate` is used. Random numbers are hashed with Python's integers, responses are
walked through the graph token by token, the gradient is autograd's through the table of logits.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.exact import expected_return, policy_gradient
from ticgrpo_theory.exact.dynamic.forward_backward import outcome_distribution
from ticgrpo_theory.mdp import TokenMDP

WORD = 2**64


def split_mix(state: int, index: int) -> int:
    """Output number `index` of SplitMix64 from `state`, unsigned."""
    z = (state + (index + 1) * 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def uniform(seed: int, *path: int) -> float:
    """u of (seed, replicate, outer step, response, token)."""
    key = int.from_bytes(hashlib.sha256(json.dumps([seed, "simulate"]).encode()).digest()[:8], "big")
    for index in path:
        key = split_mix(key, index)
    return (key >> 11) / 2**53


def choose(probabilities: list[float], u: float) -> int:
    """The first index whose cumulative probability exceeds u."""
    reached = 0.0
    for index, p in enumerate(probabilities):
        reached += p
        if reached > u:
            return index
    return max(index for index, p in enumerate(probabilities) if p > 0)


@dataclass
class Response:
    """Rows and tokens of one response, and its reward."""

    prompt: int
    rows: list[int]
    tokens: list[int]
    reward: float


def draw(mdp: TokenMDP, prompt: int, theta: Tensor, u: Callable[[int], float]) -> Response:
    graph = mdp.prompts[prompt][1].graph
    node, rows, tokens = graph.start, [], []
    for t in range(graph.horizon):
        row, successor = graph.table(t)
        rows.append(int(row[node]))
        tokens.append(choose(torch.softmax(theta[rows[-1]], 0).tolist(), u(t)))
        node = int(successor[node, tokens[-1]])
        if node < 0:
            return Response(prompt, rows, tokens, float(graph.reward[graph.ended_start[t] - 1 - node]))
    return Response(prompt, rows, tokens, float(graph.reward[graph.final_start + node]))


def gathered(theta: Tensor, group: list[Response], width: int) -> Tensor:
    """log pi_theta of every token [G, T]; 0 at padding."""
    log_pi = torch.log_softmax(theta, dim=-1)
    rows = []
    for y in group:
        own = torch.stack([log_pi[s, a] for s, a in zip(y.rows, y.tokens, strict=True)])
        rows.append(torch.cat([own, own.new_zeros(width - len(own))]))
    return torch.stack(rows)


def moments(mdp: TokenMDP, prompt: int, theta: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the reward of one prompt, from the exact engine."""
    graph = mdp.prompts[prompt][1].graph
    prob = outcome_distribution(graph, theta.numpy())
    mean = float(prob @ graph.reward)
    return mean, float(prob @ (graph.reward - mean) ** 2) ** 0.5


@dataclass
class Reference:
    """One replicate: theta_{n,0} of every outer step, then the last one; g_hat of first inner steps."""

    path: list[Tensor] = field(default_factory=list)
    first: list[Tensor] = field(default_factory=list)

    def sums(self, mdp: TokenMDP) -> dict[str, float]:
        """The sums of a Trace, from the exact engine."""
        gradients = [policy_gradient(mdp, theta) for theta in self.path[:-1]]
        moves = [(b - a).nan_to_num() for a, b in zip(self.path, self.path[1:], strict=False)]
        return {
            "sum_gradient_dot_move": sum(float((g * d).sum()) for g, d in zip(gradients, moves, strict=True)),
            "sum_move_norm_sq": sum(float(d.square().sum()) for d in moves),
            "sum_gradient_dot_first": sum(
                float((g * x).sum()) for g, x in zip(gradients, self.first, strict=True)
            ),
            "sum_first_norm_sq": sum(float(x.square().sum()) for x in self.first),
            "final_return": expected_return(mdp, self.path[-1]),
        }


def run(
    mdp: TokenMDP,
    theta: Tensor,
    estimator,
    *,
    group_size: int,
    learning_rate: float,
    inner_steps: int,
    outer_steps: int,
    replicate: int = 0,
    seed: int = 0,
    batches: str = "reused",
    prompts_per_step: int = 1,
    adam: tuple[float, float, float] | None = None,
    theta_ref: Tensor | None = None,
) -> Reference:
    """Replicate number `replicate`."""
    theta = torch.as_tensor(theta, dtype=torch.float64).clone()
    found = Reference([theta.clone()])
    G, P, K = group_size, prompts_per_step, inner_steps
    weights = [weight for weight, _ in mdp.prompts]
    ascent = torch.optim.Adam([theta], learning_rate, adam[:2], adam[2], maximize=True) if adam else None
    for n in range(outer_steps):
        old = theta.clone()
        groups = []
        for number in range(P * (K if batches == "disjoint" else 1)):
            prompt = choose(weights, uniform(seed, replicate, n, -1 - number, 0))
            members = range(number * G, (number + 1) * G)
            numbers = [partial(uniform, seed, replicate, n, i) for i in members]
            groups.append([draw(mdp, prompt, old, u) for u in numbers])
        for k in range(K):
            mine = groups[k * P : (k + 1) * P] if batches == "disjoint" else groups
            gradient = sum(group_gradient(mdp, estimator, theta, old, group, theta_ref) for group in mine) / P
            if k == 0:
                found.first.append(gradient)
            if ascent is None:
                theta += learning_rate * gradient
            else:
                theta.grad = gradient
                ascent.step()
        found.path.append(theta.clone())
    return found


def group_gradient(mdp, estimator, theta, old, group: list[Response], theta_ref) -> Tensor:
    """sum_it c[i,t] grad log pi(a[i,t] | s[i,t-1]) of one group, by autograd."""
    T = mdp.horizon
    advantage = getattr(estimator, "advantage", None)
    if isinstance(advantage, population):
        estimator = dataclasses.replace(
            estimator, advantage=advantage.at(*moments(mdp, group[0].prompt, old))
        )
    mask = torch.tensor([[t < len(y.tokens) for t in range(T)] for y in group])
    reference = None if theta_ref is None else gathered(theta_ref, group, T)
    reward = torch.tensor([y.reward for y in group], dtype=torch.float64)
    logp, logp_old = gathered(theta, group, T), gathered(old, group, T)
    c = estimator.token_weights(Batch(logp, logp_old, reward, mask, reference, horizon=T))
    scored_at = estimator.score(theta, old).clone().requires_grad_()
    (gradient,) = torch.autograd.grad((c * gathered(scored_at, group, T)).sum(), scored_at)
    return gradient
