"""An update reduces to one row: the others matter only through rewards and lengths, prompt by prompt.

    E[g_hat] = sum_q share_q E_(y ~ prompt q)[sum_t (F+(y) c_t(y; 1) + |F-(y)| c_t(y; -1)) grad log pi(a_t)]
    F+-(o) = P G E[A+- scale | this row has outcome o, prompt q]

with share_q the weight of the prompt, 1/P where each is there once. A filter that drops groups of equal
rewards leaves E[A ...; mixed] as it is where A = 0 there, and multiplies:

    refill            share_q / P(mixed): the direction stays where every group has its own normaliser
    same_prompt       share_q / P(mixed_q)
    divide_by_all     share_q
    divide_by_kept    share_q P E[1 / (1 + K)], K of the other groups kept; over tokens inside the sum
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ticgrpo_theory.estimators.advantage import UpdateAdvantage, reads_group
from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    group_centred_batch_std,
    length_weighted,
    token_whitened,
)
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    kept,
    length_power,
    micro_batch_token_mean,
    pools_lengths,
    token_mean,
)
from ticgrpo_theory.exact.group_sums.lengths import exponential_sum
from ticgrpo_theory.exact.groups.conditional import conditional_advantages
from ticgrpo_theory.exact.groups.outcomes import alone
from ticgrpo_theory.exact.updates.one_row.mixed_groups import mean_of_inverse, mixed, mixed_with
from ticgrpo_theory.exact.updates.one_row.pool import Pool
from ticgrpo_theory.exact.updates.one_row.rows import Rows, lengths_of, rows_of
from ticgrpo_theory.exact.updates.one_row.token_means import TokenMeans
from ticgrpo_theory.exact.updates.one_row.token_statistics import knows_total, statistics_of
from ticgrpo_theory.exact.updates.update import Update

FloatsO = Float64[np.ndarray, " O"]
Signed = tuple[FloatsO, FloatsO]

SUMMED = (batch_standardised, group_centred_batch_std, token_whitened, length_weighted)
"""Advantages of an update whose statistics have sums over the other rows."""


class Share(NamedTuple):
    """What a row of one prompt contributes: its share of the groups, and F+ and F- of every outcome."""

    weight: float
    plus: FloatsO
    minus: FloatsO


def row_obstacle(update: Update) -> str:
    """Why an update does not reduce to one row, or ''."""
    estimator = update.one.estimator
    if isinstance(estimator, Objective | from_loss):
        return "a callable of the whole update may couple its rows in any way"
    if estimator.penalty is not None:
        return "its penalty is a term that does not pass through A"
    if isinstance(estimator.scale, kept):
        return "its scale counts what the correction keeps, which rewards and lengths do not say"
    whole = isinstance(estimator.advantage, UpdateAdvantage)
    if whole and not isinstance(estimator.advantage, SUMMED):
        return f"the others enter {estimator.advantage!r} by more than sums over them"
    if isinstance(estimator.scale, length_power):
        return "its scale adds up powers of the lengths of the others"
    micro = isinstance(estimator.scale, micro_batch_token_mean)
    if whole and micro:
        return "its advantage reads the whole update and its scale a micro-batch"
    if whole and update.drop is not None:
        return "its advantage reads the groups that its filter keeps, whose number varies"
    if micro and update.drop is not None and update.drop.redraws:
        return "the rows of groups that are drawn again share micro-batches with some of their own"
    return ""


def shares(update: Update) -> list[Share]:
    """F+ and F- of every outcome of every prompt. Raises NotAffordable where the sums are too large."""
    rows = rows_of(update)
    found = FORMS[form_of(update)](update, rows)
    weights = [weight * factor for weight, factor in zip(update.weights, factors(update, rows), strict=True)]
    return [Share(float(weight), *signed) for weight, signed in zip(weights, found, strict=True)]


def form_of(update: Update) -> str:
    """Which sum over the other rows it is."""
    estimator = update.axes
    if isinstance(estimator.advantage, UpdateAdvantage):
        return "statistics"
    if isinstance(estimator.scale, micro_batch_token_mean):
        return "whole" if estimator.scale.rows == update.B else "micro-batches"
    if estimator.scale is batch_token_mean:
        return "whole"
    return "group tokens" if estimator.scale is token_mean else "own"


def own(update: Update, rows: list[Rows]) -> list[Signed]:
    """G E[A+- scale | outcome] for scales that read no other row."""
    found = []
    for row in rows:
        case = row.outcomes(row.problem.axes.advantage)
        plus, minus = conditional_advantages(case)
        if update.drop is not None and not reads_group(case.advantage):
            # A is not 0 in groups of equal rewards: those have to be left out by hand.
            chance = mixed_with(case.rewards.prob[None], update.G)[0]
            A = alone(case.advantage, case.rewards.value) * chance
            value = np.where(case.rewards.index >= 0, A[case.rewards.index], 0.0)
            plus, minus = np.maximum(value, 0.0), np.minimum(value, 0.0)
        scale = row.own_scale * row.counted
        found.append((plus * scale, minus * scale))
    return found


def of_tokens(update: Update, rows: list[Rows]) -> list[Signed]:
    """A mean over the tokens of the update."""
    return TokenMeans(update, rows, update.B).over_update()


def of_group_tokens(update: Update, rows: list[Rows]) -> list[Signed]:
    """A mean over the tokens of each group."""
    return TokenMeans(update, rows, update.G).over_group()


def of_micro_batches(update: Update, rows: list[Rows]) -> list[Signed]:
    """A mean over the tokens of each micro-batch."""
    scale = update.axes.scale
    assert isinstance(scale, micro_batch_token_mean)
    scale.check_rows(update.B)
    return TokenMeans(update, rows, scale.rows).over_micro_batches(scale)


def of_statistics(update: Update, rows: list[Rows]) -> list[Signed]:
    """An advantage that reads the whole update, with any scale but that of micro-batches."""
    pool, scale = Pool(update, rows), update.axes.scale
    m, n = pool.value.size, pool.lengths.value.size
    if m == 1:
        return [(np.zeros(row.prob.size), np.zeros(row.prob.size)) for row in rows]
    statistics, whole = statistics_of(pool), scale is batch_token_mean
    if not pools_lengths(scale) or (whole and knows_total(statistics)):
        statistics.check(1)
        tables = statistics.tables(0.0, 0.0)
        return [
            of_outcomes(pool, q, t, (1.0 if whole else row.own_scale) * row.counted)
            for q, (t, row) in enumerate(zip(tables, rows, strict=True))
        ]
    share = update.B if whole else update.G
    positive, least, largest = lengths_of(rows)
    u, weight = exponential_sum(positive + (share - 1) * least, share * largest)
    statistics.check(len(u))
    total = [np.zeros((2, m, n)) for _ in rows]
    for node, w in zip(u, weight, strict=True):
        decay = share * w * np.exp(-node * pool.lengths.value)
        for table, added in zip(total, statistics.tables(node, node if whole else 0.0), strict=True):
            table += added * decay
    return [
        of_outcomes(pool, q, t, 1.0 * row.counted) for q, (t, row) in enumerate(zip(total, rows, strict=True))
    ]


def of_outcomes(pool: Pool, q: int, table: Float64[np.ndarray, "2 m n"], scale: FloatsO) -> Signed:
    """A table over (reward value, length) at every outcome of prompt q that can occur."""
    plus, minus = table.reshape(2, -1)[:, pool.cells[q]] * (scale * (pool.rows[q].prob > 0))
    return plus, minus


FORMS = {
    "own": own,
    "whole": of_tokens,
    "group tokens": of_group_tokens,
    "micro-batches": of_micro_batches,
    "statistics": of_statistics,
}


def factors(update: Update, rows: list[Rows]) -> list[float]:
    """What a filter of groups multiplies the rows of every prompt by."""
    drop = update.drop
    if drop is None or drop.mode == "divide_by_all":
        return [1.0] * len(rows)
    chances = mixed_chances(update, rows)
    if drop.mode == "refill":
        return [1 / float(update.weights @ chances)] * len(rows)
    if drop.mode == "same_prompt":
        return (1 / chances).tolist()
    if form_of(update) in ("whole", "statistics"):
        return [1.0] * len(rows)
    others = [np.delete(chances, q) for q in range(len(rows))]
    if not update.each:
        others = [np.full(update.P - 1, update.weights @ chances)] * len(rows)
    return [update.P * mean_of_inverse(p) for p in others]


def mixed_chances(update: Update, rows: list[Rows]) -> Float64[np.ndarray, " Q"]:
    """P(unequal rewards) of a group of every prompt."""
    cases = [row.outcomes(row.problem.axes.advantage) for row in rows]
    return np.array([mixed(case.rewards.prob[None], update.G)[0] for case in cases])
