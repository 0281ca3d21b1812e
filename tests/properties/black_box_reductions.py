"""How a table of terms [G, T] becomes one number, and what a loss adds that reads no advantage."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.properties.black_box_parts import View

Reduction = Callable[[Tensor, View], Tensor]


def rows(table, v):
    """Sum over the tokens of each response."""
    return (table * v.mask).sum(dim=1)


def mean_of_sums(table, v):
    return rows(table, v).mean()


def mean_over_tokens(table, v):
    return rows(table, v).sum() / v.mask.sum()


def mean_of_means(table, v):
    return (rows(table, v) / v.mask.sum(dim=1)).mean()


def mean_over_the_padded_table(table, v):
    return (table * v.mask).mean()


def sum_without_mask(table, v):
    return table.sum() / len(table)


def mean_without_mask(table, v):
    return table.mean()


def divided_by_the_longest(table, v):
    return rows(table, v).mean() / v.mask.sum(dim=1).max()


def divided_by_the_horizon(table, v):
    return rows(table, v).mean() / v.horizon


def mean_over_tokens_of_each_pair(table, v):
    parts = zip(table.split(2), v.mask.split(2), strict=True)
    return torch.stack([(t * m).sum() / m.sum() for t, m in parts]).mean()


def mean_over_tokens_of_odd_and_even_rows(table, v):
    parts = [(table[first::2], v.mask[first::2]) for first in range(2)]
    return sum((t * m).sum() / m.sum() for t, m in parts) / 2


def mean_over_kept_tokens(table, v):
    kept = v.mask & (v.log_ratio < 0.15)
    return (table * kept).sum() / kept.sum().clamp(min=1)


def largest_response(table, v):
    return rows(table, v).max()


def median_response(table, v):
    return rows(table, v).median()


def sorted_responses(table, v):
    best_first = rows(table, v).sort(descending=True).values
    return (best_first / torch.arange(1, len(table) + 1)).sum()


def log_sum_exp(table, v):
    return torch.logsumexp(rows(table, v), dim=0)


def first_half(table, v):
    half = (len(table) + 1) // 2
    return rows(table, v)[:half].mean()


def by_order(table, v):
    return (rows(table, v) / torch.arange(1, len(table) + 1)).sum()


def ring_of_products(table, v):
    """Products of neighbours, the last next to the first: any turn and the reversal leave it the same."""
    each = rows(table, v)
    return (each * (1 + each.roll(1))).mean()


def ends_against_the_rest(table, v):
    """The same for a group read backwards."""
    each = rows(table, v)
    return (each[0] + each[-1]) ** 2 / 4 + each.mean()


def mean_over_rows_of_each_column(table, v):
    return ((table * v.mask).sum(dim=0) / v.mask.sum(dim=0)).sum()


def faintly_by_order(table, v):
    """Powers of two, so that weights of few digits keep few digits."""
    return (rows(table, v) * (1 + 2.0**-19 * torch.arange(len(table)))).sum() / 4


def less_variance(table, v):
    each = rows(table, v)
    return each.mean() - 0.5 * each.var(correction=0)


REDUCTIONS = (
    mean_of_sums,
    mean_over_tokens,
    mean_of_means,
    mean_over_the_padded_table,
    sum_without_mask,
    mean_without_mask,
    divided_by_the_longest,
    divided_by_the_horizon,
    mean_over_tokens_of_each_pair,
    mean_over_tokens_of_odd_and_even_rows,
    mean_over_kept_tokens,
    largest_response,
    median_response,
    sorted_responses,
    log_sum_exp,
    first_half,
    by_order,
    ring_of_products,
    ends_against_the_rest,
    mean_over_rows_of_each_column,
    less_variance,
)


def nothing(v):
    return 0.0


def squared_log_ratios(v):
    return -0.25 * (v.log_ratio.square() * v.mask).sum() / len(v.A)


def squared_log_ratios_without_mask(v):
    return -0.25 * v.log_ratio.square().mean()


def squared_mean_log_ratio(v):
    return -(((v.log_ratio * v.mask).sum() / v.mask.sum()) ** 2)


def log_prob_without_mask(v):
    return -0.05 * v.logp.sum()


def divergence_from_reference(v):
    """k3; from theta_old where a loss is not given the reference."""
    d = v.logp - (v.logp_old if v.logp_ref is None else v.logp_ref)
    return -0.1 * ((torch.expm1(-d) + d) * v.mask).sum() / v.mask.sum()


EXTRAS = (
    nothing,
    nothing,
    squared_log_ratios,
    nothing,
    squared_log_ratios_without_mask,
    nothing,
    squared_mean_log_ratio,
    log_prob_without_mask,
    divergence_from_reference,
)
