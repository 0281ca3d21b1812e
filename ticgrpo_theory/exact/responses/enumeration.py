"""Sums over every response of a prompt, token by token: no structure of the estimator is used.

M[s, a] = sum_y P(y) sum_t coefficient[y, t] 1{row = s, token = a},   P that of the policy that draws
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
"""Probability under theta that the sampler may be unable to reach in float64: the rounding of a sum of 1."""


@dataclass(frozen=True)
class Policies:
    """Logits [S, V]: of the policy in training, the old one, a reference, and the one that draws."""

    theta: Float[Tensor, "S V"]
    theta_old: Float[Tensor, "S V"]
    theta_ref: Float[Tensor, "S V"] | None = None
    theta_sampler: Float[Tensor, "S V"] | None = None
    """None: theta_old draws."""

    @property
    def drawn_from(self) -> Float[Tensor, "S V"]:
        """The policy that draws."""
        return self.theta_old if self.theta_sampler is None else self.theta_sampler

    @property
    def drawn(self) -> tuple[Float[Tensor, "S V"], ...]:
        """The policies whose ratios enter weights and probabilities."""
        third = () if self.theta_sampler is None else (self.theta_sampler,)
        return self.theta, self.theta_old, *third


@dataclass(frozen=True)
class Responses:
    """Responses that can be drawn; log-probabilities are 0 on padding."""

    prob: Float[Tensor, " N"]
    """Under the policy that draws."""
    logp: Float[Tensor, "N T"]
    logp_old: Float[Tensor, "N T"]
    logp_ref: Float[Tensor, "N T"] | None
    logp_sampler: Float[Tensor, "N T"]
    mask: Bool[Tensor, "N T"]
    reward: Float[Tensor, " N"]
    paths: Paths
    truncated: Bool[Tensor, " N"] | None = None
    """Responses that were cut at the horizon, without EOS."""

    def batch(self, members: Int64[Tensor, "M G"], horizon: int) -> Batch:
        """Groups of responses, by their numbers."""
        return self._batch(lambda table: table[members], horizon)

    def alone(self, horizon: int) -> Batch:
        """Every response as a group of one, [N, 1, T]."""
        return self._batch(lambda table: table[:, None], horizon)

    def _batch(self, grouped: Callable[[Tensor], Tensor], horizon: int) -> Batch:
        ref = None if self.logp_ref is None else grouped(self.logp_ref)
        tables = map(grouped, (self.logp, self.logp_old, self.reward, self.mask))
        cut = None if self.truncated is None else grouped(self.truncated)
        seen = {"logp_sampler": grouped(self.logp_sampler), "tokens": grouped(self.tokens)}
        return Batch(*tables, logp_ref=ref, horizon=horizon, truncated=cut, **seen)

    @property
    def tokens(self) -> Int64[Tensor, "N T"]:
        """a[i,t]; at padding the token that is read there."""
        return torch.from_numpy(self.paths.tokens)

    @property
    def sampler_log_ratio(self) -> Float[Tensor, "N T"]:
        """logp_old - logp_sampler of every token; 0 on padding."""
        return (self.logp_old - self.logp_sampler).where(self.mask, 0.0)


def token_log_probabilities(paths: Paths, theta: Float[Tensor, "S V"]) -> Float[Tensor, "N T"]:
    """log pi_theta(token | row) of every token of every response; 0 on padding."""
    table = log_probabilities(theta)[torch.from_numpy(paths.rows), torch.from_numpy(paths.tokens)]
    return table.where(torch.from_numpy(paths.mask), 0.0)


def responses(graph: Graph, policies: Policies) -> Responses:
    """Every response that can be drawn, as all the policies see it.

    What the sampler masks (-inf) is never drawn, whatever theta says. Raises ValueError where theta draws a
    response that the sampler draws with a probability too small for float64.
    """
    paths = graph.paths
    logp_sampler = token_log_probabilities(paths, policies.drawn_from)
    possible = torch.isfinite(logp_sampler).all(dim=1).numpy()
    kept = Paths(paths.tokens[possible], paths.rows[possible], paths.mask[possible], paths.outcome[possible])
    logp_sampler = logp_sampler[torch.from_numpy(possible)]
    given = policies.theta_sampler is not None
    logp_old = token_log_probabilities(kept, policies.theta_old) if given else logp_sampler
    logp = token_log_probabilities(kept, policies.theta)
    drawn, prob = logp_sampler.sum(dim=1).exp(), logp.sum(dim=1).exp()
    lost = prob.where(drawn == 0, 0.0)
    if float(lost.sum()) > NEGLIGIBLE:
        worst = int(lost.argmax())
        raise ValueError(
            f"response {kept.tokens[worst][kept.mask[worst]].tolist()} has log-probability "
            f"{logp_sampler[worst].sum().item():.6g} under {'the sampler' if given else 'theta_old'}, which "
            f"is probability 0 in float64, but {logp[worst].sum().item():.6g} under theta: no weight can "
            f"make up for it; keep theta closer to the policy that draws, or mask the token (-inf) in both"
        )
    return seen(kept, graph, policies, (logp, logp_old, logp_sampler))


def seen(
    paths: Paths, graph: Graph, policies: Policies, known: tuple[Tensor, Tensor, Tensor] | None = None
) -> Responses:
    """Responses of a graph as all the policies see them; `known`: their (logp, logp_old, logp_sampler)."""
    given = policies.theta, policies.theta_old, policies.drawn_from
    logp, logp_old, logp_sampler = known or [token_log_probabilities(paths, table) for table in given]
    ref = policies.theta_ref
    return Responses(
        prob=logp_sampler.sum(dim=1).exp(),
        logp=logp,
        logp_old=logp_old,
        logp_ref=None if ref is None else token_log_probabilities(paths, ref),
        logp_sampler=logp_sampler,
        mask=torch.from_numpy(paths.mask),
        reward=torch.from_numpy(graph.reward[paths.outcome]),
        paths=paths,
        truncated=torch.from_numpy(paths.outcome >= graph.final_start),
    )


def joined(each: list[Responses]) -> Responses:
    """The responses of several lists in one, as wide as the longest."""
    width = max(every.mask.shape[1] for every in each)

    def together(name: str) -> Tensor | None:
        tables = [getattr(every, name) for every in each]
        if tables[0] is None:
            return None
        if tables[0].ndim == 2:
            tables = [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in tables]
        return torch.cat(tables)

    def paths(name: str) -> NDArray:
        tables = [getattr(every.paths, name) for every in each]
        wide = [np.pad(x, ((0, 0), (0, width - x.shape[1]))) if x.ndim == 2 else x for x in tables]
        return np.concatenate(wide)

    names = [f.name for f in dataclasses.fields(Responses) if f.name != "paths"]
    return Responses(
        **{name: together(name) for name in names},  # type: ignore[arg-type]
        paths=Paths(paths("tokens"), paths("rows"), paths("mask"), paths("outcome")),
    )


def with_padding(every: Responses, policies: Policies) -> Responses:
    """The same responses as a trainer holds them: behind a response a network goes on giving numbers.

    Every position of padding reads one token of row 0: log-probabilities there are finite and move with
    theta, so that an estimator that forgets its mask has weights there, and `paths` says whose.
    """
    given = (policies.theta, policies.theta_old, policies.theta_ref, policies.theta_sampler)
    tables = [log_probabilities(table)[0] for table in given if table is not None]
    # Token 0, as `paths` has it, unless a policy never draws it.
    token = int((torch.stack(tables).amin(dim=0) > -torch.inf).int().argmax())
    paths = every.paths
    tokens, rows = np.where(paths.mask, paths.tokens, token), np.where(paths.mask, paths.rows, 0)

    def padded(table: Float[Tensor, "N T"], logits: Float[Tensor, "S V"]) -> Float[Tensor, "N T"]:
        return table.where(every.mask, log_probabilities(logits)[0, token].clamp(min=FARTHEST))

    ref = policies.theta_ref
    return dataclasses.replace(
        every,
        logp=padded(every.logp, policies.theta),
        logp_old=padded(every.logp_old, policies.theta_old),
        logp_ref=None if every.logp_ref is None or ref is None else padded(every.logp_ref, ref),
        logp_sampler=padded(every.logp_sampler, policies.drawn_from),
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
    every = responses(graph, Policies(theta, theta))
    weight = every.prob * torch.from_numpy(value[every.paths.outcome])
    return scatter(every.paths, weight[:, None] * every.mask, theta.shape[0], theta.shape[1])
