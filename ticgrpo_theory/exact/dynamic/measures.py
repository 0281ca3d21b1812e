"""Sums over responses whose weights multiply along them, for three policies: sampler mu, theta_old, theta.

The weight of token t of response y is

    prod_u R(u) . prod_{u <= t} p(u) . k(t),      every factor a table [S, V] of (row, token)

    R  multiplies the whole response   pi_theta / pi_old of a trajectory ratio without a clip, and pi_old / mu
                                       of a correction of the whole response without a bound
    p  multiplies the prefix           pi_theta / pi_old of a prefix ratio
    k  multiplies the token            its gated ratio, and corrections of single tokens

so that with f the expected advantage of an outcome,

    M[s, a] = sum over the nodes n of row s of D(n) mu R p k (s, a) U(n, a),
    D forward with the edges mu R p,    U(n, a) = sum of f over what follows, backward with the edges mu R.

Where R or p are ratios this is a change of measure: mu R p need not add to 1. All tables are products of
probabilities, taken as sums of logarithms; a token that mu never draws has the edge 0, whatever its ratio.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.corrections import Bounded, masked, rejected, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.dynamic import table_kernels as kernels
from ticgrpo_theory.exact.dynamic.layer_kernels import layers_of
from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.policy import log_probabilities

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measure:
    """Tables [S, V] that multiply along a response: `before` a token, at the `token`, and `after` it."""

    before: Floats
    token: Floats
    after: Floats


@dataclass(frozen=True, eq=False)
class Edges:
    """How E[F u_t], E[F u_t^2] and E[F u_t u_t'] (t < t') are products along a response, for one sign of A.

    `single` and `double` are the first two; the third is double.before up to t, `first` at t, `between`,
    `second` at t', double.after from there on.
    """

    single: Measure
    double: Measure
    first: Floats
    between: Floats
    second: Floats


class Along(NamedTuple):
    """M [S, V], the visits D of every node, and the sum of D over the responses that end in each outcome."""

    M: Floats
    visits: Floats


def along(graph: Graph, measure: Measure, value: Floats) -> Along:
    """M[s, a] = sum over nodes n of row s of D(n) token(n, a) U(n, a), with the visits D."""
    visits, _ = forward(graph, measure.before)
    M = np.empty_like(measure.token)
    kernels.backward(layers_of(graph), measure.after, visits, np.ascontiguousarray(value), M)
    return Along(np.where(M == 0, 0.0, measure.token) * M, visits)


def forward(graph: Graph, edge: Floats) -> tuple[Floats, Floats]:
    """(visits of every node, sum over the responses of every outcome) of the products of edges."""
    visits, total = np.empty(graph.row.size), np.empty(graph.reward.size)
    kernels.forward(layers_of(graph), np.ascontiguousarray(edge), visits, total)
    return visits, total


def lost(theta: Float[Tensor, "S V"], sampler: Float[Tensor, "S V"]) -> bool:
    """Whether the sampler masks a token that theta may draw."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(sampler.numpy().sum()):
            return False
    return bool(((sampler == -torch.inf) & (theta > -torch.inf)).any())


def lost_mass(graph: Graph, theta: Float[Tensor, "S V"], sampler: Float[Tensor, "S V"]) -> float:
    """P_theta of the responses that hold a token which the sampler never draws."""
    if not lost(theta, sampler):
        return 0.0
    pi = torch.softmax(theta, dim=-1)
    return lost_of(graph, pi.where(sampler > -torch.inf, 0.0).numpy(), pi.numpy())


def lost_of(graph: Graph, within: Floats, pi: Floats) -> float:
    """The probability of leaving `within`, a table of the probabilities that stay: no difference to 1."""
    visits, _ = forward(graph, within)
    leaves = (pi - within).sum(axis=1)
    return float(visits @ leaves[graph.row])


