"""Which measure a response is summed under, and what of its weight is left to its pooled log-ratio.

An unbounded ratio, and one that a gate switches off, goes into the measure: E_mu[W 1{W <= c} X] is a sum
under mu pi_theta / pi_old of 1{W <= c} X, whose weight is 0 or 1. What is held at a lower bound,
a power of W, or a mean over the length stays a factor.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clip_table import ClipTable
from ticgrpo_theory.estimators.clipping import has_table
from ticgrpo_theory.estimators.corrections import Bounded, masked, rejected, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.dynamic import measures
from ticgrpo_theory.exact.horizon.weights import Factor
from ticgrpo_theory.exact.obstacles import is_unclipped, lengths_of, reduction_obstacle
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.worlds.graph import MAX_PATHS, Tree
from ticgrpo_theory.worlds.policy import log_probabilities

Floats = NDArray[np.float64]
POOLED = (ratios.trajectory, ratios.geometric_mean)


class Split(NamedTuple):
    """The measure, the log-ratio [S, V] that is summed over a response, and the factors by length."""

    measure: measures.Measure
    increment: Floats
    rule: Callable[[int], tuple[list[Factor], list[Factor]]]


def pools_ratio(problem: PromptProblem) -> bool:
    """Whether the weight reads the pooled ratio to theta_old, beyond a change of measure."""
    estimator = problem.axes
    if estimator.ratio is ratios.trajectory:
        return not is_unclipped(estimator.clip, problem.mdp.graph)
    return estimator.ratio is ratios.geometric_mean


def pooled_parts(estimator: Estimator) -> list[Bounded]:
    """The corrections that read the whole response, beyond a change of measure."""
    parts = () if estimator.correction is None else estimator.correction.parts
    return [
        part
        for part in parts
        if isinstance(part, Bounded)
        and part.level != "token"
        and not (part.unbounded and (part.level == "sequence" or type(part) is rejected))
    ]


def enclosure_obstacle(problem: PromptProblem) -> str:
    """Why a sum over one pooled log-ratio does not hold the estimator, or ''."""
    estimator = problem.estimator
    if not isinstance(estimator, Estimator):
        return "a callable has no declared ratio and clip"
    why = reduction_obstacle(problem)
    if why:
        return why
    if not estimator.properties.known:
        return "parts that are not of the catalogue are evaluated response by response"
    if estimator.penalty is not None:
        return "its penalty is summed token by token over all responses"
    if not has_table(estimator.clip):
        return "its clip turns ratios into weights by a rule of its own"
    for part in () if estimator.correction is None else estimator.correction.parts:
        if type(part) not in (truncated, masked, rejected) or not isinstance(part, Bounded):
            return f"the correction {part!r} has a rule of its own"
        if part.level == "largest" and not (part.unbounded and type(part) is rejected):
            return f"the correction {part!r} takes a largest ratio, which is no sum over tokens"
    graph = problem.mdp.graph
    table = estimator.clip.table(lengths_of(graph))
    if estimator.ratio not in POOLED:
        if estimator.ratio is ratios.prefix and not table.is_open:
            return "its clip acts at every prefix"
        if estimator.ratio not in (ratios.none, ratios.token, ratios.prefix):
            return "its ratio has a rule of its own"
        if estimator.ratio is not ratios.prefix and table.depends_on_length:
            return "its clip of single tokens depends on the length of the response"
    of_ratio, of_sampler = pools_ratio(problem), bool(pooled_parts(estimator))
    if of_ratio and of_sampler and problem.theta_sampler is not None:
        return "it reads two pooled ratios, theta / theta_old and theta_old / sampler, and bins hold one"
    if not of_ratio and not of_sampler:
        return "no pooled ratio is left of its weight: method='dynamic_programming' sums it without bins"
    return ""


def paths_obstacle(problem: PromptProblem) -> str:
    """Why responses are not listed one by one, or '': where an enclosure sums those that are too many."""
    why = reduction_obstacle(problem)
    graph = problem.mdp.graph
    if why or isinstance(graph, Tree) or graph.num_paths <= MAX_PATHS or enclosure_obstacle(problem):
        return why
    return f"{graph.num_paths:,} responses are more than MAX_PATHS = {MAX_PATHS:,}"


def split(problem: PromptProblem) -> Split:
    """The measure and the factors of an estimator of which `enclosure_obstacle` knows of no reason."""
    estimator, graph = problem.axes, problem.mdp.graph
    log_pi, log_old, log_mu = map(log_probabilities, (problem.theta, problem.theta_old, problem.sampler))
    possible = log_mu > -torch.inf
    ratio, to_sampler = ((x).where(possible, 0.0) for x in (log_pi - log_old, log_old - log_mu))
    pooled = pools_ratio(problem)
    table = estimator.clip.table(np.arange(graph.horizon + 1))
    mean = estimator.ratio is ratios.geometric_mean
    tilt = float(pooled and not mean and tilts(table))
    whole = torch.zeros_like(ratio)
    if estimator.ratio is ratios.trajectory and (tilt or not pooled):
        whole = whole + ratio
    factors: list[Factor] = []
    for part in pooled_parts(estimator):
        lo, hi, below, above, power = part.numbers
        mine = float(part.level == "sequence" and power == 1 and (lo == 0 or below == 0))
        with np.errstate(divide="ignore"):
            lo, hi, below, above = (float(np.log(x)) for x in (lo, hi, below, above))
        factors.append(Factor(lo, hi, below, above, power, mine, part.level == "geometric"))
        whole = whole + mine * to_sampler
    for part in () if estimator.correction is None else estimator.correction.parts:
        unbounded = isinstance(part, Bounded) and part.level == "sequence" and part.unbounded
        if unbounded and type(part) is not rejected:
            whole = whole + to_sampler
    prefix = ratio if estimator.ratio is ratios.prefix else torch.zeros_like(ratio)
    alone = dataclasses.replace(estimator, ratio=ratios.trajectory) if mean else estimator
    k, other = measures.token_factors(alone, ratio, to_sampler, log_old.where(possible, 0.0))
    return Split(
        measure(log_mu, whole, prefix, k, other),
        (ratio if pooled else to_sampler).numpy(),
        lambda length: rule(table, length, tilt, mean, factors, pooled),
    )


def measure(
    log_mu: Float[Tensor, "S V"],
    whole: Float[Tensor, "S V"],
    prefix: Float[Tensor, "S V"],
    k: Floats,
    other: Floats,
) -> measures.Measure:
    """The tables along a response, with the token's own weight for A >= 0 and for A < 0 stacked."""
    after = (log_mu + whole).exp().numpy()
    before = (log_mu + whole + prefix).exp().numpy()
    return measures.Measure(before, np.stack([before * k, before * other]), after)


