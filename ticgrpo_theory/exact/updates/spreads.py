"""The variance of whole updates.

Where nothing couples the groups g_hat is a mean of P independent ones, drawn or one of each prompt:

    V = (1/P) (sum_q weight_q (V_q + ||m_q||^2) - ||m||^2)        V = (1/P^2) sum_q V_q

A filter of groups leaves those that it keeps independent, with the distribution of mixed ones: where g_hat
is 0 for a group of equal rewards, E||g_hat||^2 of a mixed group is that of any group divided by P(mixed).
Coupled updates of one group are groups, and micro-batches of whole groups in order are independent updates.
Token means and statistics of the update are sums over pairs of groups or of rows (token_mean_spread.py,
two_rows/), micro-batches that cut groups sums over pairs of them (micro_batches.py); what is left is listed,
every update there is.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ticgrpo_theory.estimators.advantage import UpdateAdvantage, reads_group
from ticgrpo_theory.estimators.advantages import batch_standardised, group_centred_batch_std, standardised
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    micro_batch_token_mean,
    pools_lengths,
    sequence_mean,
    shuffles,
    token_mean,
)
from ticgrpo_theory.estimators.updates import update_scale
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.exact.mean.rounding import UNIT, operations
from ticgrpo_theory.exact.moments.group_moments import spread_over
from ticgrpo_theory.exact.moments.spread import Spread
from ticgrpo_theory.exact.problem import Parts, PromptProblem
from ticgrpo_theory.exact.updates import micro_batches, token_mean_spread
from ticgrpo_theory.exact.updates.mean import CoupledUpdate
from ticgrpo_theory.exact.updates.one_row.rows import rows_of, seen
from ticgrpo_theory.exact.updates.one_row.shares import mixed_chances
from ticgrpo_theory.exact.updates.placements import orders
from ticgrpo_theory.exact.updates.sampled_updates import problem_of
from ticgrpo_theory.exact.updates.two_rows import statistics_spread
from ticgrpo_theory.exact.updates.update import Update

OfPrompt = Callable[[PromptProblem], Spread]


def independent(update: Update, found: list[Spread]) -> Spread:
    """Mean and variance of a mean over P independent groups, from those of a group of each prompt."""
    P, shares = update.P, update.weights.tolist()
    mean = torch.stack([q * one.mean for q, one in zip(shares, found, strict=True)]).sum(dim=0)
    lost = sum(q * one.rounding for q, one in zip(shares, found, strict=True)) / P
    if update.each:
        return Spread(
            mean, sum(q * one.variance for q, one in zip(shares, found, strict=True)) / P, lost, None
        )
    variance = sum(
        q * (one.variance + float((one.mean - mean).square().sum()))
        for q, one in zip(shares, found, strict=True)
    )
    return Spread(mean, variance / P, lost, None)


def group_parts(update: Update) -> Parts | None:
    """The same prompts with an estimator of single groups, where independent groups are all there is to it.

    None where groups are coupled: a normaliser or statistics of several groups, or a filter that counts them.
    """
    given = update.one.given
    if not isinstance(given, Estimator):
        return None
    plain = of_one_group(given, update.B) if update.P == 1 < update.B else given
    if isinstance(plain.scale, micro_batch_token_mean) and plain.scale.rows == 1:
        plain = dataclasses.replace(plain, scale=sequence_mean)
    scale, whole = update_scale(plain.scale), isinstance(plain.advantage, UpdateAdvantage)
    if scale is not None or whole:
        return None
    cut = update.overlong
    if (
        cut is not None
        and cut.mode == "mask"
        and pools_lengths(plain.scale)
        and plain.scale is not token_mean
    ):
        return None
    if update.drop is not None and (not reads_group(plain.advantage) or plain.penalty is not None):
        return None
    if update.drop == drop_equal("divide_by_kept") and update.each and update.P > 1:
        # How many are kept goes with which prompts are.
        return None
    plain = dataclasses.replace(plain, filter=None)
    return [(q, dataclasses.replace(seen(update, problem), given=plain)) for q, problem in update.alike]


def of_one_group(given: Estimator, rows: int) -> Estimator:
    """The estimator of groups that an update of one group is, as far as there is one."""
    scale, advantage = given.scale, given.advantage
    if scale is batch_token_mean or (isinstance(scale, micro_batch_token_mean) and scale.rows == rows):
        scale = token_mean
    if isinstance(advantage, batch_standardised | group_centred_batch_std):
        advantage = standardised(advantage.delta, advantage.ddof)
    return dataclasses.replace(given, scale=scale, advantage=advantage)


def filtered(update: Update, found: list[Spread]) -> Spread:
    """`independent` for groups that a filter draws again, or that count as 0 where it drops them."""
    drop = update.drop
    if drop is None or drop.mode == "divide_by_all" or (drop.mode == "divide_by_kept" and update.P == 1):
        return independent(update, found)
    chances = mixed_chances(update, rows_of(update))
    again = [conditional(one, chance) for one, chance in zip(found, chances, strict=True)]
    if drop.mode == "same_prompt":
        return independent(update, again)
    shares = update.weights * chances
    shares = shares / shares.sum()
    mean = torch.stack([q * one.mean for q, one in zip(shares, again, strict=True)]).sum(dim=0)
    variance = sum(
        q * (one.variance + float((one.mean - mean).square().sum()))
        for q, one in zip(shares, again, strict=True)
    )
    lost = float(sum(q * one.rounding for q, one in zip(shares, again, strict=True)))
    if drop.mode == "divide_by_kept":
        return mean_of_kept(mean, float(variance), lost, binomials(update.P, float(update.weights @ chances)))
    return Spread(mean, float(variance) / update.P, lost / update.P, None)


def mean_of_kept(
    mean: Float[Tensor, "S V"], variance: float, lost: float, chance: Float64[np.ndarray, " P"]
) -> Spread:
    """Of a mean over K mixed groups, K = 0, 1, ..., P with these chances; 0 where none is kept."""
    square, kept = float(mean.square().sum()), np.arange(1.0, chance.size)
    some = float(chance[1:].sum())
    # E||g||^2 = sum_k P(k) (V / k + ||m||^2), and E g = P(K > 0) m.
    spread = float(chance[1:] @ (variance / kept)) + some * float(chance[0]) * square
    return Spread(some * mean, spread, lost * float(chance[1:] @ (1 / kept)), None)


def binomials(n: int, p: float) -> Float64[np.ndarray, " n"]:
    """P(K = 0), ..., P(K = n) of n independent trials."""
    chance = np.ones(1)
    for _ in range(n):
        chance = np.append(chance * (1 - p), 0.0) + np.append(0.0, chance * p)
    return chance


def conditional(one: Spread, chance: float) -> Spread:
    """The spread of a mixed group, from that of any group, which is 0 where rewards are equal."""
    if chance == 0:
        return Spread(torch.zeros_like(one.mean), 0.0, 0.0, None)
    mean = one.mean / chance
    second = (one.variance + float(one.mean.square().sum())) / chance
    return Spread(mean, second - float(mean.square().sum()), one.rounding / chance, None)


def listed(update: CoupledUpdate, otherwise: str = "") -> Spread:
    """g_hat of every update there is. Raises NotAffordable where they are too many."""
    if shuffles(update.one.given):
        return in_every_order(update, otherwise)
    why = update.listing_obstacle()
    if why and otherwise:
        why = f"{why}; {otherwise}"
    if why:
        raise NotAffordable(
            f"the second moments of coupled updates of (P, G) = ({update.P}, {update.G}) are summed over all "
            f"updates: {why}; method='sampled' gives them with their intervals on the command line"
        )
    problem = problem_of(update)

    mean, variance, second = update.every.over(lambda walk: spread_over(problem, walk))
    graphs = [p.mdp.graph for p in update.problems]
    n = max(operations(graph, problem.theta, problem.theta_old) for graph in graphs)
    return Spread(mean, variance, UNIT * (n + update.B) * second, None)


def in_every_order(update: CoupledUpdate, otherwise: str) -> Spread:
    """`listed` where micro-batches are cut off a random order: the mean over the orders, with their noise."""
    scale = update.axes.scale
    assert isinstance(scale, micro_batch_token_mean)
    scale.check_rows(update.B)
    found = []
    for order in orders(update.B, scale.rows, otherwise):
        given = dataclasses.replace(update.axes, scale=micro_batch_token_mean(scale.rows, order))
        parts = [(q, dataclasses.replace(problem, given=given)) for q, problem in update.parts]
        found.append(listed(CoupledUpdate(parts), otherwise))
    mean = torch.stack([one.mean for one in found]).mean(dim=0)
    second = float(np.mean([one.variance + float(one.mean.square().sum()) for one in found]))
    return Spread(
        mean, second - float(mean.square().sum()), float(np.mean([s.rounding for s in found])), None
    )


def spread_of_update(
    update: Update, of_prompt: Callable[[PromptProblem, str], tuple[Spread, str, str]]
) -> tuple[Spread, str, str]:
    """(spread, method, what it rests on); `of_prompt` gives those of a group of one prompt."""
    method = update.one.options.method
    parts = update.alike if not update.coupled else group_parts(update)
    if parts is not None and not (update.coupled and method == "groups"):
        found = [of_prompt(problem, method) for _, problem in parts]
        methods = ", ".join(sorted({name for _, name, _ in found}))
        said = "; ".join(filter(None, [update.said, *sorted({why for _, _, why in found})]))
        spreads = [one for one, _, _ in found]
        return (filtered if update.coupled else independent)(update, spreads), methods, said
    pieces = whole_groups(update) if method != "groups" else []
    if pieces:
        found = [spread_of_update(piece, of_prompt) for piece in pieces]
        methods = ", ".join(sorted({name for _, name, _ in found}))
        said = "; ".join(filter(None, [update.said, *sorted({why for _, _, why in found} - {update.said})]))
        return mean_of_pieces([one for one, _, _ in found], update), methods, said
    coupled, reasons = CoupledUpdate(update.parts), []
    for name in ("dynamic_programming", "enumeration") if method == "auto" else (method,):
        if name == "groups":
            continue
        try:
            return by_pairs(coupled, name, of_prompt)
        except ValueError as error:
            reasons.append(str(error))
    why = "; ".join(dict.fromkeys(reasons))
    if method not in ("auto", "groups"):
        raise ValueError(
            f"method = {method!r} gives no second moments of these updates: {why}; give method='groups', "
            f"which sums over all updates"
        )
    return listed(coupled, why), "groups", coupled.assumed("groups")


def by_pairs(
    update: CoupledUpdate, method: str, of_prompt: Callable[[PromptProblem, str], tuple[Spread, str, str]]
) -> tuple[Spread, str, str]:
    """The moments as sums over pairs of rows, or of groups. Raises ValueError where they are none."""
    given = update.one.given
    if isinstance(given, Estimator) and isinstance(given.advantage, UpdateAdvantage):
        why = statistics_spread.obstacle(update, method)
        if not why:
            return statistics_spread.spread(update, method), method, update.said
    elif isinstance(given, Estimator) and isinstance(given.scale, micro_batch_token_mean):
        why = micro_batches.obstacle(update, method)
        if not why:
            return micro_batches.spread(update, method), method, update.said
    else:
        why = token_mean_spread.obstacle(update)
        if not why:
            return token_mean_spread.spread(update, method, of_prompt)
    raise ValueError(why)


def whole_groups(update: Update) -> list[Update]:
    """The micro-batches, where each is an update of whole groups in order; [] elsewhere.

    Nothing couples them then: g_hat is their mean, and each a token mean over all its rows.
    """
    given = update.one.given
    if not isinstance(given, Estimator) or isinstance(given.advantage, UpdateAdvantage):
        return []
    scale, G = given.scale, update.G
    if not isinstance(scale, micro_batch_token_mean) or scale.order != "in_order" or update.drop is not None:
        return []
    if update.B % scale.rows or scale.rows % G:
        return []
    plain, held = dataclasses.replace(given, scale=batch_token_mean), scale.rows // G
    parts = [(q, dataclasses.replace(problem, given=plain)) for q, problem in update.parts]
    if update.each:
        return [Update(parts[first : first + held]) for first in range(0, update.P, held)]
    options = dataclasses.replace(update.one.options, prompts=held)
    return [Update([(q, dataclasses.replace(problem, options=options)) for q, problem in parts])]


def mean_of_pieces(found: list[Spread], update: Update) -> Spread:
    """Of the mean over independent micro-batches; for drawn prompts one that stands for all is given."""
    if not update.each:
        scale = update.axes.scale
        assert isinstance(scale, micro_batch_token_mean)
        one, M = found[0], update.B // scale.rows
        return Spread(one.mean, one.variance / M, one.rounding / M, None)
    M = len(found)
    mean = torch.stack([one.mean for one in found]).mean(dim=0)
    variance, lost = sum(one.variance for one in found), sum(one.rounding for one in found)
    return Spread(mean, variance / M**2, lost / M**2, None)
