"""Sums over every response of a prompt, token by token: no structure of the estimator is used.

M[s, a] = sum_y P_old(y) sum_t coefficient[y, t] 1{row = s, token = a}
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.worlds.graph import Graph, Paths
from ticgrpo_theory.worlds.policy import log_probabilities

CHUNK = 2**18
"""Responses x tokens evaluated at once: large enough to amortise torch, small enough to stay in cache."""

NEGLIGIBLE = 1e-16
"""Probability under theta that theta_old may be unable to reach in float64: the rounding of a sum of 1."""


@dataclass(frozen=True)
class Responses:
    """Responses that theta_old can draw; log-probabilities are 0 on padding."""

    prob_old: Float[Tensor, " N"]
    logp: Float[Tensor, "N T"]
    logp_old: Float[Tensor, "N T"]
    logp_ref: Float[Tensor, "N T"] | None
    mask: Bool[Tensor, "N T"]
    reward: Float[Tensor, " N"]
    paths: Paths

    def batch(self, members: Int64[Tensor, "M G"], horizon: int) -> Batch:
        """Groups of responses, by their numbers."""
        return self._batch(lambda table: table[members], horizon)

    def alone(self, horizon: int) -> Batch:
        """Every response as a group of one, [N, 1, T]."""
        return self._batch(lambda table: table[:, None], horizon)

    def _batch(self, grouped: Callable[[Tensor], Tensor], horizon: int) -> Batch:
        ref = None if self.logp_ref is None else grouped(self.logp_ref)
        tables = map(grouped, (self.logp, self.logp_old, self.reward, self.mask))
        return Batch(*tables, logp_ref=ref, horizon=horizon)


def token_log_probabilities(paths: Paths, theta: Float[Tensor, "S V"]) -> Float[Tensor, "N T"]:
    """log pi_theta(token | row) of every token of every response; 0 on padding."""
    table = log_probabilities(theta)[torch.from_numpy(paths.rows), torch.from_numpy(paths.tokens)]
    return table.where(torch.from_numpy(paths.mask), 0.0)


def responses(
    graph: Graph,
    theta: Float[Tensor, "S V"],
    theta_old: Float[Tensor, "S V"],
    theta_ref: Float[Tensor, "S V"] | None = None,
) -> Responses:
    """Every response of positive probability under theta_old, as all the policies see it.

    Raises ValueError where that probability is too small for float64 although theta draws the response.
    """
    paths = graph.paths
    logp_old = token_log_probabilities(paths, theta_old)
    possible = torch.isfinite(logp_old).all(dim=1).numpy()
    kept = Paths(paths.tokens[possible], paths.rows[possible], paths.mask[possible], paths.outcome[possible])
    logp_old, logp = logp_old[torch.from_numpy(possible)], token_log_probabilities(kept, theta)
    prob_old, prob = logp_old.sum(dim=1).exp(), logp.sum(dim=1).exp()
    lost = prob.where(prob_old == 0, 0.0)
    if float(lost.sum()) > NEGLIGIBLE:
        worst = int(lost.argmax())
        raise ValueError(
            f"response {kept.tokens[worst][kept.mask[worst]].tolist()} has log-probability "
            f"{logp_old[worst].sum().item():.6g} under theta_old, which is probability 0 in float64, but "
            f"{logp[worst].sum().item():.6g} under theta: no weight can make up for it; keep theta closer to "
            f"theta_old, or mask the token (-inf) in both"
        )
    return Responses(
        prob_old=prob_old,
        logp=logp,
        logp_old=logp_old,
        logp_ref=None if theta_ref is None else token_log_probabilities(kept, theta_ref),
        mask=torch.from_numpy(kept.mask),
        reward=torch.from_numpy(graph.reward[kept.outcome]),
        paths=kept,
    )


def with_padding(
    every: Responses,
    theta: Float[Tensor, "S V"],
    theta_old: Float[Tensor, "S V"],
    theta_ref: Float[Tensor, "S V"] | None,
) -> Responses:
    """The same responses as a trainer holds them: behind a response a network goes on giving numbers.

    Every position of padding reads one token of row 0: log-probabilities there are finite and move with
    theta, so that an estimator that forgets its mask has weights there, and `paths` says whose.
    """
    policies = [log_probabilities(table)[0] for table in (theta, theta_old, theta_ref) if table is not None]
    # Token 0, as `paths` has it, unless a policy never draws it.
    token = int((torch.stack(policies).amin(dim=0) > -torch.inf).int().argmax())
    paths = every.paths
    tokens, rows = np.where(paths.mask, paths.tokens, token), np.where(paths.mask, paths.rows, 0)

    def padded(table: Float[Tensor, "N T"], logits: Float[Tensor, "S V"]) -> Float[Tensor, "N T"]:
        return table.where(every.mask, log_probabilities(logits)[0, token].clamp(min=FARTHEST))

    return dataclasses.replace(
        every,
        logp=padded(every.logp, theta),
        logp_old=padded(every.logp_old, theta_old),
        logp_ref=None if every.logp_ref is None or theta_ref is None else padded(every.logp_ref, theta_ref),
        paths=Paths(tokens, rows, paths.mask, paths.outcome),
    )


FARTHEST = -60.0
"""Log-probability at padding where every token of row 0 is masked by some policy."""


def chunks(count: int, width: int) -> Iterator[slice]:
    """Slices over `count` responses of `width` tokens, in order."""
    step = max(1, CHUNK // width)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def scatter(
    paths: Paths, coefficients: Float[Tensor, "N T"], num_rows: int, vocab_size: int
) -> Float[Tensor, "S V"]:
    """M[s, a] = sum over the tokens (row s, token a) of their coefficients, in a fixed order.

    Coefficients at padding count where they are not 0, for the row and token that `paths` has there.
    """
    counted = paths.mask | (coefficients.numpy() != 0)
    index = (paths.rows * vocab_size + paths.tokens)[counted]
    values = coefficients.numpy()[counted]
    flat = np.bincount(index, weights=values, minlength=num_rows * vocab_size)
    return torch.from_numpy(flat.reshape(num_rows, vocab_size))


def value_weights(
    graph: Graph, theta: Float[Tensor, "S V"], value: NDArray[np.float64]
) -> Float[Tensor, "S V"]:
    """M[s, a] = sum_y P_theta(y) value(y) #{t: row s, token a}; its pull-back is grad E_theta[value]."""
    every = responses(graph, theta, theta)
    weight = every.prob_old * torch.from_numpy(value[every.paths.outcome])
    return scatter(every.paths, weight[:, None] * every.mask, theta.shape[0], theta.shape[1])