@dataclass(frozen=True, eq=False)
class Factors:
    """log mu, log R and log p of every token, and k for A >= 0 and A < 0, all [S, V]."""

    log_sampler: Float[Tensor, "S V"]
    log_whole: Float[Tensor, "S V"] | None
    log_prefix: Float[Tensor, "S V"] | None
    own: tuple[Floats, Floats]

    def edge(self, whole: int, prefix: int) -> Floats:
        """mu R^whole p^prefix; 0 where mu is."""
        total = self.log_sampler
        if self.log_whole is not None and whole:
            total = total + whole * self.log_whole
        if self.log_prefix is not None and prefix:
            total = total + prefix * self.log_prefix
        return total.where(self.log_sampler > -torch.inf, -torch.inf).exp().numpy()

    @cached_property
    def before(self) -> Floats:
        """mu R p."""
        return self.edge(1, 1)

    @cached_property
    def after(self) -> Floats:
        """mu R."""
        return self.before if self.log_prefix is None else self.edge(1, 0)

    def single(self, sign: int) -> Measure:
        """Of E[f u_t], sign 0 for A >= 0 and 1 for A < 0."""
        return Measure(self.before, self.before * self.own[sign], self.after)

    def edges(self, sign: int) -> Edges:
        """Of all second moments, for the same signs."""
        k, squared = self.own[sign], self.edge(2, 2)
        after = squared if self.log_prefix is None else self.edge(2, 0)
        between = squared if self.log_prefix is None else self.edge(2, 1)
        double = Measure(squared, squared * k**2, after)
        return Edges(self.single(sign), double, squared * k, between, between * k)


def factors_of(
    estimator: Estimator,
    theta: Float[Tensor, "S V"],
    theta_old: Float[Tensor, "S V"],
    sampler: Float[Tensor, "S V"],
) -> Factors:
    """The factors of an estimator for which `corrections_obstacle` and `dynamic_obstacle` know of no reason.

    k is what the estimator's own formula gives for each token as a response of one token with A = +-1.
    """
    log_pi, log_old, log_sampler = map(log_probabilities, (theta, theta_old, sampler))
    possible = log_sampler > -torch.inf
    # Impossible tokens are never seen; without the replacement their ratios would be inf - inf.
    log_ratio = (log_pi - log_old).where(possible, 0.0)
    to_sampler = (log_old - log_sampler).where(possible, 0.0)
    whole = [log_ratio] if estimator.ratio is ratios.trajectory else []
    correction = estimator.correction
    for part in () if correction is None else correction.parts:
        if isinstance(part, Bounded) and part.level == "sequence" and type(part) is not rejected:
            whole.append(to_sampler)
    prefix = log_ratio if estimator.ratio is ratios.prefix else None
    own = token_factors(estimator, log_ratio, to_sampler, log_old.where(possible, 0.0))
    log_whole = torch.stack(whole).sum(dim=0) if whole else None
    return Factors(log_sampler, log_whole, prefix, own)


def token_factors(
    estimator: Estimator,
    log_ratio: Float[Tensor, "S V"],
    to_sampler: Float[Tensor, "S V"],
    log_old: Float[Tensor, "S V"],
) -> tuple[Floats, Floats]:
    """k(s, a) for A >= 0 and A < 0: gated token ratio times corrections of single tokens, [S, V] each."""
    shape, mask = log_ratio.shape, torch.ones(log_ratio.numel(), 1, 1, dtype=torch.bool)
    found = []
    for sign in (1.0, -1.0):
        k = torch.ones(mask.shape, dtype=torch.float64)
        if estimator.ratio not in (ratios.prefix, ratios.trajectory):
            A = torch.full(mask.shape[:-1], sign, dtype=torch.float64)
            alone = Estimator(estimator.ratio, estimator.advantage, estimator.clip, estimator.scale)
            now, d, old = (x.reshape(mask.shape) for x in (log_ratio, to_sampler, log_old))
            k = sign * alone.response_weights(now, A, mask, d, old)
        correction = estimator.correction
        for part in () if correction is None else correction.parts:
            if isinstance(part, Bounded) and part.level == "token":
                k = k * part.weight(to_sampler.reshape(mask.shape), mask)
        found.append(np.ascontiguousarray(k.reshape(shape).numpy()))
    return found[0], found[1]


def token_corrections(estimator: Estimator) -> Floats | None:
    """The numbers [C, 5] of corrections of single tokens; None where one multiplies whole responses."""
    parts = () if estimator.correction is None else estimator.correction.parts
    bounded = [part for part in parts if isinstance(part, Bounded)]
    if any(part.level != "token" for part in bounded):
        return None
    return np.array([part.numbers for part in bounded], dtype=np.float64).reshape(-1, 5)


def correction_obstacle(estimator: Estimator) -> str:
    """Why corrections do not multiply along a response, or ''."""
    correction = estimator.correction
    for part in () if correction is None else correction.parts:
        if type(part) not in (truncated, masked, rejected) or not isinstance(part, Bounded):
            return f"the correction {part!r} has a rule of its own"
        whole = part.unbounded and (part.level == "sequence" or type(part) is rejected)
        if part.level != "token" and not whole:
            return f"the correction {part!r} depends on more than one token"
    return ""