def tilts(table: ClipTable) -> bool:
    """Whether W^-1 times the weight is bounded: nothing is held at a lower bound."""
    held = (table.below_plus > -math.inf) | (table.below_minus > -math.inf)
    bounded = (table.lo_plus > -math.inf) | (table.lo_minus > -math.inf)
    return not bool((held & bounded).any())


def rule(
    table: ClipTable, length: int, tilt: float, mean: bool, factors: list[Factor], pooled: bool
) -> tuple[list[Factor], list[Factor]]:
    """The factors for A >= 0 and for A < 0 at one length."""
    if not pooled:
        return factors, factors
    at = [float(column.flat[min(length, column.size - 1)]) for column in table]
    lo_plus, hi_plus, lo_minus, hi_minus, below_plus, above_plus, below_minus, above_minus = at
    plus = Factor(lo_plus, hi_plus, below_plus, above_plus, 1.0, tilt, mean)
    minus = Factor(lo_minus, hi_minus, below_minus, above_minus, 1.0, tilt, mean)
    # theta_old draws: its corrections see W = 1.
    constant = [Factor(math.inf, math.inf, value, value) for value in map(at_one, factors)]
    return [plus, *constant], [minus, *constant]


def at_one(factor: Factor) -> float:
    """log phi at v = 0."""
    return factor.below if factor.lo > 0 else factor.above if factor.hi < 0 else 0.0
